//! Where output gathers: slices become parts here, with their number, time and bytes.

use std::collections::VecDeque;

use millstream_model::{MediaTime, RenditionId};

use crate::{
    audio::millis,
    cmaf,
    cut::{Cutter, Slice},
    output::{AUDIO, Complaint, Output, Part, VIDEO},
    sample::TrackKind,
    timeline::Timeline,
    track::PerTrack,
};

/// The queue of outputs.
#[derive(Debug, Default)]
pub(crate) struct Press {
    outputs: VecDeque<Output>,
    /// How many `moof`s each rendition has had (`mfhd`).
    moofs: PerTrack<u32>,
}

impl Press {
    pub(crate) fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn complain(&mut self, complaint: Complaint) {
        self.put(Output::Complaint(complaint));
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Puts out what `cutter` has finished, in the continuity that is open on `timeline`.
    pub(crate) fn parts(&mut self, track: TrackKind, cutter: &mut Cutter, timeline: &Timeline) {
        while let Some(slice) = cutter.pop() {
            self.part(track, cutter, timeline, &slice);
        }
    }

    fn part(&mut self, track: TrackKind, cutter: &Cutter, timeline: &Timeline, slice: &Slice) {
        let rendition = rendition(track);
        if slice.duration > cutter.part_max() {
            self.complain(Complaint::LongFrame {
                rendition,
                duration_ms: millis(slice.duration, cutter.timescale()),
                part_target_ms: cutter.part_target_ms(),
            });
        }
        let moofs = self.moofs.of_mut(track);
        *moofs = moofs.wrapping_add(1);
        let (Ok(data), Ok(duration)) = (cmaf::part(track, *moofs, slice), u32::try_from(slice.duration))
        else {
            let (segment, part) = (slice.segment, slice.part);
            return self.complain(Complaint::Unwritten { rendition, segment, part });
        };
        self.put(Output::Part(Part {
            rendition,
            segment: slice.segment,
            part: slice.part,
            first: slice.part == 0,
            independent: slice.frames.first().is_some_and(|frame| frame.keyframe),
            discontinuity: timeline.discontinuity(),
            media_time: MediaTime(slice.start),
            duration,
            program_date_time: timeline.wall_at(millis(slice.start, cutter.timescale())),
            data,
        }));
    }
}

const fn rendition(track: TrackKind) -> RenditionId {
    match track {
        TrackKind::Video => VIDEO,
        TrackKind::Audio => AUDIO,
    }
}
