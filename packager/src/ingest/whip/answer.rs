//! What HTTP says to publishers (RFC 9725 §4), and the headers that let pages of other sites ask.
//!
//! Any site may: what counts is the key, which browsers add to nothing by themselves.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION,
        RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use http_body_util::Full;

/// What is sent back.
pub(super) type Answer = Response<Full<Bytes>>;

/// The type of offers and answers.
pub(super) const SDP: &str = "application/sdp";

const ENDPOINT_METHODS: &str = "POST, OPTIONS";
const SESSION_METHODS: &str = "DELETE, OPTIONS";

/// How long a browser need not ask again whether it may ask; browsers take two hours at most.
const PREFLIGHT_SECONDS: &str = "86400";

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    set(&mut answer, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut answer, ACCESS_CONTROL_EXPOSE_HEADERS, "Location");
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// A refusal, with a line for people.
pub(super) fn refuse(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut line = text.into();
    line.push('\n');
    let mut answer = answer(status, line);
    set(&mut answer, CONTENT_TYPE, "text/plain; charset=utf-8");
    match status {
        StatusCode::UNAUTHORIZED => set(&mut answer, WWW_AUTHENTICATE, "Bearer"),
        StatusCode::SERVICE_UNAVAILABLE => set(&mut answer, RETRY_AFTER, "2"),
        _ => {}
    }
    answer
}

/// The publisher may send.
pub(super) fn created(session: &str, sdp: String) -> Answer {
    let mut answer = answer(StatusCode::CREATED, sdp);
    set(&mut answer, CONTENT_TYPE, SDP);
    // An id is letters and digits.
    if let Ok(location) = HeaderValue::from_str(&format!("/whip/{session}")) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// The publisher has ended it.
pub(super) fn ended() -> Answer {
    answer(StatusCode::OK, Bytes::new())
}

/// Another method. Trickled candidates and restarts (PATCH) are such: all of ours are in the answer, and a publisher's
/// are seen when it connects.
pub(super) fn other_method(is_session: bool) -> Answer {
    let mut answer =
        refuse(StatusCode::METHOD_NOT_ALLOWED, "this is a WHIP endpoint: POST an offer, DELETE a session");
    set(&mut answer, ALLOW, if is_session { SESSION_METHODS } else { ENDPOINT_METHODS });
    answer
}

/// What a browser asks before it asks.
pub(super) fn preflight(is_session: bool) -> Answer {
    let mut answer = answer(StatusCode::NO_CONTENT, Bytes::new());
    let methods = if is_session { SESSION_METHODS } else { ENDPOINT_METHODS };
    set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, methods);
    set(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type");
    set(&mut answer, ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    set(&mut answer, HeaderName::from_static("accept-post"), SDP);
    answer
}
