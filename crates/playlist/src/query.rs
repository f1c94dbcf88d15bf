//! What may follow the `?` of a media URL. All values are slugs, numbers or base64url: nothing is percent-decoded.

/// The first value of `name` in `query`.
#[must_use]
pub fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// The first value of `name` as a number in plain decimal digits; `Err` holds a value that is none.
///
/// # Errors
/// The value, when it is not a number.
pub fn number<'a>(query: &'a str, name: &str) -> Result<Option<u64>, &'a str> {
    let Some(text) = value(query, name) else { return Ok(None) };
    crate::path::number(text).map(Some).ok_or(text)
}

/// The query of a feed and of records: which rendition, and the first record wanted (0 for the newest segment's
/// first).
#[must_use]
pub fn feed(rendition: &str, from: u64) -> alloc::string::String {
    alloc::format!("rendition={rendition}&from={from}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let query = "a_HLS_msn=1&_HLS_msn=7&_HLS_part&x=y=z";
        assert_eq!(number(query, "_HLS_msn"), Ok(Some(7)));
        assert_eq!(number(query, "_HLS_part"), Err(""));
        assert_eq!(value(query, "x"), Some("y=z"));
        assert_eq!(value("", "x"), None);
        assert_eq!(number("n=1e3", "n"), Err("1e3"));
    }

    #[test]
    fn a_feed_query_is_read_as_it_was_written() {
        let query = feed("video", 12);
        assert_eq!(value(&query, "rendition"), Some("video"));
        assert_eq!(number(&query, "from"), Ok(Some(12)));
    }
}
