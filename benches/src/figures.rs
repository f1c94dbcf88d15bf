//! The arithmetic of figures: medians, quantiles, and how a number is written.

/// The median: the middle one, or the mean of the two in the middle. None of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, upper))
}

/// The quantile of the nearest rank, in percent. None of nothing.
pub(crate) fn quantile(values: &[f64], percent: usize) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The lowest and the highest.
pub(crate) fn range(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    Some((*sorted.first()?, *sorted.last()?))
}

/// Not more digits than mean something: two or three.
pub(crate) fn written(value: f64) -> String {
    let places = match value.abs() {
        magnitude if magnitude >= 99.95 || magnitude == 0.0 => 0,
        magnitude if magnitude >= 9.95 => 1,
        magnitude if magnitude >= 0.095 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_any_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 95)), (Some(50.0), Some(95.0)));
        assert_eq!((quantile(&[7.0], 95), quantile(&[], 95)), (Some(7.0), None));
        assert_eq!((range(&hundred), range(&[])), (Some((1.0, 100.0)), None));
    }

    #[test]
    fn numbers_have_no_idle_digits() {
        let written: Vec<String> = [1234.5, 99.94, 12.34, 1.234, 0.5, 0.012, 0.0].map(written).into();
        assert_eq!(written, ["1234", "99.9", "12.3", "1.23", "0.50", "0.012", "0"]);
    }
}
