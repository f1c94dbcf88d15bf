//! The clocks of a publisher's two tracks, brought onto one in milliseconds.
//!
//! Each track counts from a start of its own. Until both have said by a sender report what a wall clock of the publisher's
//! shows at a count (RFC 3550 §6.4.1), a track lies where its first packet arrived. From then on sound lies beside pictures
//! as the reports say. What never belongs here: the stream's timeline, and what becomes of a hole in the sound.

use millstream_model::Instant;
use millstream_segmenter::TrackKind;

/// What is left alone: reports are rounded, and clocks drift a little.
const CLOSE_MICROS: i64 = 2_000;

/// Further than this from where it arrived no report is believed: nobody's encoder takes so long.
const SKEW_MICROS_MAX: i64 = 2_000_000;

/// What a sender report says: at this count it was this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// Microseconds of the publisher's wall clock.
    pub(super) wall_micros: i64,
    /// The track's count, in microseconds.
    pub(super) count_micros: i64,
}

/// Both clocks.
#[derive(Debug, Default)]
pub(super) struct Clock {
    video: Track,
    audio: Track,
}

#[derive(Debug, Default)]
struct Track {
    /// What makes milliseconds of a count, where it stands now.
    offset_micros: Option<i64>,
    report: Option<Report>,
}

/// A count of `frequency` a second, in microseconds.
pub(super) fn micros(count: u64, frequency: u64) -> i64 {
    let micros = u128::from(count) * 1_000_000 / u128::from(frequency.max(1));
    i64::try_from(micros).unwrap_or(i64::MAX)
}

impl Clock {
    /// Where a sample lies, in milliseconds. `arrived`: its first packet; `report`: the track's newest.
    pub(super) fn place(
        &mut self,
        track: TrackKind,
        count_micros: i64,
        arrived: Instant,
        report: Option<Report>,
    ) -> i64 {
        let arrived = i64::try_from(arrived.0).unwrap_or(i64::MAX);
        let (own, other) = match track {
            TrackKind::Video => (&mut self.video, &self.audio),
            TrackKind::Audio => (&mut self.audio, &self.video),
        };
        own.report = report.or(own.report);
        let offset = *own.offset_micros.get_or_insert_with(|| arrived.saturating_sub(count_micros));
        // Sound moves: a picture that comes a millisecond early is seen, on a screen that has its own beat.
        if track == TrackKind::Audio
            && let (Some(video), Some(of_video), Some(of_audio)) =
                (other.offset_micros, other.report, own.report)
        {
            let wall = |report: Report| report.wall_micros.saturating_sub(report.count_micros);
            let target = video.saturating_add(wall(of_audio).saturating_sub(wall(of_video)));
            let way = target.saturating_sub(offset).saturating_abs();
            // At once: by small steps the segmenter, which counts samples, would stay behind by what it forgives.
            if (CLOSE_MICROS..=SKEW_MICROS_MAX).contains(&way) {
                own.offset_micros = Some(target);
            }
        }
        let offset = own.offset_micros.unwrap_or(offset);
        count_micros.saturating_add(offset).div_euclid(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = 20_000;

    fn at(micros: i64) -> Instant {
        Instant(micros.unsigned_abs())
    }

    /// Both tracks from 1 s on; sound counts from 7 s and arrives `late` after the pictures that belong to it. Gives
    /// where sound of 20 s lies beside pictures, before and after reports.
    fn skew(late: i64, lie: i64) -> (i64, i64) {
        let mut clock = Clock::default();
        let (mut before, mut after) = (0, 0);
        for frame in 0..500 {
            let time = 1_000_000 + frame * FRAME;
            let reported = frame >= 100;
            let report = |count| Report { wall_micros: 90_000_000_000 + time, count_micros: count };
            let video = clock.place(TrackKind::Video, time, at(time), reported.then(|| report(time)));
            let count = 7_000_000 + time;
            let of_audio = reported.then(|| report(count - lie));
            let audio = clock.place(TrackKind::Audio, count, at(time + late), of_audio);
            if !reported {
                before = audio - video;
            }
            after = audio - video;
        }
        (before, after)
    }

    #[test]
    fn sound_that_arrives_late_is_brought_beside_its_pictures_by_reports() {
        let (before, after) = skew(150_000, 0);
        assert_eq!(before, 150);
        assert!(after.abs() <= 2, "{after}");
        assert!(skew(0, 0).1.abs() <= 1);
    }

    #[test]
    fn a_report_that_cannot_be_is_not_believed() {
        assert_eq!(skew(10_000, 60_000_000), (10, 10));
    }

    #[test]
    fn no_count_is_too_great() {
        let mut clock = Clock::default();
        let report = Some(Report { wall_micros: i64::MIN, count_micros: i64::MAX });
        for count in [0, i64::MAX, 1, micros(u64::MAX, 1)] {
            clock.place(TrackKind::Video, count, Instant(u64::MAX), report);
            clock.place(TrackKind::Audio, count, Instant(0), report);
        }
        assert_eq!(micros(90_000, 90_000), 1_000_000);
        assert_eq!(micros(1, 0), 1_000_000);
    }
}
