//! Playlists and URLs.

use millstream_playlist::{
    check::{self, Playlist},
    path::Path,
    query,
    reload::{Head, Reload, Verdict},
};
use millstream_swarm::Resource;

/// Text, and what a second load of it may be, behind a zero byte.
pub(crate) fn playlist(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (before, after) = text.split_once('\0').unwrap_or((&text, &text));
    let lines = text.lines().count() + 1;
    let told = check::media(before);
    // A playlist that keeps the rules keeps them beside itself too.
    if told.is_empty() {
        assert_eq!(check::succession(before, before), Vec::new(), "{before}");
        assert!(check::multivariant(before).iter().all(|violation| !violation.to_string().is_empty()));
    }
    let playlist = Playlist::parse(before);
    let parts: usize = playlist.segments.iter().map(|segment| segment.parts.len()).sum();
    assert!(playlist.segments.len() + parts <= 2 * lines, "nothing is made of nothing");
    let _ = (playlist.head(), playlist.whole_micros());
    let asked = Reload { segment: lines as u64, part: Some(1) };
    for told in [
        told,
        check::multivariant(before),
        check::succession(before, after),
        check::answer(before, asked),
        check::together(&[before, after]),
    ] {
        assert!(told.len() <= 40 * lines + 100, "{} violations in {lines} lines", told.len());
    }
}

pub(crate) fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let read = Path::of_url(path);
    if let Some((stream, read)) = &read {
        assert_eq!(read.url(stream), path, "a thing has one spelling");
        assert_eq!(Path::parse(&read.to_string()), Some(*read));
    }
    let reload = Reload::of_query(query);
    match Resource::of_url(text) {
        Some(Resource::Playlist { at, .. }) => assert_eq!(Ok(at), reload),
        Some(_) => assert!(read.is_some()),
        None => {}
    }
    if let Some(value) = query::value(query, "_HLS_msn") {
        assert!(query.contains(value));
    }
    if let Ok(Some(reload)) = reload {
        judged(reload);
    }
}

/// As the head moves on, an answer that was there stays there.
fn judged(reload: Reload) {
    let mut ready = false;
    for (segment, part) in (0..4).map(|n| (reload.segment.saturating_add(n / 2), n % 2)) {
        let part = u16::try_from(part * 300).unwrap();
        let verdict = reload.judge(Some(Head { segment, part }), 250, false);
        assert!(!ready || verdict == Verdict::Ready, "{reload:?}");
        ready |= verdict == Verdict::Ready;
    }
    assert_eq!(reload.judge(None, 250, true), Verdict::Ready);
    assert_ne!(reload.judge(None, 0, false), Verdict::Ready);
}
