//! Numbers that go round: which of two is the later (RFC 1982), and which 64-bit number one stands for.
//!
//! What counts in an association counts in 64 bits and never goes round; only the wire does.

/// Whether `a` comes after `b`. Of two that are exactly half the circle apart, neither does.
#[inline]
#[must_use]
pub const fn is_after(a: u32, b: u32) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 1 << 31
}

/// The number nearest to `near` whose low 32 bits are `wire`; of two that are equally near, the lower one. Never below
/// zero; `near` is taken to be far below `u64::MAX`.
#[inline]
#[must_use]
pub const fn unwrap(near: u64, wire: u32) -> u64 {
    nearest(near, wire as u64, 1 << 32)
}

/// The number nearest to `near` whose low 16 bits are `wire`; like [`unwrap`].
#[inline]
#[must_use]
pub const fn unwrap_short(near: u64, wire: u16) -> u64 {
    nearest(near, wire as u64, 1 << 16)
}

/// `circle` is a power of two, and `wire` below it.
#[inline]
const fn nearest(near: u64, wire: u64, circle: u64) -> u64 {
    let ahead = wire.wrapping_sub(near) & (circle - 1);
    let behind = circle - ahead;
    if ahead < behind || near < behind { near.wrapping_add(ahead) } else { near - behind }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn low(number: u64) -> u32 {
        u32::try_from(number & 0xffff_ffff).unwrap()
    }

    proptest! {
        #[test]
        fn the_later_of_two_is_the_one_that_is_reached_sooner(b: u32, ahead in 1_u32..0x8000_0000) {
            let a = b.wrapping_add(ahead);
            prop_assert!(is_after(a, b));
            prop_assert!(!is_after(b, a));
            prop_assert!(!is_after(a, a));
        }

        #[test]
        fn a_number_that_went_round_is_found_again(near in 0_u64..1 << 60, away in -0x7fff_ffff_i64..0x8000_0000) {
            let Some(number) = near.checked_add_signed(away) else { return Ok(()) };
            prop_assert_eq!(unwrap(near, low(number)), number);
        }

        #[test]
        fn so_is_a_short_one(near in 0_u64..1 << 60, away in -0x7fff_i64..0x8000) {
            let Some(number) = near.checked_add_signed(away) else { return Ok(()) };
            prop_assert_eq!(unwrap_short(near, u16::try_from(number & 0xffff).unwrap()), number);
        }

        #[test]
        fn nothing_nearer_has_the_same_low_bits(near: u64, wire: u32) {
            let near = near >> 1;
            let found = unwrap(near, wire);
            prop_assert_eq!(low(found), wire);
            let away = found.abs_diff(near);
            for other in [found.checked_sub(1 << 32), found.checked_add(1 << 32)].into_iter().flatten() {
                prop_assert!(other.abs_diff(near) >= away);
            }
        }
    }

    #[test]
    fn half_the_circle_away_is_neither_before_nor_after() {
        assert!(!is_after(0x8000_0000, 0) && !is_after(0, 0x8000_0000));
        assert_eq!(unwrap(1 << 40, 0x8000_0000), (1 << 40) - 0x8000_0000);
    }

    #[test]
    fn there_is_nothing_below_zero() {
        assert_eq!(unwrap(0, u32::MAX), u64::from(u32::MAX));
        assert_eq!(unwrap(u64::from(u32::MAX), 0), 1 << 32);
        assert_eq!(unwrap_short(5, 0xfffe), 0xfffe);
    }
}
