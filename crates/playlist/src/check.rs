//! The rules of RFC 8216bis (draft 22) that our playlists have to keep, for tests here and end to end.
//!
//! [`Rule`] is the list, by section. [`media`] and [`multivariant`] look at one playlist, [`succession`] at two loads
//! of the same, [`answer`] at what a blocking reload brought, [`together`] at all media playlists of a stream.
//! Written against the RFC's text and not against what writes our playlists: it parses on its own.

mod master;
mod parse;
mod rules;

use alloc::{string::String, vec::Vec};
use core::fmt;

pub use self::{
    parse::{Part, Playlist, Segment},
    rules::{answer, media, succession, together},
};
pub use master::multivariant;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident $section:literal $text:literal,)*) => {
        /// A rule of the RFC (or, where said, one that follows from it).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $text] $name,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Where it stands.
            #[must_use]
            pub const fn section(self) -> &'static str {
                match self { $(Self::$name => $section,)* }
            }

            /// What it says.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rules! {
    // One media playlist
    ParentIsItsParts "3.1" "a segment lasts as long as its parts together",
    Lines "4.1" "each line is a known tag, a comment or a URI; attribute lists are well-formed, without a name twice",
    Header "4.4.1.1" "the first line is #EXTM3U",
    Version "4.4.1.2" "EXT-X-VERSION stands once and is what EXT-X-MAP needs: 6, or EXT-X-SKIP: 9, and no more than is needed",
    NotBothKinds "4.4.4" "tags of multivariant playlists do not stand in media playlists, nor the other way round",
    Once "4.4.3" "tags about the whole playlist stand at most once",
    IndependentSegments "4.4.2.1" "EXT-X-INDEPENDENT-SEGMENTS is only claimed where each segment begins with an independent part",
    TargetDuration "4.4.3.1" "EXT-X-TARGETDURATION is there, and each segment's duration, rounded, keeps it",
    MediaSequence "4.4.3.2" "EXT-X-MEDIA-SEQUENCE comes before the first segment",
    DiscontinuitySequence "4.4.3.3" "EXT-X-DISCONTINUITY-SEQUENCE comes before the first segment and discontinuity",
    PartTarget "4.4.3.7" "EXT-X-PART-INF with a PART-TARGET is there when there are parts",
    HoldBack "4.4.3.8" "HOLD-BACK is at least three target durations",
    PartHoldBack "4.4.3.8" "PART-HOLD-BACK is there with EXT-X-PART-INF and is at least three part targets",
    Skip "4.4.3.8" "CAN-SKIP-UNTIL is at least six target durations, and EXT-X-SKIP leaves no younger segment out",
    Duration "4.4.4.1" "each segment has an EXTINF with a duration above zero, in decimals",
    Map "4.4.4.5" "an EXT-X-MAP applies to each segment",
    Date "4.4.4.6" "EXT-X-PROGRAM-DATE-TIME is ISO 8601 with milliseconds and zone",
    TagsBeforeParts "4.4.4.9" "a segment's discontinuity, map and date come before its first part",
    PartMaximum "4.4.4.9" "no part is longer than the part target",
    PartMinimum "4.4.4.9" "a part lasts 85 % of the part target, unless it is independent or its segment's last",
    Hint "4.4.5.3" "there is a preload hint for the next part exactly while the playlist goes on",
    HintOnce "6.2.6" "one hint of a type, and for nothing that is listed",
    RenditionReport "4.4.5.4" "a rendition report has a relative URI, LAST-MSN and LAST-PART",
    DatesFollow "6.2.1" "dates go with durations, but for discontinuities",
    DateAtDiscontinuity "6.2.1" "a segment after a discontinuity has a date when others have",
    NoPlaylistType "6.2.2" "a live playlist has no EXT-X-PLAYLIST-TYPE",
    OldParts "6.2.2" "parts more than three target durations from the end are not listed",
    LongEnough "6.2.2" "a playlist that segments were removed from lasts three target durations",
    // Two loads
    TargetStays "6.2.1" "EXT-X-TARGETDURATION does not change",
    SegmentsStay "6.2.1" "what is said of a segment or part does not change",
    EndStays "6.2.1" "nothing changes after EXT-X-ENDLIST",
    SequenceRises "6.2.2" "EXT-X-MEDIA-SEQUENCE does not decrease, and the end of the playlist does not move back",
    DiscontinuityStays "6.2.2" "EXT-X-DISCONTINUITY-SEQUENCE does not decrease, and no segment's number changes",
    HintComesTrue "4.4.5.3" "the part that was hinted is the next one listed",
    // A blocking reload
    Blocked "6.2.5.2" "the answer holds the part or segment asked for, or a later one",
    // All playlists of a stream
    SameTarget "6.2.4" "all media playlists have the same target duration",
    SameControl "6.2.4" "all media playlists have the same EXT-X-SERVER-CONTROL",
    DatesInAll "6.2.4" "if one media playlist has dates, all have",
    SameDiscontinuity "6.2.4" "matching content has matching discontinuity sequence numbers",
    // The multivariant playlist
    GroupMember "4.4.6.1" "EXT-X-MEDIA has TYPE, GROUP-ID and NAME; a name stands once in a group, and one is the default",
    GroupsAlike "4.4.6.1.1" "groups of one type have the same members",
    Variant "4.4.6.2" "EXT-X-STREAM-INF has BANDWIDTH and CODECS and is followed by a URI",
    Resolution "4.4.6.2" "a variant with video has a RESOLUTION; FRAME-RATE has three decimals",
    GroupExists "4.4.6.2" "a variant's AUDIO names a group that exists",
}

/// A rule that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What stands there instead.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "§{}: {}: {}", self.rule.section(), self.rule.text(), self.detail)
    }
}

/// Collects violations.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: Rule, detail: impl Into<String>) {
        self.0.push(Violation { rule, detail: detail.into() });
    }

    fn unless(&mut self, kept: bool, rule: Rule, detail: impl FnOnce() -> String) {
        if !kept {
            self.add(rule, detail());
        }
    }
}
