//! Takes a camera's name and password out of texts that are shown.

use std::ops::Range;

/// What must not be shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask(Vec<String>);

impl Mask {
    /// What `url` holds before its `@`: together, and the password alone.
    pub(super) fn of(url: &str) -> Self {
        let Some(credentials) = credentials(url).and_then(|range| url.get(range)) else {
            return Self::default();
        };
        let password = credentials.split_once(':').map(|(_, password)| password.to_owned());
        let hidden = [Some(credentials.to_owned()), password];
        Self(hidden.into_iter().flatten().filter(|text| !text.is_empty()).collect())
    }

    /// `text` without it.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, hidden| text.replace(hidden, "…"))
    }
}

/// `url` as it may be shown: name and password in it are masked.
#[must_use]
pub fn shown(url: &str) -> String {
    let mut shown = url.to_owned();
    if let Some(range) = credentials(url) {
        shown.replace_range(range, "…");
    }
    shown
}

/// Where name and password stand. A password may hold an `@` or a `/` that nobody escaped: all before the last `@` is
/// taken for it, a question's part of the URL left out.
fn credentials(url: &str) -> Option<Range<usize>> {
    let start = url.find("://")? + 3;
    let end = url.get(start..)?.rfind('@')? + start;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cameras_password_is_shown_nowhere() {
        assert_eq!(shown("rtsp://admin:s3cret@10.0.0.9:554/live"), "rtsp://…@10.0.0.9:554/live");
        assert_eq!(shown("rtsp://admin:p@ss/w@10.0.0.9/live"), "rtsp://…@10.0.0.9/live");
        assert_eq!(shown("rtsp://10.0.0.9/live"), "rtsp://10.0.0.9/live");
        assert_eq!(shown("not a url"), "not a url");
        let mask = Mask::of("rtsp://admin:s3cret@10.0.0.9/live");
        assert_eq!(mask.hide("no answer of rtsp://admin:s3cret@10.0.0.9"), "no answer of rtsp://…@10.0.0.9");
        assert_eq!(mask.hide("s3cret is wrong"), "… is wrong");
        assert_eq!(Mask::of("rtsp://10.0.0.9/").hide("as it is"), "as it is");
    }
}
