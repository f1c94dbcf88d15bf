//! Byte ranges of requests (RFC 9110 §14): one at a time, for several make an answer that no player needs.

use http::{HeaderMap, header};

/// What of a resource is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// All: there is no range, or one that is passed over, as the RFC allows.
    Whole,
    /// The bytes from the first to the last, both included.
    Part {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Nothing that there is.
    None,
}

/// Reads the range of a resource of `length` bytes.
pub(super) fn parse(headers: &HeaderMap, length: u64) -> Range {
    let value = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    value.and_then(|value| of(value, length)).unwrap_or(Range::Whole)
}

fn of(value: &str, length: u64) -> Option<Range> {
    let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    if first.is_empty() {
        let suffix = number(last)?;
        if suffix == 0 || length == 0 {
            return Some(Range::None);
        }
        return Some(Range::Part { first: length.saturating_sub(suffix), last: length - 1 });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if first > last {
        return None;
    }
    if first >= length {
        return Some(Range::None);
    }
    Some(Range::Part { first, last: last.min(length - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let cases = [
            ("bytes=0-4", Some(Range::Part { first: 0, last: 4 })),
            ("bytes=5-", Some(Range::Part { first: 5, last: 9 })),
            ("bytes=2-9007199254740991", Some(Range::Part { first: 2, last: 9 })),
            ("bytes=-3", Some(Range::Part { first: 7, last: 9 })),
            ("bytes=-30", Some(Range::Part { first: 0, last: 9 })),
            ("bytes=10-", Some(Range::None)),
            ("bytes=-0", Some(Range::None)),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("lines=1-2", None),
            ("bytes=99999999999999999999-", None),
        ];
        for (value, expected) in cases {
            assert_eq!(of(value, 10), expected, "{value}");
        }
        assert_eq!(of("bytes=0-", 0), Some(Range::None));
    }
}
