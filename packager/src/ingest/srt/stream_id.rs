//! Finds the stream key in what an SRT caller says of itself.
//!
//! Three forms: the key alone, `publish:` before it, and the access-control syntax of SRT
//! (`#!::r=<key>,m=publish`; draft-sharabayko-srt-01 appendix B). What never belongs here: whose key it is.

use millstream_rtmp::{KeyError, StreamKey};

/// Bytes of a stream id at most; SRT has no longer ones.
const STREAM_ID_BYTES_MAX: usize = 512;

/// What begins the access-control syntax.
const ACCESS_CONTROL: &str = "#!::";

/// What others call the place of publishers; some encoders put it before each name.
const APP: &str = "live/";

/// Why a stream id holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Nothing where the key belongs.
    #[error("the stream id holds no key; publish to srt://host:port?streamid=publish:<stream key>")]
    Missing,
    /// It wants to be sent something.
    #[error("this port is for publishers; play by HTTP")]
    Player,
    /// Not text, too long, or not in the syntax.
    #[error("the stream id is not understood; publish to srt://host:port?streamid=publish:<stream key>")]
    Syntax,
    /// There is something, but it can be no key.
    #[error("{0}")]
    Key(KeyError),
}

/// The key in `stream_id`.
pub(super) fn key(stream_id: &[u8]) -> Result<StreamKey, Error> {
    if stream_id.len() > STREAM_ID_BYTES_MAX {
        return Err(Error::Syntax);
    }
    let text = std::str::from_utf8(stream_id).map_err(|_| Error::Syntax)?.trim_end_matches('\0');
    let key = match text.strip_prefix(ACCESS_CONTROL) {
        Some(fields) => resource(fields)?,
        None if text.starts_with("#!") => return Err(Error::Syntax),
        None => match text.split_once(':') {
            Some(("publish", key)) => key,
            Some(("read" | "play" | "request", _)) => return Err(Error::Player),
            _ => text,
        },
    };
    StreamKey::parse(key.strip_prefix(APP).unwrap_or(key)).map_err(|error| match error {
        KeyError::Empty => Error::Missing,
        error => Error::Key(error),
    })
}

/// The resource that is to be published.
fn resource(fields: &str) -> Result<&str, Error> {
    let mut resource = None;
    // What SRT takes it for when nothing is said.
    let mut mode = "request";
    for field in fields.split(',').filter(|field| !field.is_empty()) {
        match field.split_once('=').ok_or(Error::Syntax)? {
            ("r", value) => resource = Some(value),
            ("m", value) => mode = value,
            // User, host, session and types are of no matter here, nor is what others invent.
            _ => {}
        }
    }
    if mode != "publish" {
        return Err(Error::Player);
    }
    resource.ok_or(Error::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stream_id: &str) -> Result<String, Error> {
        key(stream_id.as_bytes()).map(|key| key.expose().to_owned())
    }

    #[test]
    fn a_key_is_found_in_each_form_that_encoders_send() {
        for stream_id in [
            "ms_secret",
            "publish:ms_secret",
            "#!::r=ms_secret,m=publish",
            "#!::m=publish,u=admin,r=ms_secret,h=host.example,t=stream",
            "#!::r=live/ms_secret,m=publish",
            "live/ms_secret",
            "ms_secret\0\0",
        ] {
            assert_eq!(found(stream_id), Ok("ms_secret".to_owned()), "{stream_id}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        for (stream_id, error) in [
            ("", Error::Missing),
            ("publish:", Error::Missing),
            ("#!::m=publish", Error::Missing),
            ("#!::r=ms_secret", Error::Player),
            ("#!::r=ms_secret,m=request", Error::Player),
            ("read:ms_secret", Error::Player),
            ("#!:{r=ms_secret,m=publish}", Error::Syntax),
            ("#!::r", Error::Syntax),
            ("a key", Error::Key(KeyError::Characters)),
        ] {
            assert_eq!(found(stream_id), Err(error), "{stream_id}");
        }
        assert_eq!(key(&[0xff, 0xfe]), Err(Error::Syntax));
        assert_eq!(key(&[b'k'; 513]), Err(Error::Syntax));
    }
}
