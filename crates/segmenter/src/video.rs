//! The video track within a continuity: decode times, durations, composition offsets.
//!
//! A frame lasts until the next one's decode time, so one frame is held back. Decode times are the publisher's
//! milliseconds, exactly, so they never drift from its clock.
//!
//! With B-frames a keyframe is presented later than it is decoded, by a *shift* that stays the same over a
//! continuity. All decode times are moved later by it, and the track's edit list takes it from all presentations:
//! a segment's first picture is then presented at the segment's own time, B-frames or not, and in step with the
//! audio. (Signed offsets without an edit list would say the same, but ffmpeg 5 presents such tracks late.)
//!
//! Behind a keyframe of HEVC's open GOPs come frames that are shown before it and lean on the GOP before. Where a
//! continuity starts, that GOP is not there: nobody could decode them, and they are left out.

use bytes::Bytes;
use millstream_model::MediaTime;

use crate::{
    cadence::Cadence,
    cmaf::{VIDEO_TICKS_PER_MS, VIDEO_TIMESCALE},
    codec::hevc::{self, Place},
    cut::{Cutter, Frame, Segments},
    output::{Complaint, Picture},
    sample::Sample,
};

/// How far a frame whose decode time does not increase is moved later before it is dropped: jitter of a clock in
/// milliseconds, and no more than half a frame.
const NUDGE_MS_MAX: u64 = 10;

/// Composition offsets beyond are brought back to this: sixteen reordered frames at five a second.
const COMPOSITION_MS_MAX: i32 = 3_200;

/// The video track.
#[derive(Debug)]
pub(crate) struct Video {
    /// What is added to decode times.
    shift_ms: i32,
    /// What the edit list takes from presentations.
    edit_ms: i32,
    cadence: Cadence,
    /// Bytes of a NAL unit's length, as long as frames may come that lean on pictures from before the first one.
    leading: Option<usize>,
    held: Option<Held>,
    pub(crate) cutter: Cutter,
    /// Pictures for whoever follows, if somebody does.
    pub(crate) pictures: Option<Vec<Picture>>,
}

/// The latest frame, until the next one says how long it lasts.
#[derive(Debug)]
struct Held {
    at_ms: u64,
    composition_ms: i32,
    keyframe: bool,
    data: Bytes,
}

impl Video {
    /// A track whose first keyframe has a composition offset of `shift_ms`, and whose edit list takes `edit_ms`
    /// from every presentation. `leading`: bytes of a NAL unit's length, where there may be frames to leave out.
    pub(crate) fn new(
        shift_ms: u32,
        edit_ms: u32,
        cadence: Cadence,
        leading: Option<usize>,
        part_target_ms: u32,
        segment: u64,
    ) -> Self {
        let frame = cadence.frame_ticks(VIDEO_TIMESCALE);
        let cutter = Cutter::new(Segments::AtKeyframes, VIDEO_TIMESCALE, frame, part_target_ms, segment);
        let [shift_ms, edit_ms] = [shift_ms, edit_ms].map(|ms| i32::try_from(ms).unwrap_or(0));
        Self { shift_ms, edit_ms, cadence, leading, held: None, cutter, pictures: None }
    }

    /// The shift of a track that starts with this sample.
    pub(crate) fn shift_of(sample: &Sample) -> u32 {
        u32::try_from(bounded(sample.cts_ms)).unwrap_or(0)
    }

    /// A sample's decode time, moved as all are: what the timeline places.
    pub(crate) fn shifted_ms(&self, sample: &Sample) -> i64 {
        sample.dts_ms.saturating_add(i64::from(self.shift_ms))
    }

    /// The next sample, which lies at `at_ms` of the stream's media time (negative: before it).
    pub(crate) fn push(&mut self, sample: Sample, at_ms: i64) -> Option<Complaint> {
        if let Some(length_bytes) = self.leading {
            match hevc::place(&sample.data, length_bytes) {
                Place::Skipped => return None,
                Place::Trailing => self.leading = None,
                Place::Other => {}
            }
        }
        let earliest = self.held.as_ref().map_or(0, |held| held.at_ms + 1);
        let by_ms = i128::from(earliest) - i128::from(at_ms);
        let late = u64::try_from(by_ms.max(0)).unwrap_or(u64::MAX);
        if late > NUDGE_MS_MAX {
            return Some(Complaint::Late { by_ms: late });
        }
        let at_ms = u64::try_from(at_ms).unwrap_or(0).max(earliest);
        let cts_ms = bounded(sample.cts_ms);
        self.release(at_ms);
        // The keyframe of an open GOP goes before pictures that are shown before it.
        let early_ms = u64::try_from(cts_ms - self.shift_ms).unwrap_or(0);
        self.cutter.expect(ticks(at_ms), sample.keyframe, ticks(early_ms));
        self.held = Some(Held {
            at_ms,
            composition_ms: cts_ms - self.shift_ms + self.edit_ms,
            keyframe: sample.keyframe,
            data: sample.data,
        });
        (cts_ms != sample.cts_ms).then_some(Complaint::Composition { cts_ms: sample.cts_ms })
    }

    /// No more samples: the last frame lasts as long as they usually do. Gives where the track ends, in
    /// milliseconds of media time.
    pub(crate) fn finish(&mut self) -> Option<u64> {
        let held_ms = self.held.as_ref()?.at_ms;
        let end_ms = held_ms + (self.cadence.frame_ticks(1_000)).max(1);
        self.release(end_ms);
        self.cutter.end_segment();
        Some(end_ms)
    }

    /// Hands on the held frame, which ends at `end_ms`.
    fn release(&mut self, end_ms: u64) {
        let Some(held) = self.held.take() else { return };
        let shown_ms =
            u128::from(held.at_ms).saturating_add_signed(i128::from(held.composition_ms - self.edit_ms));
        let picture = self.pictures.is_some().then(|| Picture {
            discontinuity: 0,
            shown: MediaTime(ticks(u64::try_from(shown_ms).unwrap_or(u64::MAX))),
            settled: MediaTime(ticks(end_ms.saturating_add_signed(-i64::from(self.shift_ms.max(0))))),
            keyframe: held.keyframe,
            first: None,
            data: held.data.clone(),
        });
        let first = self.cutter.push(Frame {
            start: ticks(held.at_ms),
            duration: u32::try_from(ticks(end_ms - held.at_ms)).unwrap_or(u32::MAX),
            composition: held.composition_ms.saturating_mul(i32::try_from(VIDEO_TICKS_PER_MS).unwrap_or(0)),
            keyframe: held.keyframe,
            data: held.data,
        });
        if let (Some(picture), Some(pictures)) = (picture, &mut self.pictures) {
            let first = first.then_some(MediaTime(ticks(held.at_ms)));
            pictures.push(Picture { first, ..picture });
        }
    }
}

fn ticks(ms: u64) -> u64 {
    ms.saturating_mul(u64::from(VIDEO_TICKS_PER_MS))
}

fn bounded(cts_ms: i32) -> i32 {
    cts_ms.clamp(-COMPOSITION_MS_MAX, COMPOSITION_MS_MAX)
}
