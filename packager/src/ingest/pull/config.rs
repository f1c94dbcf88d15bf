//! Which streams are fetched from where.

use millstream_model::StreamId;
use millstream_pipeline::demux;
use millstream_rtmp::StreamKey;
use millstream_service::Secret;
use serde::{Deserialize, Serialize};

use crate::gate::LocalStream;

/// A camera of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// The stream it is for.
    pub stream: StreamId,
    /// Where it is: `rtsp://[name:password@]host[:port]/path`, or `rtsps://`. Shown nowhere with its password.
    pub url: Secret<String>,
    /// The stream's key; that of the `local` stream when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret<String>>,
}

/// A camera that can be asked.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) stream: StreamId,
    pub(super) url: Secret<String>,
    pub(super) key: StreamKey,
}

/// Why a camera cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two of one stream.
    #[error("`pull` names the stream `{0}` twice; a stream has one publisher")]
    Twice(StreamId),
    /// No key is known.
    #[error("`pull` names the stream `{0}`, which is not among `local`; add it there, or give `key` here")]
    Key(StreamId),
    /// Not a key.
    #[error("the key of `pull` for the stream `{0}` is none: {1}")]
    Wrong(StreamId, millstream_rtmp::KeyError),
    /// Not a URL of a camera.
    #[error(
        "the `url` of `pull` for the stream `{0}` is none of a camera: it has to begin with rtsp:// or rtsps://"
    )]
    Url(StreamId),
}

impl Source {
    /// What the settings say, with keys.
    ///
    /// # Errors
    /// When they cannot be meant so.
    pub fn all(pulls: &[Pull], local: &[LocalStream]) -> Result<Vec<Self>, Error> {
        let mut sources: Vec<Self> = Vec::new();
        for Pull { stream, url, key } in pulls {
            if sources.iter().any(|source| source.stream == *stream) {
                return Err(Error::Twice(stream.clone()));
            }
            if !demux::is_camera(url.expose()) {
                return Err(Error::Url(stream.clone()));
            }
            let known = || local.iter().find(|local| local.stream == *stream).map(|local| &local.key);
            let key = key.as_ref().or_else(known).ok_or_else(|| Error::Key(stream.clone()))?;
            let key = StreamKey::parse(key.expose()).map_err(|error| Error::Wrong(stream.clone(), error))?;
            sources.push(Self { stream: stream.clone(), url: url.clone(), key });
        }
        Ok(sources)
    }

    /// Where it is, without name and password.
    pub(super) fn shown(&self) -> String {
        demux::shown(self.url.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(stream: &str, url: &str) -> Pull {
        Pull { stream: StreamId::new(stream).unwrap(), url: Secret::new(url.to_owned()), key: None }
    }

    fn local() -> Vec<LocalStream> {
        vec![LocalStream { stream: StreamId::new("cam").unwrap(), key: Secret::new("a-key".to_owned()) }]
    }

    #[test]
    fn a_camera_has_the_key_of_its_local_stream_or_its_own() {
        let source =
            Source::all(&[pull("cam", "rtsp://admin:s3cret@camera/live")], &local()).unwrap().remove(0);
        assert_eq!(source.key.expose(), "a-key");
        assert_eq!(source.shown(), "rtsp://…@camera/live");
        assert!(!format!("{source:?}").contains("s3cret"));
        let own = Pull { key: Some(Secret::new("own-key".to_owned())), ..pull("gate", "rtsps://camera/") };
        assert_eq!(Source::all(&[own], &[]).unwrap()[0].key.expose(), "own-key");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (pulls, text) in [
            (vec![pull("cam", "rtsp://a/"), pull("cam", "rtsp://b/")], "twice"),
            (vec![pull("gate", "rtsp://a/")], "not among `local`"),
            (vec![pull("cam", "http://user:s3cret@a/")], "rtsp://"),
        ] {
            let error = Source::all(&pulls, &local()).unwrap_err().to_string();
            assert!(error.contains(text) && !error.contains("s3cret"), "{error}");
        }
    }
}
