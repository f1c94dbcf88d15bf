//! Which tracks are taken, and what stands between a demuxer's pad and their samples.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use millstream_segmenter::TrackKind;

use super::{End, Error, Output, element, sink};

/// What the tracks of one media are.
#[derive(Debug)]
pub(super) struct Tracks {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    end: Arc<End>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    video: bool,
    audio: bool,
    untaken: Vec<String>,
}

/// What makes samples of a codec: elements, and the form in which they give it.
struct Way {
    kind: TrackKind,
    elements: &'static [&'static str],
    form: &'static str,
}

const H264: &str = "video/x-h264,stream-format=avc,alignment=au";
const AAC: &str = "audio/mpeg,mpegversion=4,stream-format=raw";

impl Tracks {
    pub(super) fn new(pipeline: &gst::Pipeline, end: Arc<End>) -> Self {
        Self { pipeline: pipeline.downgrade(), end, seen: Mutex::default() }
    }

    /// Whether a camera is to send the track with these capabilities. Says what is not taken.
    pub(super) fn wants(&self, caps: &gst::Caps) -> bool {
        match way(caps) {
            Ok(way) => !self.has(way.kind),
            Err(untaken) => {
                self.leave(untaken);
                false
            }
        }
    }

    /// A demuxer found a track.
    pub(super) fn add(&self, pad: &gst::Pad) {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let way = match way(&caps) {
            Ok(way) if self.take(way.kind) => Some(way),
            Ok(_) => None,
            Err(untaken) => {
                self.leave(untaken);
                None
            }
        };
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let linked = match way {
            Some(way) => self.link(&pipeline, pad, &way),
            None => away(&pipeline, pad),
        };
        if let Err(error) = linked {
            self.end.set(Err(error));
        }
    }

    /// No more tracks will come.
    pub(super) fn complete(&self) {
        if let Some(error) = self.none_taken() {
            self.end.set(Err(error));
        }
    }

    /// Nothing more goes into the demuxer.
    pub(super) fn end_of_bytes(&self) {
        let seen = self.seen();
        if !seen.video && !seen.audio && seen.untaken.is_empty() {
            self.end.set(Err(Error::Nothing(String::new())));
        }
    }

    /// What to say when no track was taken.
    pub(super) fn none_taken(&self) -> Option<Error> {
        let seen = self.seen();
        if seen.video || seen.audio || seen.untaken.is_empty() {
            return None;
        }
        Some(Error::Nothing(format!(": {}", seen.untaken.join("; "))))
    }

    fn link(&self, pipeline: &gst::Pipeline, pad: &gst::Pad, way: &Way) -> Result<(), Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
        let mut chain = Vec::new();
        for name in way.elements {
            chain.push(element(name, |_| {})?);
        }
        chain.push(sink::new(way.kind, way.form, Arc::clone(&self.end)));
        pipeline.add_many(&chain).map_err(|error| broken(&error))?;
        gst::Element::link_many(&chain).map_err(|error| broken(&error))?;
        // From the end, so that nobody passes on what the next one does not take yet.
        for element in chain.iter().rev() {
            element.sync_state_with_parent().map_err(|error| broken(&error))?;
        }
        let first = chain.first().and_then(|first| first.static_pad("sink"));
        let first = first.ok_or_else(|| Error::Broken(String::from("GStreamer's parser takes nothing")))?;
        pad.link(&first).map(|_| ()).map_err(|error| broken(&error))
    }

    /// Whether a track of this kind was not there before.
    fn take(&self, kind: TrackKind) -> bool {
        let mut seen = self.seen();
        let had = match kind {
            TrackKind::Video => &mut seen.video,
            TrackKind::Audio => &mut seen.audio,
        };
        !std::mem::replace(had, true)
    }

    fn has(&self, kind: TrackKind) -> bool {
        let seen = self.seen();
        match kind {
            TrackKind::Video => seen.video,
            TrackKind::Audio => seen.audio,
        }
    }

    fn leave(&self, untaken: Option<String>) {
        let Some(untaken) = untaken else { return };
        let mut seen = self.seen();
        if seen.untaken.contains(&untaken) {
            return;
        }
        seen.untaken.push(untaken.clone());
        drop(seen);
        // False when it is over.
        let _ = self.end.put(Output::Untaken(untaken));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Throws away what comes of a pad; one that leads nowhere would stop its demuxer.
fn away(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
    let nowhere = element("fakesink", |nowhere| {
        nowhere.set_property("sync", false);
        nowhere.set_property("async", false);
        nowhere.set_property("enable-last-sample", false);
    })?;
    pipeline.add(&nowhere).map_err(|error| broken(&error))?;
    nowhere.sync_state_with_parent().map_err(|error| broken(&error))?;
    let Some(sink) = nowhere.static_pad("sink") else { return Ok(()) };
    pad.link(&sink).map(|_| ()).map_err(|error| broken(&error))
}

/// How samples are made of what has these capabilities; else what to say of it, for there are tracks (subtitles,
/// data) of which nothing is said.
fn way(caps: &gst::Caps) -> Result<Way, Option<String>> {
    let Some(form) = caps.structure(0) else { return Err(None) };
    let name = form.name().as_str();
    // What a camera offers has no name before it was asked for.
    if ["application/x-rtp", "application/x-unknown"].contains(&name) {
        return rtp(form);
    }
    let elements: (_, &[&str], _) = match name {
        "video/x-h264" => (TrackKind::Video, &["h264parse"], H264),
        "audio/mpeg" if is_aac(form) => (TrackKind::Audio, &["aacparse"], AAC),
        _ => return Err(untaken(name, form)),
    };
    let (kind, elements, form) = elements;
    Ok(Way { kind, elements, form })
}

/// The same of a camera's track, which tells its codec by the name that its payload is registered with.
fn rtp(form: &gst::StructureRef) -> Result<Way, Option<String>> {
    let codec = form.get::<&str>("encoding-name").unwrap_or_default();
    let media = form.get::<&str>("media").unwrap_or_default();
    let way = match codec {
        "H264" => Way { kind: TrackKind::Video, elements: &["rtph264depay", "h264parse"], form: H264 },
        "MPEG4-GENERIC" => Way { kind: TrackKind::Audio, elements: &["rtpmp4gdepay", "aacparse"], form: AAC },
        "MP4A-LATM" => Way { kind: TrackKind::Audio, elements: &["rtpmp4adepay", "aacparse"], form: AAC },
        _ => return Err(advice(media, codec)),
    };
    Ok(way)
}

fn is_aac(form: &gst::StructureRef) -> bool {
    // LATM inside a transport stream is AAC too, but nothing here unpacks it.
    matches!(form.get::<i32>("mpegversion"), Ok(2 | 4)) && form.get::<&str>("stream-format") != Ok("loas")
}

fn untaken(name: &str, form: &gst::StructureRef) -> Option<String> {
    let (media, codec) = name.split_once('/')?;
    let codec = match (codec, form.get::<i32>("mpegversion")) {
        ("x-h265", _) => "HEVC",
        ("x-av1", _) => "AV1",
        ("mpeg", Ok(1)) if media == "audio" => "MPEG audio (MP2 or MP3)",
        ("mpeg", Ok(2)) if media == "video" => "MPEG-2",
        ("mpeg", Ok(4)) if media == "audio" => "AAC in LATM",
        (codec, _) => codec.trim_start_matches("x-"),
    };
    advice(media, codec)
}

fn advice(media: &str, codec: &str) -> Option<String> {
    match media {
        "video" => Some(format!("its video is {codec}, which is not taken; send H.264")),
        "audio" => Some(format!(
            "its audio is {codec}, which is not taken; send AAC (in a transport stream as ADTS)"
        )),
        _ => None,
    }
}
