//! The one place that knows time: from a publisher's clocks to the stream's media time and the wall's.
//!
//! The stream's media time starts at the first keyframe and never goes back. A *continuity* maps a publisher's
//! clock onto it: its anchor (the first keyframe's presentation) lies at the continuity's base, and everything
//! else as far from there as the publisher says. When the clock breaks, the next continuity goes on where the wall
//! says the stream must be by now, and not before anything already put out. Program date times are media time
//! on the wall: they move with it, so they never jitter.
//!
//! Media time is in milliseconds here, like RTMP's clock; renditions have ticks of their own.

use millstream_model::WallTime;

use crate::{sample::TrackKind, track::PerTrack};

/// How far back a decode time may step before it is a jump of the clock rather than a late sample: more than any
/// encoder reorders or any relay misplaces.
const LATE_MS_MAX: i64 = 500;

/// How far forward one track's clock may step before it is a jump: longer than any pause between frames of a
/// stream that is worth watching, shorter than a target duration.
const STEP_MS_MAX: i64 = 3_000;

/// How far apart the two tracks' clocks may be and still be one clock. They may start two seconds apart.
const APART_MS_MAX: u64 = 3_000;

/// How far media time may leap over one absence: 30 days. A wall clock that was wrong by years must not exhaust
/// the timeline.
const ABSENCE_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;

/// The stream's timeline.
#[derive(Debug)]
pub(crate) struct Timeline {
    continuity: Option<Continuity>,
    /// Of the open continuity, or of the next when there was none yet.
    discontinuity: u32,
    /// Where nothing lies beyond yet.
    end_ms: u64,
    /// The latest decode time of each track, on the publisher's clock.
    latest: PerTrack<Option<i64>>,
}

#[derive(Debug)]
struct Continuity {
    base_ms: u64,
    wall: WallTime,
    tracks: PerTrack<Option<Clock>>,
}

/// A track's clock within a continuity.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// What lies at the base.
    anchor_ms: i64,
    latest_ms: i64,
}

impl Timeline {
    pub(crate) fn new(start_ms: u64, discontinuity: u32) -> Self {
        Self { continuity: None, discontinuity, end_ms: start_ms, latest: PerTrack::default() }
    }

    /// Notes a sample's decode time. Gives how far the track's clock jumped, if it did.
    pub(crate) fn observe(&mut self, track: TrackKind, dts_ms: i64) -> Option<i64> {
        let latest = self.latest.of_mut(track);
        let step = latest.map(|latest| dts_ms.saturating_sub(latest));
        match step {
            Some(step) if !(-LATE_MS_MAX..=STEP_MS_MAX).contains(&step) => {
                *latest = Some(dts_ms);
                Some(step)
            }
            Some(step) if step <= 0 => None,
            _ => {
                *latest = Some(dts_ms);
                None
            }
        }
    }

    /// The publisher left: the next one's clocks are no jumps of this one's.
    pub(crate) fn forget_clocks(&mut self) {
        self.latest = PerTrack::default();
    }

    /// Begins a continuity: `anchor_ms` on `track`'s clock, which arrived at `wall`, lies at its base.
    pub(crate) fn begin(&mut self, track: TrackKind, anchor_ms: i64, wall: WallTime) {
        let (mut base_ms, mut base_wall) = (self.end_ms, wall);
        if let Some(last) = &self.continuity {
            let by_wall = last.base_ms.saturating_add(wall.millis_since(last.wall));
            base_ms = by_wall.clamp(self.end_ms, self.end_ms.saturating_add(ABSENCE_MS_MAX));
            base_wall = wall.max(last.wall.plus_millis(self.end_ms.saturating_sub(last.base_ms)));
            self.discontinuity = self.discontinuity.saturating_add(1);
        }
        let mut tracks = PerTrack::default();
        *tracks.of_mut(track) = Some(Clock { anchor_ms, latest_ms: anchor_ms });
        self.continuity = Some(Continuity { base_ms, wall: base_wall, tracks });
    }

    /// Whether a time on `track`'s clock can be on the clock of the open continuity.
    pub(crate) fn shares_clock(&self, track: TrackKind, ms: i64) -> bool {
        let other = self.continuity.as_ref().and_then(|continuity| *continuity.tracks.of(track.other()));
        other.is_some_and(|other| near(other.latest_ms, ms))
    }

    /// Where a time on `track`'s clock lies in the stream's media time, relative to the continuity's base. A track
    /// whose clock is not the other's starts beside it: the time of its arrival is all that is known.
    pub(crate) fn place(&mut self, track: TrackKind, ms: i64) -> i64 {
        let Some(continuity) = &mut self.continuity else { return 0 };
        let other = *continuity.tracks.of(track.other());
        let clock = continuity.tracks.of_mut(track).get_or_insert_with(|| {
            let anchor_ms = match other {
                Some(other) if near(other.latest_ms, ms) => other.anchor_ms,
                Some(other) => ms.saturating_sub(other.latest_ms.saturating_sub(other.anchor_ms)),
                None => ms,
            };
            Clock { anchor_ms, latest_ms: ms }
        });
        clock.latest_ms = clock.latest_ms.max(ms);
        ms.saturating_sub(clock.anchor_ms)
    }

    /// The open continuity's base.
    pub(crate) fn base_ms(&self) -> u64 {
        self.continuity.as_ref().map_or(self.end_ms, |continuity| continuity.base_ms)
    }

    /// Something ends at `ms` of the stream's media time.
    pub(crate) fn reach(&mut self, ms: u64) {
        self.end_ms = self.end_ms.max(ms);
    }

    /// The discontinuity sequence number.
    pub(crate) fn discontinuity(&self) -> u32 {
        self.discontinuity
    }

    /// The wall's time at `ms` of the stream's media time.
    pub(crate) fn wall_at(&self, ms: u64) -> WallTime {
        let Some(continuity) = &self.continuity else { return WallTime::default() };
        continuity.wall.plus_millis(ms.saturating_sub(continuity.base_ms))
    }
}

/// Whether two times can be on one clock.
fn near(a: i64, b: i64) -> bool {
    a.saturating_sub(b).unsigned_abs() <= APART_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrackKind::{Audio, Video};

    #[test]
    fn the_first_anchor_lies_at_the_start() {
        let mut timeline = Timeline::new(0, 0);
        timeline.begin(Video, 5_000, WallTime(1_000_000));
        assert_eq!(timeline.place(Video, 5_000), 0);
        assert_eq!(timeline.place(Audio, 4_990), -10);
        assert_eq!(timeline.place(Audio, 6_000), 1_000);
        assert_eq!(timeline.wall_at(250), WallTime(1_000_250));
        assert_eq!(timeline.discontinuity(), 0);
    }

    #[test]
    fn an_absence_advances_media_time_by_the_wall() {
        let mut timeline = Timeline::new(0, 7);
        timeline.begin(Video, 0, WallTime(1_000_000));
        timeline.reach(10_000);
        timeline.begin(Video, 0, WallTime(1_015_000));
        assert_eq!((timeline.base_ms(), timeline.discontinuity()), (15_000, 8));
        assert_eq!(timeline.wall_at(15_000), WallTime(1_015_000));
    }

    #[test]
    fn neither_media_time_nor_the_date_goes_back_with_the_wall() {
        let mut timeline = Timeline::new(0, 0);
        timeline.begin(Video, 0, WallTime(1_000_000));
        timeline.reach(10_000);
        timeline.begin(Video, 0, WallTime(3));
        assert_eq!(timeline.base_ms(), 10_000);
        assert_eq!(timeline.wall_at(10_000), WallTime(1_010_000));
        timeline.begin(Video, 0, WallTime(u64::MAX));
        assert_eq!(timeline.base_ms(), 10_000 + ABSENCE_MS_MAX);
    }

    #[test]
    fn a_track_on_a_clock_of_its_own_starts_beside_the_other() {
        let mut timeline = Timeline::new(0, 0);
        timeline.begin(Video, 100_000, WallTime(0));
        timeline.place(Video, 100_400);
        assert!(!timeline.shares_clock(Audio, 0));
        assert_eq!(timeline.place(Audio, 0), 400);
        assert_eq!(timeline.place(Audio, 50), 450);
    }

    #[test]
    fn late_is_not_a_jump_and_a_jump_is_not_late() {
        let mut timeline = Timeline::new(0, 0);
        assert_eq!(timeline.observe(Video, 1_000), None);
        assert_eq!(timeline.observe(Video, 500), None);
        assert_eq!(timeline.observe(Video, 4_000), None);
        assert_eq!(timeline.observe(Video, 7_001), Some(3_001));
        assert_eq!(timeline.observe(Video, 6_500), Some(-501));
        assert_eq!(timeline.observe(Audio, i64::MIN), None);
        assert_eq!(timeline.observe(Audio, i64::MAX), Some(i64::MAX));
    }
}
