//! Which pictures an encoder gets, and where it makes keyframes.
//!
//! Pure. An encoder that falls behind gets fewer pictures: the first of each segment and some between, so that every
//! part has one. When that does not help, rungs are given up, the largest first and one at a time, for they share
//! the machine. Nothing is ever late in silence.

use std::collections::VecDeque;

use millstream_segmenter::ROUNDING_TICKS;

const TICKS_PER_MS: u64 = 90;

/// A rung further behind than this leaves pictures out: what players keep in hand of a low-latency stream.
const LATE_MS_MAX: u64 = 1_000;

/// Even then each stretch of this length keeps a picture: two a part.
const KEPT_EVERY_MS: u64 = 100;

/// So far behind, something must go: two segments, after which a player has given up itself.
const GIVE_UP_MS: u64 = 4_000;

/// A stream may begin with seconds at once. An encoder has twice as long to catch up, and is not late meanwhile.
const CATCH_UP_FACTOR: u64 = 2;

/// After a rung was given up, the others have as long to catch up.
const RELIEF_MS: u64 = 2_000;

/// Segment starts that wait for their picture at most: a minute of segments of a tenth of a second.
const STARTS_MAX: usize = 600;

/// What becomes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is encoded.
    Keep,
    /// It is encoded as a keyframe.
    Keyframe,
    /// It is left out.
    Drop,
    /// It is left out, as the first after none was.
    Slow {
        /// How far the rung is behind.
        late_ms: u64,
    },
    /// It is left out, and this rung is over.
    GiveUp {
        /// Which; not always the picture's own.
        rung: usize,
    },
}

/// All rungs of a ladder.
#[derive(Debug)]
pub(super) struct Pace {
    /// The latest picture pushed.
    newest: u64,
    rungs: Vec<Rung>,
    /// The latest pushed when the first picture came to an encoder, and how far it was behind.
    began: Option<(u64, u64)>,
    /// Where the stream was when a rung was given up.
    relieved: Option<u64>,
}

#[derive(Debug)]
struct Rung {
    pixels: u64,
    starts: VecDeque<u64>,
    kept: Option<u64>,
    slow: bool,
    given_up: bool,
}

impl Pace {
    /// Rungs of so many pixels.
    pub(super) fn new(pixels: impl Iterator<Item = u64>) -> Self {
        let rung =
            |pixels| Rung { pixels, starts: VecDeque::new(), kept: None, slow: false, given_up: false };
        Self { newest: 0, rungs: pixels.map(rung).collect(), began: None, relieved: None }
    }

    /// A picture was pushed that is shown at `shown`; with it begins a segment at `first`.
    pub(super) fn push(&mut self, shown: u64, first: Option<u64>) {
        self.newest = self.newest.max(shown);
        for rung in &mut self.rungs {
            rung.starts.extend(first);
            while rung.starts.len() > STARTS_MAX {
                rung.starts.pop_front();
            }
        }
    }

    /// The picture shown at `shown` has come to this rung's encoder, and others wait behind it or do not.
    pub(super) fn judge(&mut self, index: usize, shown: u64, waiting: bool) -> Verdict {
        let behind = self.newest.saturating_sub(shown);
        let (began, burst) = *self.began.get_or_insert((self.newest, behind));
        let excused = burst.saturating_sub((self.newest - began) / CATCH_UP_FACTOR);
        let late_ms = behind.saturating_sub(excused) / TICKS_PER_MS;
        let relieved = self.relieved.is_some_and(|at| shown < at + RELIEF_MS * TICKS_PER_MS);
        if late_ms > GIVE_UP_MS && waiting && !relieved {
            let alive = self.rungs.iter_mut().enumerate().filter(|(_, rung)| !rung.given_up);
            if let Some((rung, largest)) = alive.max_by_key(|(_, rung)| rung.pixels) {
                largest.given_up = true;
                self.relieved = Some(self.newest);
                return Verdict::GiveUp { rung };
            }
        }
        let Some(rung) = self.rungs.get_mut(index).filter(|rung| !rung.given_up) else {
            return Verdict::Drop;
        };
        let mut keyframe = false;
        while rung.starts.front().is_some_and(|start| *start <= shown + ROUNDING_TICKS) {
            rung.starts.pop_front();
            keyframe = true;
        }
        let spare = rung.kept.is_some_and(|kept| shown < kept + KEPT_EVERY_MS * TICKS_PER_MS);
        if late_ms > LATE_MS_MAX && waiting && spare && !keyframe {
            let told = std::mem::replace(&mut rung.slow, true);
            return if told { Verdict::Drop } else { Verdict::Slow { late_ms } };
        }
        rung.slow &= late_ms > LATE_MS_MAX / 2;
        rung.kept = Some(shown);
        if keyframe { Verdict::Keyframe } else { Verdict::Keep }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 3_000;

    /// 1080p, 720p, 360p.
    fn pace() -> Pace {
        Pace::new([640 * 360, 1_920 * 1_080, 1_280 * 720].into_iter())
    }

    #[test]
    fn keyframes_are_where_segments_begin_and_nowhere_else() {
        let mut pace = pace();
        for n in 0..300 {
            pace.push(n * FRAME, (n % 60 == 0).then_some(n * FRAME));
            let expected = if n % 60 == 0 { Verdict::Keyframe } else { Verdict::Keep };
            assert_eq!([0, 1, 2].map(|rung| pace.judge(rung, n * FRAME, true)), [expected; 3]);
        }
    }

    #[test]
    fn a_start_whose_picture_is_missing_is_made_up_for_with_the_next() {
        let mut pace = pace();
        pace.push(0, Some(0));
        assert_eq!(pace.judge(0, 0, false), Verdict::Keyframe);
        pace.push(FRAME, Some(FRAME));
        pace.push(2 * FRAME, None);
        assert_eq!(pace.judge(0, 2 * FRAME, false), Verdict::Keyframe);
        assert_eq!(pace.judge(0, 3 * FRAME, false), Verdict::Keep);
    }

    #[test]
    fn a_late_rung_keeps_each_start_and_a_picture_in_every_part() {
        let mut pace = pace();
        // Another rung begins in time.
        pace.judge(1, 0, false);
        (0..600).for_each(|n| pace.push(n * FRAME, (n % 60 == 0).then_some(n * FRAME)));
        let verdicts: Vec<Verdict> = (0..600)
            .map(|n| {
                pace.newest = n * FRAME + 2_000 * TICKS_PER_MS;
                pace.judge(0, n * FRAME, true)
            })
            .collect();
        let kept =
            |part: &[Verdict]| part.iter().filter(|v| matches!(v, Verdict::Keep | Verdict::Keyframe)).count();
        assert!(verdicts.chunks(8).all(|part| (2..=4).contains(&kept(part))), "{verdicts:?}");
        assert!(verdicts.iter().step_by(60).all(|verdict| *verdict == Verdict::Keyframe));
        let told = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Slow { .. })).count();
        assert_eq!(told, 1, "once");
        assert!((0..100).all(|n| pace.judge(0, (600 + n) * FRAME, false) != Verdict::Drop), "nobody waits");
    }

    #[test]
    fn whoever_begins_with_seconds_at_once_has_time_to_catch_up() {
        let mut pace = pace();
        (0..60).for_each(|n| pace.push(n * FRAME, None));
        // At one and a half times the pace of the stream: twice as long as what came at once.
        for n in 0..180 {
            pace.push((60 + n * 2 / 3) * FRAME, None);
            assert_eq!(pace.judge(0, n * FRAME, true), Verdict::Keep, "{n}");
        }
        let mut pace = self::pace();
        (0..60).for_each(|n| pace.push(n * FRAME, None));
        // No faster than the stream: two seconds behind for ever.
        let kept = |n| {
            pace.push((60 + n) * FRAME, None);
            pace.judge(0, n * FRAME, true) == Verdict::Keep
        };
        assert!((0..300).filter(|n| *n > 0).map(kept).filter(|kept| !kept).count() > 100);
    }

    #[test]
    fn rungs_are_given_up_one_by_one_the_largest_first() {
        let mut pace = pace();
        pace.judge(0, 0, true);
        let mut gone = Vec::new();
        for n in 1..600 {
            pace.push(n * FRAME + 5_000 * TICKS_PER_MS, None);
            for rung in 0..3 {
                if let Verdict::GiveUp { rung } = pace.judge(rung, n * FRAME, true) {
                    gone.push((rung, n));
                }
            }
        }
        let (rungs, times): (Vec<usize>, Vec<u64>) = gone.into_iter().unzip();
        assert_eq!(rungs, [1, 2, 0]);
        assert!(
            times.windows(2).all(|pair| (pair[1] - pair[0]) * FRAME > RELIEF_MS * TICKS_PER_MS),
            "{times:?}"
        );
        assert_eq!(pace.judge(0, 700 * FRAME, false), Verdict::Drop);
    }
}
