//! Another encoding of the publisher's pictures, cut where the publisher's own were cut.
//!
//! The publisher's rendition *leads*: for each of its parts a [`Follower`] makes one of the same span, the same place
//! in its segment and the same flags, from the frames that an encoder made of the same pictures. So a player finds
//! every part at the same time in each rendition, and can change between them at every segment.
//!
//! An encoder gives each picture's frame at the time it is shown, in that order; there are no B-frames, so nothing
//! needs an edit list. A part is whole when an encoder that works in order can have no more for it. Encoders may
//! leave pictures out: their neighbours then last longer, and are shown when they should be. A part without any
//! picture takes the one after it, which a decoder then has early; where that is a keyframe, which has to stay at
//! its segment's start, it shows it twice, and the last parts of all show the last keyframe again.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::{MediaTime, RenditionId, WallTime};

use crate::{
    cmaf,
    codec::{self, VideoCodec},
    cut::{Frame, Slice},
    output::{Complaint, Media, Output, Part, Picture, Track},
    sample::{TrackConfig, TrackKind},
};

/// How far before a part's start a picture may be shown and still belong to it, in ticks: both are rounded to
/// milliseconds, and a shift may be two off. Less than half a frame at 120 a second.
pub const ROUNDING_TICKS: u64 = 3 * cmaf::VIDEO_TICKS_PER_MS as u64;

/// Parts of the leader that wait for frames at most: 16 s. Whoever is later is of no use to anybody.
const SPANS_MAX: usize = 64;

/// Pictures and frames that wait at most: twice what [`SPANS_MAX`] parts hold at 60 a second.
const PICTURES_MAX: usize = 2 * 16 * 60;

/// What happens to a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow<'a> {
    /// A picture went into the encoder.
    Picture(&'a Picture),
    /// The leader put out a part.
    Part(&'a Part),
    /// The encoder put out a frame. They come in the order in which they are shown.
    Coded(Coded),
    /// The encoder has nothing more, and the leader's continuity is over.
    Finish,
}

/// A frame that an encoder made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coded {
    /// When it is shown, in ticks of the leader: that of the picture it was made of.
    pub shown: MediaTime,
    /// A decoder can start here.
    pub keyframe: bool,
    /// An access unit in length-prefixed NAL units.
    pub data: Bytes,
}

/// Cuts one encoding within one continuity of its leader.
#[derive(Debug)]
pub struct Follower {
    rendition: RenditionId,
    moofs: u32,
    spans: VecDeque<Span>,
    /// When pictures that went in are shown, rising; those of parts that are out are gone.
    expected: VecDeque<u64>,
    settled: u64,
    frames: VecDeque<Coded>,
    newest: Option<u64>,
    keyframe: Option<Coded>,
    finished: bool,
    lost: bool,
    outputs: VecDeque<Output>,
}

/// A part of the leader's, without its bytes.
#[derive(Debug)]
struct Span {
    start: u64,
    end: u64,
    segment: u64,
    part: u16,
    first: bool,
    discontinuity: u32,
    program_date_time: WallTime,
}

/// The track of an encoding that follows `leader` and that its encoder describes by this
/// `AVCDecoderConfigurationRecord`.
///
/// # Errors
/// When the record cannot be used.
pub fn describe(rendition: RenditionId, record: Bytes, leader: &Track) -> Result<Track, codec::Error> {
    let own = VideoCodec::parse(TrackConfig::H264(record))?;
    let frame_rate_milli = match leader.media {
        Media::Video { frame_rate_milli, .. } => frame_rate_milli,
        Media::Audio { .. } => 0,
    };
    Ok(Track {
        rendition,
        media: Media::Video { width: own.shape.width, height: own.shape.height, frame_rate_milli },
        codec: own.codec,
        init: own.plain_init,
        ..leader.clone()
    })
}

impl Follower {
    /// Makes the parts of this rendition.
    #[must_use]
    pub const fn new(rendition: RenditionId) -> Self {
        Self {
            rendition,
            moofs: 0,
            spans: VecDeque::new(),
            expected: VecDeque::new(),
            settled: 0,
            frames: VecDeque::new(),
            newest: None,
            keyframe: None,
            finished: false,
            lost: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened. Drain [`Self::poll`] after each call.
    pub fn handle(&mut self, input: Follow<'_>) {
        if self.lost || self.finished {
            return;
        }
        match input {
            Follow::Picture(picture) => {
                let at = self.expected.partition_point(|&shown| shown <= picture.shown.0);
                self.expected.insert(at, picture.shown.0);
                self.settled = self.settled.max(picture.settled.0);
            }
            Follow::Part(part) => self.spans.push_back(Span {
                start: part.media_time.0,
                end: part.media_time.0.saturating_add(u64::from(part.duration)),
                segment: part.segment,
                part: part.part,
                first: part.first,
                discontinuity: part.discontinuity,
                program_date_time: part.program_date_time,
            }),
            Follow::Coded(coded) => {
                self.newest = self.newest.max(Some(coded.shown.0));
                self.frames.push_back(coded);
            }
            Follow::Finish => self.finished = true,
        }
        while self.print() {}
        let pictures = self.expected.len().max(self.frames.len());
        if self.spans.len() > SPANS_MAX || pictures > PICTURES_MAX {
            self.lost = true;
            self.spans.clear();
            self.expected.clear();
            self.frames.clear();
        }
    }

    /// The next part; `None` when there is none until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether its encoder fell so far behind that nothing more comes of it.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Puts out the part that is next, if it is whole.
    fn print(&mut self) -> bool {
        let Some(span) = self.spans.front() else { return false };
        let own = self.frames.iter().take_while(|frame| is_before(frame.shown.0, span.end)).count();
        let behind = own < self.frames.len();
        let expected = self.expected.iter().take_while(|&&shown| is_before(shown, span.end)).last();
        let all = expected.is_some_and(|&last| self.settled >= span.end && self.newest >= Some(last));
        if !(behind || self.finished || (all && own > 0)) {
            return false;
        }
        let frames = match (own, self.frames.front()) {
            (0, Some(next)) if next.keyframe => vec![next.clone()],
            (0, Some(_)) => self.frames.drain(..1).collect(),
            (0, None) => self.keyframe.clone().into_iter().collect(),
            _ => self.frames.drain(..own).collect::<Vec<_>>(),
        };
        let early = own == 0 && frames.first().is_some_and(|frame| frame.keyframe);
        if let Some(keyframe) = frames.iter().rev().find(|frame| frame.keyframe) {
            self.keyframe = Some(keyframe.clone());
        }
        let Some(span) = self.spans.pop_front() else { return false };
        while self.expected.front().is_some_and(|&shown| is_before(shown, span.end)) {
            self.expected.pop_front();
        }
        self.part(&span, frames, early);
        true
    }

    /// Puts out a part with these frames; `early` shows the first at its start, whenever it should be.
    fn part(&mut self, span: &Span, frames: Vec<Coded>, early: bool) {
        let mut placed: Vec<Frame> = Vec::with_capacity(frames.len());
        for coded in frames {
            let earliest = placed.last().map_or(span.start, |before| before.start + 1);
            let start = if placed.is_empty() { earliest } else { coded.shown.0.max(earliest) };
            let late = if early { 0 } else { coded.shown.0.saturating_sub(start) };
            if let Some(before) = placed.last_mut() {
                before.duration = u32::try_from(start - before.start).unwrap_or(u32::MAX);
            }
            placed.push(Frame {
                start,
                duration: 0,
                composition: i32::try_from(late).unwrap_or(i32::MAX),
                keyframe: coded.keyframe,
                data: coded.data,
            });
        }
        // Nothing ever came of the encoder.
        let Some(last) = placed.last_mut() else { return };
        last.duration = u32::try_from(span.end.saturating_sub(last.start)).unwrap_or(u32::MAX);
        let independent = placed.first().is_some_and(|frame| frame.keyframe);
        let duration = span.end - span.start;
        let slice =
            Slice { segment: span.segment, part: span.part, start: span.start, duration, frames: placed };
        self.moofs = self.moofs.wrapping_add(1);
        let (rendition, segment, part) = (self.rendition, span.segment, span.part);
        let (Ok(data), Ok(duration)) =
            (cmaf::part(TrackKind::Video, self.moofs, &slice), u32::try_from(duration))
        else {
            let complaint = Complaint::Unwritten { rendition, segment, part };
            return self.outputs.push_back(Output::Complaint(complaint));
        };
        self.outputs.push_back(Output::Part(Part {
            rendition,
            segment,
            part,
            first: span.first,
            independent,
            discontinuity: span.discontinuity,
            media_time: MediaTime(span.start),
            duration,
            program_date_time: span.program_date_time,
            data,
        }));
    }
}

/// Whether a picture is shown before `end`, and not merely rounded to before it.
const fn is_before(shown: u64, end: u64) -> bool {
    shown.saturating_add(ROUNDING_TICKS) < end
}
