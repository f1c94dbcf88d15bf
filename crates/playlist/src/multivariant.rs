//! The multivariant playlist: which renditions there are and which go together (RFC 8216bis §4.4.6).

use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;

use millstream_wire::media::{Catalog, Media, Rendition};

use crate::path::Path;

/// The multivariant playlist of `catalog`.
///
/// Each video rendition is a variant. Audio stands in groups of its own: a catalog's group is one soundtrack in
/// several qualities, HLS's is one quality of all soundtracks, so the first qualities of all make HLS's first group
/// and so on, and each video comes with each of these. Without video, each audio rendition is a variant.
#[must_use]
pub fn multivariant(catalog: &Catalog) -> String {
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    let video: Vec<&Rendition> = catalog.renditions.iter().filter(|rendition| is_video(rendition)).collect();
    if video.is_empty() {
        for audio in &catalog.renditions {
            variant(&mut out, audio, None);
        }
        return out;
    }
    let soundtracks = soundtracks(catalog);
    let qualities = soundtracks.iter().map(|(_, renditions)| renditions.len()).max().unwrap_or(0);
    let groups: Vec<Group<'_>> =
        (0..qualities).map(|quality| Group::of(&soundtracks, quality, qualities)).collect();
    for group in &groups {
        group.write(&mut out);
    }
    for rendition in video {
        if groups.is_empty() {
            variant(&mut out, rendition, None);
        }
        for group in &groups {
            variant(&mut out, rendition, Some(group));
        }
    }
    out
}

const fn is_video(rendition: &Rendition) -> bool {
    matches!(rendition.media, Media::Video { .. })
}

/// The catalog's audio groups in the order they first appear, each from the lowest bandwidth up.
fn soundtracks(catalog: &Catalog) -> Vec<(&str, Vec<&Rendition>)> {
    let mut soundtracks: Vec<(&str, Vec<&Rendition>)> = Vec::new();
    for audio in catalog.renditions.iter().filter(|rendition| !is_video(rendition)) {
        match soundtracks.iter_mut().find(|(group, _)| *group == audio.group) {
            Some((_, renditions)) => renditions.push(audio),
            None => soundtracks.push((&audio.group, alloc::vec![audio])),
        }
    }
    for (_, renditions) in &mut soundtracks {
        renditions.sort_by_key(|rendition| rendition.bandwidth);
    }
    soundtracks
}

/// One quality of every soundtrack.
struct Group<'a> {
    id: String,
    members: Vec<(&'a str, &'a Rendition)>,
}

impl<'a> Group<'a> {
    fn of(soundtracks: &[(&'a str, Vec<&'a Rendition>)], quality: usize, qualities: usize) -> Self {
        let id = if qualities == 1 { String::from("audio") } else { alloc::format!("audio-{quality}") };
        let members = soundtracks
            .iter()
            .filter_map(|(name, renditions)| {
                Some((*name, *renditions.get(quality).or_else(|| renditions.last())?))
            })
            .collect();
        Self { id, members }
    }

    fn write(&self, out: &mut String) {
        for (index, (name, audio)) in self.members.iter().enumerate() {
            let default = if index == 0 { "YES" } else { "NO" };
            let uri = Path::Media { rendition: &audio.name };
            let _ = write!(
                out,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{}\",NAME=\"{name}\",DEFAULT={default},AUTOSELECT=YES",
                self.id
            );
            if let Media::Audio { channels, .. } = audio.media {
                let _ = write!(out, ",CHANNELS=\"{channels}\"");
            }
            let _ = writeln!(out, ",URI=\"{uri}\"");
        }
    }

    /// The highest rate of any member: what §4.4.6.2 counts towards a variant's.
    fn bandwidth(&self) -> u64 {
        self.members.iter().map(|(_, audio)| audio.bandwidth.0).max().unwrap_or(0)
    }
}

fn variant(out: &mut String, rendition: &Rendition, group: Option<&Group<'_>>) {
    let bandwidth = rendition.bandwidth.0.saturating_add(group.map_or(0, Group::bandwidth));
    let mut codecs: Vec<&str> = alloc::vec![&rendition.codecs];
    for (_, audio) in group.iter().flat_map(|group| &group.members) {
        if !codecs.contains(&audio.codecs.as_str()) {
            codecs.push(&audio.codecs);
        }
    }
    let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{}\"", codecs.join(","));
    if let Media::Video { width, height, frame_rate_milli } = rendition.media {
        if width > 0 && height > 0 {
            let _ = write!(out, ",RESOLUTION={width}x{height}");
        }
        if frame_rate_milli > 0 {
            let _ = write!(out, ",FRAME-RATE={}.{:03}", frame_rate_milli / 1_000, frame_rate_milli % 1_000);
        }
    }
    if let Some(group) = group {
        let _ = write!(out, ",AUDIO=\"{}\"", group.id);
    }
    let uri = Path::Media { rendition: &rendition.name };
    let _ = writeln!(out, "\n{uri}");
}
