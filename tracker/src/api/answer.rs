//! What the API answers with: JSON, and faults with a code for programs and a text for people.

use std::convert::Infallible;

use millstream_wire::tracker::{Fault, FaultCode};
use serde::Serialize;
use warp::{
    Reply,
    http::{HeaderValue, StatusCode},
    reject::{Reject, Rejection},
    reply::Response,
};

/// An answer, or a refusal that is an answer too.
pub(super) type Outcome<T> = Result<T, Box<Response>>;

/// The token is missing or wrong.
#[derive(Debug)]
pub(super) struct Unauthorized;

impl Reject for Unauthorized {}

/// A JSON answer. Nothing here may be cached: it is about now, or about money.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(value), status).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

/// A refusal by HTTP status.
pub(super) fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Response {
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::CONFLICT => "conflict",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        status if status.is_client_error() => "bad_request",
        _ => "unavailable",
    };
    json(status, &serde_json::json!({ "code": code, "message": message.to_string() }))
}

/// A tracker fault as HTTP.
pub(super) fn fault(fault: &Fault) -> Response {
    let status = match fault.code {
        FaultCode::BadRequest => StatusCode::BAD_REQUEST,
        FaultCode::UnknownStream | FaultCode::NotLive => StatusCode::NOT_FOUND,
        FaultCode::BadTicket | FaultCode::BadProof | FaultCode::BadKey => StatusCode::FORBIDDEN,
        FaultCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        FaultCode::NoFunds => StatusCode::PAYMENT_REQUIRED,
        FaultCode::Busy => StatusCode::CONFLICT,
        FaultCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, fault)
}

/// The two ways of an outcome are both answers.
pub(super) fn either(outcome: Outcome<Response>) -> Response {
    outcome.unwrap_or_else(|refusal| *refusal)
}

/// Says what was wrong with a request that no route took.
pub(crate) async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    if rejection.find::<Unauthorized>().is_some() {
        let mut response = refuse(StatusCode::UNAUTHORIZED, "the right token is wanted as a bearer token");
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        return Ok(response);
    }
    if let Some(error) = rejection.find::<warp::body::BodyDeserializeError>() {
        return Ok(refuse(StatusCode::BAD_REQUEST, error));
    }
    if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"));
    }
    if rejection.find::<warp::reject::LengthRequired>().is_some() {
        return Ok(refuse(StatusCode::LENGTH_REQUIRED, "say the body's length"));
    }
    if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method"));
    }
    Ok(refuse(StatusCode::NOT_FOUND, "there is nothing at this path; /v1/openapi.json lists what there is"))
}
