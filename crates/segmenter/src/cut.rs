//! Where parts and segments of one rendition begin and end.
//!
//! RFC 8216bis asks three things of parts: none over the part target, none under 85 % of it but a segment's last,
//! and segments that round to no more than the target duration. Regular frames keep all three by themselves. When
//! frames are irregular (a variable rate, dropped frames) and the next one would neither fit in the open part nor
//! leave it long enough, the *segment* ends there, so that the short part is a segment's last. What cannot be kept
//! is a frame that alone is longer than the part target: it gets a part of its own. A segment that began between
//! keyframes ends at the next one, whatever its age, so that segments find back to the GOP.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::PART_BYTES_MAX;

use crate::cadence::PART_MIN_PERCENT;

/// What a segment should last: with parts it costs no latency, and half the target duration absorbs uneven GOPs.
const SEGMENT_MS: u64 = 2_000;

/// What no segment outlasts. It rounds to the target duration of 4 s and leaves a GOP of 4 s room to jitter.
const SEGMENT_MS_MAX: u64 = 4_100;

/// Frames in a part at most: bounds the `moof` at 16 KiB, when a hostile clock gives a frame every millisecond.
const PART_FRAMES_MAX: usize = 1_000;

/// Bytes of frames in a part at most: what a part may have, less a generous `moof`.
const PAYLOAD_BYTES_MAX: usize = (PART_BYTES_MAX - 64 * 1024) as usize;

/// A frame on the stream's timeline.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Decode time, in ticks.
    pub(crate) start: u64,
    /// In ticks.
    pub(crate) duration: u32,
    /// Presentation less decode time, in ticks.
    pub(crate) composition: i32,
    /// A decoder can start here.
    pub(crate) keyframe: bool,
    /// The bytes.
    pub(crate) data: Bytes,
}

/// A part, before it is boxed.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) segment: u64,
    pub(crate) part: u16,
    pub(crate) start: u64,
    pub(crate) duration: u64,
    pub(crate) frames: Vec<Frame>,
}

/// Where segments begin, when nothing forces a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segments {
    /// At the first keyframe after two seconds, less half a frame.
    AtKeyframes,
    /// At the first frame at or after a multiple of two seconds of the stream's media time.
    AtMultiples,
}

/// Cuts one rendition. Frames go in by [`Self::push`], each where the one before it ended; slices come out by
/// [`Self::pop`].
#[derive(Debug)]
pub(crate) struct Cutter {
    segments: Segments,
    timescale: u32,
    part_target_ms: u32,
    /// One usual frame, in ticks.
    frame: u64,
    part_min: u64,
    part_max: u64,
    segment_usual: u64,
    segment_max: u64,
    /// The number of the open segment, or of the next when none is open.
    segment: u64,
    open: Option<Open>,
    last_keyframe: Option<u64>,
    gop: u64,
    done: VecDeque<Slice>,
}

/// The segment that is being filled.
#[derive(Debug)]
struct Open {
    start: u64,
    /// It began with a keyframe.
    aligned: bool,
    part: u16,
    part_start: u64,
    part_duration: u64,
    part_bytes: usize,
    frames: Vec<Frame>,
}

impl Cutter {
    /// `frame` is one usual frame in ticks, `segment` the number of the first segment.
    pub(crate) fn new(
        segments: Segments,
        timescale: u32,
        frame: u64,
        part_target_ms: u32,
        segment: u64,
    ) -> Self {
        let ticks = |ms: u64| ms * u64::from(timescale) / 1_000;
        let part_max = ticks(u64::from(part_target_ms));
        Self {
            segments,
            timescale,
            part_target_ms,
            frame,
            // In milliseconds first: the target is announced in them.
            part_min: (u64::from(part_target_ms) * PART_MIN_PERCENT * u64::from(timescale)).div_ceil(100_000),
            part_max,
            segment_usual: ticks(SEGMENT_MS),
            segment_max: ticks(SEGMENT_MS_MAX),
            segment,
            open: None,
            last_keyframe: None,
            gop: 0,
            done: VecDeque::new(),
        }
    }

    /// The next frame. Whether a segment begins with it.
    pub(crate) fn push(&mut self, frame: Frame) -> bool {
        self.expect(frame.start, frame.keyframe, 0);
        self.make_room(&frame);
        if frame.keyframe {
            self.gop = self.last_keyframe.map_or(0, |last| frame.start.saturating_sub(last));
            self.last_keyframe = Some(frame.start);
        }
        let end = frame.start + u64::from(frame.duration);
        let first = self.open.is_none();
        let open = self.open.get_or_insert_with(|| Open {
            start: frame.start,
            aligned: frame.keyframe,
            part: 0,
            part_start: frame.start,
            part_duration: 0,
            part_bytes: 0,
            frames: Vec::new(),
        });
        open.part_duration += u64::from(frame.duration);
        open.part_bytes += frame.data.len();
        open.frames.push(frame);
        // One more would hardly fit: do not wait for it. (A tenth of a frame less allows for its jitter.)
        if open.part_duration >= self.part_min && open.part_duration + self.frame * 9 / 10 > self.part_max {
            self.end_part();
        }
        if self.segments == Segments::AtMultiples {
            self.expect(end, true, 0);
        }
        first
    }

    /// The next frame will be at `start`: ends what ends there, before the frame's duration is known. It is shown
    /// `early` ticks later than others that are decoded then: a segment's age is told by what is shown.
    pub(crate) fn expect(&mut self, start: u64, keyframe: bool, early: u64) {
        let Some(open) = &self.open else { return };
        let age = start.saturating_sub(open.start);
        let due = match self.segments {
            Segments::AtKeyframes => {
                keyframe && (!open.aligned || age + early + self.frame / 2 >= self.segment_usual)
            }
            Segments::AtMultiples => start / self.segment_usual > open.start / self.segment_usual,
        };
        if due {
            self.end_segment();
        } else if keyframe && self.segments == Segments::AtKeyframes && open.part_duration >= self.part_min {
            // A decoder can start at a part that begins with a keyframe.
            self.end_part();
        }
    }

    /// Ends what the next frame does not fit in.
    fn make_room(&mut self, frame: &Frame) {
        let Some(open) = &self.open else { return };
        let duration = u64::from(frame.duration);
        if frame.start + duration > self.segment_end(open.start) {
            self.end_segment();
        } else if !open.frames.is_empty()
            && (open.part_duration + duration > self.part_max
                || open.part_bytes + frame.data.len() > PAYLOAD_BYTES_MAX
                || open.frames.len() >= PART_FRAMES_MAX)
        {
            if open.part_duration >= self.part_min { self.end_part() } else { self.end_segment() }
        }
    }

    /// Where a segment that began at `start` must end if no keyframe comes. A GOP too long for one segment is cut
    /// into equal ones, once the GOP before it has told its length.
    fn segment_end(&self, start: u64) -> u64 {
        let latest = start.saturating_add(self.segment_max);
        let share = match self.gop.div_ceil(self.segment_max) {
            0 | 1 => return latest,
            segments => self.gop / segments,
        };
        // Counted from the keyframe, so that rounding to frames does not add up to a segment of one frame.
        let keyframe = self.last_keyframe.unwrap_or(start);
        let index = (start.saturating_sub(keyframe) + self.frame / 2) / share + 1;
        latest.min(keyframe + index * share + self.frame / 2)
    }

    fn end_part(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.frames.is_empty() {
            return;
        }
        self.done.push_back(Slice {
            segment: self.segment,
            part: open.part,
            start: open.part_start,
            duration: open.part_duration,
            frames: std::mem::take(&mut open.frames),
        });
        open.part = open.part.saturating_add(1);
        open.part_start += open.part_duration;
        open.part_duration = 0;
        open.part_bytes = 0;
    }

    /// Ends the open segment, if any.
    pub(crate) fn end_segment(&mut self) {
        self.end_part();
        if self.open.take().is_some() {
            self.segment += 1;
        }
    }

    /// The number of the next segment; right after [`Self::end_segment`].
    pub(crate) fn next_segment(&self) -> u64 {
        self.segment
    }

    /// The longest a part should be, in ticks.
    pub(crate) fn part_max(&self) -> u64 {
        self.part_max
    }

    /// The same as announced, in milliseconds.
    pub(crate) fn part_target_ms(&self) -> u32 {
        self.part_target_ms
    }

    /// Ticks a second.
    pub(crate) fn timescale(&self) -> u32 {
        self.timescale
    }

    /// The next finished slice.
    pub(crate) fn pop(&mut self) -> Option<Slice> {
        self.done.pop_front()
    }
}
