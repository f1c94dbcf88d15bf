//! Complaints about one publisher's media, summed up: a publisher can earn hundreds a second. Pure.

use std::{collections::BTreeMap, time::Duration};

use millstream_model::Instant;

use super::event::{Code, Complaints, What};

/// From the first complaint until they are told, so that what comes together is told together.
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// From then on.
const EVERY: Duration = Duration::from_secs(60);

/// What is not told yet.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    kinds: BTreeMap<&'static str, (u64, String)>,
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Sums {
    /// A complaint of this kind, in words.
    pub(crate) fn note(&mut self, kind: &'static str, words: impl FnOnce() -> String, now: Instant) {
        let (count, last) = self.kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
        *last = words();
        let soon = now + FIRST_AFTER;
        self.due.get_or_insert_with(|| self.told.map_or(soon, |told| soon.max(told + EVERY)));
    }

    /// When there is something to tell.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What there is to tell, if its time has come, or else if `it_ends`.
    pub(crate) fn take(&mut self, now: Instant, it_ends: bool) -> Option<What> {
        let due = self.due?;
        if now < due && !it_ends {
            return None;
        }
        (self.due, self.told) = (None, Some(now));
        let kinds = std::mem::take(&mut self.kinds).into_iter();
        let complaints: Vec<_> =
            kinds.map(|(kind, (count, last))| Complaints { kind, count, last }).collect();
        let all = complaints.iter().fold(0_u64, |sum, kind| sum.saturating_add(kind.count));
        let words: Vec<&str> = complaints.iter().map(|kind| kind.last.as_str()).collect();
        let message = format!("the publisher's media is not as it should be ({all}): {}", words.join("; "));
        Some(What::Error { code: Code::Media, message, advice: None, complaints })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(0) + Duration::from_millis(ms)
    }

    #[test]
    fn complaints_are_told_together_and_at_most_once_a_minute() {
        let mut sums = Sums::default();
        assert_eq!((sums.due(), sums.take(at(0), true)), (None, None));
        let mut told = Vec::new();
        for ms in (0..180_000).step_by(100) {
            sums.note(if ms % 200 == 0 { "late" } else { "gap" }, || ms.to_string(), at(ms));
            if let Some(What::Error { complaints, .. }) = sums.take(at(ms), false) {
                told.push((ms, complaints));
            }
        }
        assert_eq!(told.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [2_000, 62_000, 122_000]);
        let [gap, late] = &told[1].1[..] else { panic!("{told:?}") };
        assert_eq!((gap.kind, gap.count, gap.last.as_str()), ("gap", 300, "61900"));
        assert_eq!((late.kind, late.count), ("late", 300));
        assert!(sums.take(at(180_000), true).is_some(), "what is left is told when the publisher leaves");
    }
}
