//! Numbers and dates as playlists write them.

use core::fmt;

/// A duration in seconds, to the microsecond (RFC 8216bis §4.2 decimal-floating-point).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds {
    micros: u64,
}

impl Seconds {
    /// `ticks` of a clock with `timescale` ticks a second, rounded to the nearest microsecond. Rounding keeps the
    /// order, so a part not longer than its target does not look longer.
    pub(crate) fn of_ticks(ticks: u64, timescale: u32) -> Self {
        let scale = u128::from(timescale.max(1));
        let micros = (u128::from(ticks) * 1_000_000 + scale / 2) / scale;
        Self { micros: u64::try_from(micros).unwrap_or(u64::MAX) }
    }

    pub(crate) const fn of_millis(millis: u64) -> Self {
        Self { micros: millis.saturating_mul(1_000) }
    }

    pub(crate) const fn micros(self) -> u64 {
        self.micros
    }
}

impl fmt::Display for Seconds {
    /// At least one decimal, at most six, no trailing zeros beyond the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.micros / 1_000_000)?;
        let (mut fraction, mut digits) = (self.micros % 1_000_000, 6);
        while digits > 1 && fraction % 10 == 0 {
            fraction /= 10;
            digits -= 1;
        }
        write!(f, "{fraction:0digits$}")
    }
}

/// A wall-clock time in UTC with milliseconds (ISO 8601): `2026-11-22T08:17:00.123Z`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Date(pub(crate) millstream_model::WallTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.0;
        let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is a
/// year's last, in cycles of 400 years.
const fn civil(days: u64) -> (u64, u64, u64) {
    const CYCLE_DAYS: u64 = 146_097;
    // 1970-01-01 is day 719,468 of the cycle that began on 0000-03-01.
    let day = days + 719_468;
    let (cycle, of_cycle) = (day / CYCLE_DAYS, day % CYCLE_DAYS);
    let of_cycle_year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * of_cycle_year + of_cycle_year / 4 - of_cycle_year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = cycle * 400 + of_cycle_year + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use millstream_model::WallTime;

    #[test]
    fn seconds_have_one_to_six_decimals() {
        let texts = [
            (Seconds::of_millis(2_000), "2.0"),
            (Seconds::of_millis(250), "0.25"),
            (Seconds::of_ticks(1, 3), "0.333333"),
            (Seconds::of_ticks(2, 3), "0.666667"),
            (Seconds::of_ticks(1_024, 44_100), "0.02322"),
            (Seconds::of_ticks(1, 1_000_000), "0.000001"),
            (Seconds::of_ticks(0, 0), "0.0"),
            (Seconds::of_ticks(u64::MAX, 1), "18446744073709.551615"),
        ];
        for (seconds, text) in texts {
            assert_eq!(seconds.to_string(), text);
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        // `date -u -d @SECONDS +%FT%T`
        let dates = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_799_000, "2000-02-29T23:59:59.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_335_420_123, "2026-11-22T08:17:00.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, text) in dates {
            assert_eq!(Date(WallTime(millis)).to_string(), text);
        }
        assert!(!Date(WallTime(u64::MAX)).to_string().is_empty());
    }
}
