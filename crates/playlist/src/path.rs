//! The URLs below `/s/{stream}/`: written and read in this one place.
//!
//! ```text
//! index.m3u8                              the multivariant playlist
//! {rendition}.m3u8                        a media playlist
//! {rendition}/init-{generation}-{version}.mp4   the init segment of a catalog version
//! {rendition}/s{segment}.m4s              a segment, by media sequence number
//! {rendition}/p{number}.m4s               a part, by record number
//! start                                   what a receiver begins with, framed
//! records                                 records of one rendition from one on, framed
//! feed                                    the feed of one rendition, framed
//! ```
//!
//! A part is named by its record's number and not by segment and index, because a preload hint must name the next
//! part before anybody knows whether it begins a segment. A catalog's versions begin anew with each generation,
//! and what a URL names never changes: so an init segment's has both.

use core::fmt;

use millstream_model::StreamId;

/// What all paths of media begin with.
pub const PREFIX: &str = "/s/";

/// One resource of a stream. Its text form is the path below `/s/{stream}/`; there is one spelling for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path<'a> {
    /// The multivariant playlist.
    Multivariant,
    /// A rendition's media playlist.
    Media {
        /// The rendition's name.
        rendition: &'a str,
    },
    /// An init segment.
    Init {
        /// The rendition's name.
        rendition: &'a str,
        /// The catalog's generation.
        generation: u32,
        /// The catalog's version.
        version: u32,
    },
    /// A segment: its parts, one after another.
    Segment {
        /// The rendition's name.
        rendition: &'a str,
        /// The media sequence number.
        segment: u64,
    },
    /// A part.
    Part {
        /// The rendition's name.
        rendition: &'a str,
        /// The record's number.
        number: u64,
    },
    /// Delegation, catalog and the newest records.
    Start,
    /// A rendition's records from one on, waited for.
    Records,
    /// A rendition's records and pieces as they come.
    Feed,
}

impl<'a> Path<'a> {
    /// Reads the path of a URL, from `/s/` on.
    #[must_use]
    pub fn of_url(path: &'a str) -> Option<(StreamId, Self)> {
        let (stream, below) = path.strip_prefix(PREFIX)?.split_once('/')?;
        Some((StreamId::new(stream).ok()?, Self::parse(below)?))
    }

    /// Reads what follows `/s/{stream}/`.
    #[must_use]
    pub fn parse(below: &'a str) -> Option<Self> {
        match below {
            "index.m3u8" => return Some(Self::Multivariant),
            "start" => return Some(Self::Start),
            "records" => return Some(Self::Records),
            "feed" => return Some(Self::Feed),
            _ => {}
        }
        let Some((rendition, file)) = below.split_once('/') else {
            let rendition = slug(below.strip_suffix(".m3u8")?)?;
            return Some(Self::Media { rendition });
        };
        let rendition = slug(rendition)?;
        if let Some(name) = file.strip_suffix(".mp4") {
            let (generation, version) = name.strip_prefix("init-")?.split_once('-')?;
            let generation = u32::try_from(number(generation)?).ok()?;
            let version = u32::try_from(number(version)?).ok()?;
            return Some(Self::Init { rendition, generation, version });
        }
        let name = file.strip_suffix(".m4s")?;
        if let Some(segment) = name.strip_prefix('s') {
            return Some(Self::Segment { rendition, segment: number(segment)? });
        }
        Some(Self::Part { rendition, number: number(name.strip_prefix('p')?)? })
    }

    /// The rendition's name, where the resource belongs to one.
    #[must_use]
    pub const fn rendition(&self) -> Option<&'a str> {
        match self {
            Self::Media { rendition }
            | Self::Init { rendition, .. }
            | Self::Segment { rendition, .. }
            | Self::Part { rendition, .. } => Some(rendition),
            Self::Multivariant | Self::Start | Self::Records | Self::Feed => None,
        }
    }

    /// The path of a URL: what [`Self::of_url`] reads.
    #[must_use]
    pub fn url(&self, stream: &StreamId) -> alloc::string::String {
        alloc::format!("{PREFIX}{stream}/{self}")
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str("index.m3u8"),
            Self::Media { rendition } => write!(f, "{rendition}.m3u8"),
            Self::Init { rendition, generation, version } => {
                write!(f, "{rendition}/init-{generation}-{version}.mp4")
            }
            Self::Segment { rendition, segment } => write!(f, "{rendition}/s{segment}.m4s"),
            Self::Part { rendition, number } => write!(f, "{rendition}/p{number}.m4s"),
            Self::Start => f.write_str("start"),
            Self::Records => f.write_str("records"),
            Self::Feed => f.write_str("feed"),
        }
    }
}

/// Rendition names follow the rules of stream names.
fn slug(text: &str) -> Option<&str> {
    StreamId::new(text).ok().map(|_| text)
}

/// Decimal digits without leading zeros, so that a cache never holds one thing under two names.
pub(crate) fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn every_path_is_read_as_it_was_written() {
        let paths = [
            Path::Multivariant,
            Path::Media { rendition: "video" },
            Path::Init { rendition: "video", generation: 2, version: 7 },
            Path::Segment { rendition: "audio-en", segment: u64::MAX },
            Path::Part { rendition: "v", number: 0 },
            Path::Start,
            Path::Records,
            Path::Feed,
        ];
        let stream = StreamId::new("demo").unwrap();
        for path in paths {
            assert_eq!(Path::parse(&path.to_string()), Some(path));
            assert_eq!(Path::of_url(&path.url(&stream)), Some((stream.clone(), path)));
        }
    }

    #[test]
    fn a_resource_has_one_spelling() {
        let others = [
            "",
            "/",
            "index",
            "Index.m3u8",
            "feed/",
            "start?",
            "video",
            ".m3u8",
            "a b.m3u8",
            "-v.m3u8",
            "video/",
            "video/s.m4s",
            "video/s01.m4s",
            "video/s+1.m4s",
            "video/s-1.m4s",
            "video/x1.m4s",
            "video/p1.mp4",
            "video/p1.m4s/",
            "video//p1.m4s",
            "../video/p1.m4s",
            "video/p1 .m4s",
            "video/p18446744073709551616.m4s",
            "video/init-1.mp4",
            "video/init-1-4294967296.mp4",
            "video/init-01-1.mp4",
            "video/init-1-1.m4s",
            "video/p\u{663}.m4s",
        ];
        for path in others {
            assert_eq!(Path::parse(path), None, "{path:?}");
        }
        for url in ["/s/demo", "/s//index.m3u8", "/s/De/index.m3u8", "/t/demo/start", "s/demo/start"] {
            assert_eq!(Path::of_url(url), None, "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn what_can_be_read_is_spelt_as_it_is_written(text in "[a-z/.0-9-]{0,24}|video/(s|p|init-)[0-9-]{1,4}\\.m(4s|p4)") {
            if let Some(path) = Path::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
