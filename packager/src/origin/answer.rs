//! Answers: status, headers and body, with what every one of them has.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
        CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    access::Denied,
    body::Body,
    meter::Tally,
    range::{self, Range},
};

/// What framed bodies are (`docs/protocol/media.md`).
const FRAMES_TYPE: &str = "application/vnd.millstream.frames";

/// What has a number never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The same, for what not everybody may have.
const FOR_EVER_PRIVATE: &str = "private, max-age=31536000, immutable";

/// The answer to a blocking reload stays good for whoever asks for the same part a moment later.
const A_MOMENT: &str = "public, max-age=1";

/// How long a browser need not ask again whether it may ask; browsers take two hours at most.
const PREFLIGHT_SECONDS: &str = "86400";

/// A refusal: its status, and a line for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct No(pub(super) StatusCode, pub(super) &'static str);

impl From<No> for Answer {
    fn from(No(status, text): No) -> Self {
        Self::refuse(status, text)
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer(Response<Body>);

impl Answer {
    fn new(status: StatusCode, content_type: &'static str, cache: &'static str, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let mut answer = Self(response);
        answer.set(CONTENT_TYPE, content_type);
        answer.set(CACHE_CONTROL, cache);
        answer
    }

    /// A refusal, with a line for people.
    pub(super) fn refuse(status: StatusCode, text: &'static str) -> Self {
        let mut answer = Self::new(
            status,
            "text/plain; charset=utf-8",
            "no-store",
            Body::from(Bytes::from_static(text.as_bytes())),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.set(RETRY_AFTER, "1");
        }
        answer
    }

    /// Not now.
    pub(super) fn busy(text: &'static str) -> Self {
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    pub(super) fn denied(denied: Denied) -> Self {
        let (status, text, challenge) = match denied {
            Denied::Missing => (StatusCode::UNAUTHORIZED, "a token of the tracker is wanted\n", "Bearer"),
            Denied::Invalid => (
                StatusCode::UNAUTHORIZED,
                "the token is not valid, or no longer\n",
                "Bearer error=\"invalid_token\"",
            ),
            Denied::Other => (
                StatusCode::FORBIDDEN,
                "the token is for something else\n",
                "Bearer error=\"insufficient_scope\"",
            ),
        };
        let mut answer = Self::refuse(status, text);
        answer.set(WWW_AUTHENTICATE, challenge);
        answer
    }

    /// A playlist. `held`: it was asked for with what it must hold.
    pub(super) fn playlist(text: Bytes, held: bool) -> Self {
        let cache = if held { A_MOMENT } else { "no-cache" };
        Self::new(StatusCode::OK, millstream_playlist::CONTENT_TYPE, cache, Body::from(text))
    }

    /// Framed objects, for those who verify.
    pub(super) fn frames(body: Body) -> Self {
        Self::new(StatusCode::OK, FRAMES_TYPE, "no-store", body)
    }

    /// Media, which never changes.
    pub(super) fn bytes(parts: Vec<Bytes>, content_type: &'static str) -> Self {
        let mut answer = Self::new(StatusCode::OK, content_type, FOR_EVER, Body::from(parts));
        answer.set(ACCEPT_RANGES, "bytes");
        answer
    }

    /// Of media, the range that the request asks for.
    pub(super) fn ranged(mut self, headers: &HeaderMap) -> Self {
        let Some(length) = self.0.body().length() else { return self };
        match range::parse(headers, length) {
            Range::Whole => self,
            Range::Part { first, last } => {
                self.0.body_mut().cut(first, last);
                *self.0.status_mut() = StatusCode::PARTIAL_CONTENT;
                self.set_text(CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
                self
            }
            Range::None => {
                let mut answer =
                    Self::refuse(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies behind the end\n");
                answer.set_text(CONTENT_RANGE, &format!("bytes */{length}"));
                answer
            }
        }
    }

    /// The stream is not for everybody: nor is what is cached of it.
    pub(super) fn keep_private(&mut self) {
        let cache = match self.0.headers().get(CACHE_CONTROL).map(HeaderValue::as_bytes) {
            Some(value) if value == FOR_EVER.as_bytes() => FOR_EVER_PRIVATE,
            Some(value) if value == b"no-store" => return,
            _ => "private, no-cache",
        };
        self.set(CACHE_CONTROL, cache);
        self.0.headers_mut().append(VARY, HeaderValue::from_static("Authorization"));
    }

    pub(super) fn count(&mut self, tally: Tally) {
        self.0.body_mut().count(tally);
    }

    /// HEAD: everything but the body.
    pub(super) fn strip(&mut self) {
        if let Some(length) = self.0.body().length() {
            self.set_text(CONTENT_LENGTH, &length.to_string());
        }
        *self.0.body_mut() = Body::default();
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Adds what pages of other sites need to see it.
    pub(super) fn finish(mut self, origin: Option<&HeaderValue>, allowed: &[String]) -> Response<Body> {
        self.0.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
        let allow = match origin {
            _ if allowed.is_empty() => Some(HeaderValue::from_static("*")),
            Some(origin) => {
                allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
            None => None,
        };
        if let Some(allow) = allow {
            self.0.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow);
        }
        self.set(ACCESS_CONTROL_EXPOSE_HEADERS, "Content-Length, Content-Range, Date, Retry-After");
        self.set(X_CONTENT_TYPE_OPTIONS, "nosniff");
        self.0
    }

    fn set(&mut self, name: HeaderName, value: &'static str) {
        self.0.headers_mut().insert(name, HeaderValue::from_static(value));
    }

    fn set_text(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
    }
}

/// The answer to a browser that asks whether it may ask.
pub(super) fn preflight() -> Answer {
    let mut answer = Answer::refuse(StatusCode::NO_CONTENT, "");
    answer.0.headers_mut().remove(CONTENT_TYPE);
    answer.set(ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
    answer.set(ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range");
    answer.set(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    answer
}

/// Nothing here is changed over HTTP.
pub(super) fn only_get() -> Answer {
    let mut answer = Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    answer.set(ALLOW, "GET, HEAD, OPTIONS");
    answer
}
