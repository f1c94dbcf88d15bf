//! What an event says. `docs/operating/events.md` is the same in words: the two change together.

use millstream_model::{PublicKey, StreamId, WallTime};
use serde::{Deserialize, Serialize};

/// Something that happened to a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Its name; no other event, of whatever packager, has it. The same each time that it is sent.
    pub id: String,
    /// When it happened, by this machine's clock.
    pub time: WallTime,
    /// The packager that says so.
    pub packager: PublicKey,
    /// The stream.
    pub stream: StreamId,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", content = "fields", rename_all = "snake_case")]
pub enum What {
    /// A publisher was let in: the first, or one that comes back.
    Publish {
        /// Which way it came in, and from where.
        source: String,
    },
    /// A publisher is gone. The stream waits for it, or ends.
    Unpublish {
        /// Which way it came in, and from where.
        source: String,
        /// Why.
        reason: String,
        /// How long it published, in milliseconds.
        duration_ms: u64,
    },
    /// The stream's first playlists are there: it can be watched.
    Ready {
        /// What can be watched.
        renditions: Vec<Rendition>,
    },
    /// The stream is over.
    Ended {
        /// From its beginning, absences of its publisher included, in milliseconds.
        duration_ms: u64,
    },
    /// Something is not as it should be.
    Error {
        /// What it is about, for programs.
        code: Code,
        /// What is wrong, for people.
        message: String,
        /// What would be right, where somebody can do something about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        /// What the publisher's media was bent around ([`Code::Media`]).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        complaints: Vec<Complaints>,
    },
    /// A recording is whole.
    RecordingReady {
        /// Its name or address, as its reader asks for it.
        recording: String,
        /// Its media, in milliseconds.
        duration_ms: u64,
        /// Its bytes.
        bytes: u64,
        /// What it lost on the way, in milliseconds of media; 0 when nothing.
        lost_ms: u64,
    },
}

/// An event's kind, as it is named in settings and metrics, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`What::Publish`].
    Publish,
    /// [`What::Unpublish`].
    Unpublish,
    /// [`What::Ready`].
    Ready,
    /// [`What::Ended`].
    Ended,
    /// [`What::Error`].
    Error,
    /// [`What::RecordingReady`].
    RecordingReady,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Somebody with a good key may not publish.
    Refused,
    /// A publisher was cut off: silent, broken, or a codec that is not taken.
    CutOff,
    /// The publisher's media had to be bent; summed up.
    Media,
    /// A publisher was cut off, for it sends more than its stream takes.
    Limit,
    /// Keyframes are too far apart: viewers join late.
    LongGop,
    /// Not all renditions are made that were wanted: the machine has no cores for them, or cannot read the pictures.
    Renditions,
}

/// Complaints of one kind about a publisher's media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Complaints {
    /// Their kind, for programs.
    pub kind: &'static str,
    /// How many since they were told last.
    pub count: u64,
    /// The last of them, in words.
    pub last: String,
}

/// One encoding that can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendition {
    /// Its name, as playlists have it.
    pub name: String,
    /// As in RFC 6381.
    pub codecs: String,
    /// Bits a second.
    pub bandwidth: u64,
}

/// An event as one receiver gets it.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
}

impl Event {
    /// As JSON, on one line. `missed` are events that this receiver did not get before it.
    #[must_use]
    pub fn body(&self, missed: u64) -> String {
        // Strings and numbers alone: there is nothing in it that JSON could not hold.
        serde_json::to_string(&Body { event: self, missed }).unwrap_or_default()
    }
}

impl What {
    /// An error that speaks for itself.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::Error { code, message: message.into(), advice: None, complaints: Vec::new() }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Publish { .. } => Kind::Publish,
            Self::Unpublish { .. } => Kind::Unpublish,
            Self::Ready { .. } => Kind::Ready,
            Self::Ended { .. } => Kind::Ended,
            Self::Error { .. } => Kind::Error,
            Self::RecordingReady { .. } => Kind::RecordingReady,
        }
    }
}

impl Kind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
            Self::Ready => "ready",
            Self::Ended => "ended",
            Self::Error => "error",
            Self::RecordingReady => "recording_ready",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::show;

    fn event(what: What) -> Event {
        Event {
            id: "evt_1".into(),
            time: show::NOW,
            packager: show::root_key(),
            stream: show::stream(),
            what,
        }
    }

    fn body(what: What, missed: u64) -> Value {
        serde_json::from_str(&event(what).body(missed)).unwrap()
    }

    #[test]
    fn an_event_is_what_the_guide_says() {
        let what = What::Publish { source: "rtmp 192.0.2.1:5".into() };
        let expected = json!({
            "id": "evt_1", "time": 1_795_335_420_000_u64, "packager": show::root_key(), "stream": "demo",
            "kind": "publish", "fields": { "source": "rtmp 192.0.2.1:5" }
        });
        assert_eq!(body(what.clone(), 0), expected);
        assert_eq!(body(what, 3)["missed"], 3);
        let error = body(What::error(Code::CutOff, "a \"name\"\nof theirs"), 0);
        assert_eq!(error["fields"], json!({ "code": "cut_off", "message": "a \"name\"\nof theirs" }));
    }

    #[test]
    fn a_line_stays_a_line_whatever_a_publisher_says() {
        assert!(!event(What::error(Code::Media, "a\nb\u{1b}[2J")).body(0).contains(['\n', '\u{1b}']));
    }

    #[test]
    fn kinds_are_named_alike_everywhere() {
        let all =
            [Kind::Publish, Kind::Unpublish, Kind::Ready, Kind::Ended, Kind::Error, Kind::RecordingReady];
        for kind in all {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let what = What::RecordingReady { recording: "r".into(), duration_ms: 1, bytes: 2, lost_ms: 0 };
        assert_eq!(body(what, 0)["kind"], Kind::RecordingReady.name());
    }
}
