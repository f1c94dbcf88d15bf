//! Money in integers. One unit is a millionth of the platform's currency; nothing here ever rounds up.

use core::fmt;

/// Bytes in a GiB, what prices are quoted per.
pub const GIB: u64 = 1 << 30;

/// An amount in micro-units (10⁻⁶ of the platform's currency). Signed, because accounts go both ways.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Adds, or `None` when the sum leaves the range of `i64`.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Subtracts, or `None` when the difference leaves the range of `i64`.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Micros {
    /// Units with six decimals: `-0.000015`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", amount / 1_000_000, amount % 1_000_000)
    }
}

/// A price in micro-units per GiB delivered.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Price(pub u32);

impl Price {
    /// What `bytes` cost: `floor(bytes × price ÷ 2³⁰)`. Saturates at `i64::MAX`, which takes 2³³ bytes at the
    /// highest price.
    #[must_use]
    pub fn of(self, bytes: u64) -> Micros {
        let micros = u128::from(bytes) * u128::from(self.0) / u128::from(GIB);
        Micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The most that `bytes` can ever cost, whatever the lane's history: what a reserve must hold.
    #[must_use]
    pub fn ceiling(self, bytes: u64) -> Micros {
        let micros = (u128::from(bytes) * u128::from(self.0)).div_ceil(u128::from(GIB));
        Micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_price_rounds_down_and_a_reserve_up() {
        assert_eq!(Price(100).of(GIB), Micros(100));
        assert_eq!(Price(100).of(GIB - 1), Micros(99));
        assert_eq!(Price(100).ceiling(GIB - 1), Micros(100));
        assert_eq!(Price(u32::MAX).of(u64::MAX), Micros(i64::MAX));
    }

    #[test]
    fn amounts_print_as_units_with_six_decimals() {
        assert_eq!(Micros(-15).to_string(), "-0.000015");
        assert_eq!(Micros(12_000_001).to_string(), "12.000001");
        assert_eq!(Micros(i64::MIN).to_string(), "-9223372036854.775808");
    }
}
