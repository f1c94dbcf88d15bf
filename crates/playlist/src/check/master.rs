//! The rules over multivariant playlists.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::{Findings, Rule, Violation, parse::attributes};

type Attributes = BTreeMap<String, String>;

/// Looks at a multivariant playlist.
#[must_use]
pub fn multivariant(text: &str) -> Vec<Violation> {
    let mut findings = Findings::default();
    if text.lines().next() != Some("#EXTM3U") {
        findings.add(Rule::Header, format!("{:?}", text.lines().next()));
    }
    let (mut members, mut variants) = (Vec::new(), Vec::new());
    let mut awaits_uri = false;
    for line in text.lines().skip(1) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if awaits_uri && (line.starts_with('#') || line.is_empty()) {
            findings.add(Rule::Variant, line);
        }
        let was_awaited = core::mem::take(&mut awaits_uri);
        match name {
            "#EXT-X-MEDIA" => read(line, value, &mut members, &mut findings),
            "#EXT-X-STREAM-INF" => {
                read(line, value, &mut variants, &mut findings);
                awaits_uri = true;
            }
            "#EXT-X-VERSION" => findings.unless(value == "6", Rule::Version, || line.to_string()),
            "#EXTINF" | "#EXT-X-TARGETDURATION" | "#EXT-X-MEDIA-SEQUENCE" | "#EXT-X-MAP" | "#EXT-X-PART" => {
                findings.add(Rule::NotBothKinds, line);
            }
            _ if line.starts_with("#EXT") => findings.add(Rule::Lines, line),
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => findings.unless(was_awaited, Rule::Variant, || line.to_string()),
        }
    }
    findings.unless(!awaits_uri, Rule::Variant, || String::from("no URI at the end"));
    findings.unless(!variants.is_empty(), Rule::Variant, || String::from("none"));
    groups(&members, &mut findings);
    for variant in &variants {
        check_variant(variant, &members, &mut findings);
    }
    findings.0
}

fn read(line: &str, value: &str, into: &mut Vec<Attributes>, findings: &mut Findings) {
    match attributes(value) {
        Some(attributes) => into.push(attributes),
        None => findings.add(Rule::Lines, line),
    }
}

fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).map(String::as_str)
}

fn groups(members: &[Attributes], findings: &mut Findings) {
    let mut groups: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut defaults: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for member in members {
        let (Some(kind), Some(group), Some(name)) =
            (text(member, "TYPE"), text(member, "GROUP-ID"), text(member, "NAME"))
        else {
            findings.add(Rule::GroupMember, format!("{member:?}"));
            continue;
        };
        let fresh = groups.entry((kind, group)).or_default().insert(name);
        findings.unless(fresh, Rule::GroupMember, || format!("{name} twice in {group}"));
        let is_default = text(member, "DEFAULT") == Some("YES");
        *defaults.entry((kind, group)).or_default() += usize::from(is_default);
    }
    for (group, count) in defaults {
        findings.unless(count == 1, Rule::GroupMember, || format!("{count} defaults in {group:?}"));
    }
    for (&(kind, group), names) in &groups {
        let alike = groups.iter().all(|(&(other, _), others)| other != kind || others == names);
        findings.unless(alike, Rule::GroupsAlike, || format!("{group}: {names:?}"));
    }
}

fn check_variant(variant: &Attributes, members: &[Attributes], findings: &mut Findings) {
    let bandwidth = text(variant, "BANDWIDTH").and_then(|value| value.parse::<u64>().ok());
    let codecs = text(variant, "CODECS").filter(|codecs| !codecs.is_empty());
    let complete = bandwidth.is_some_and(|bandwidth| bandwidth > 0) && codecs.is_some();
    findings.unless(complete, Rule::Variant, || format!("{variant:?}"));
    let is_sound = |codec: &str| codec == "opus" || codec.starts_with("mp4a");
    let has_video = codecs.is_some_and(|codecs| codecs.split(',').any(|codec| !is_sound(codec)));
    let sized = text(variant, "RESOLUTION").and_then(|size| size.split_once('x')).is_some();
    let rate = text(variant, "FRAME-RATE")
        .is_none_or(|rate| rate.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 3));
    findings.unless((sized || !has_video) && rate, Rule::Resolution, || format!("{variant:?}"));
    if let Some(group) = text(variant, "AUDIO") {
        let exists = members
            .iter()
            .any(|member| text(member, "TYPE") == Some("AUDIO") && text(member, "GROUP-ID") == Some(group));
        findings.unless(exists, Rule::GroupExists, || group.to_string());
    }
}
