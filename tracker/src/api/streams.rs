//! Streams: made, listed, shown, removed; the root key exported.

use std::sync::Arc;

use millstream_ledger::{Kind, Name, Terms};
use millstream_model::{Micros, Price, PublicKey, StreamId};
use serde::{Deserialize, Serialize};
use warp::{http::StatusCode, reply::Response};

use super::{
    Answer, Api,
    answer::{either, json, refuse},
    stream_id,
};
use crate::{
    hub::now,
    streams::{Error, NewStream, Stream},
};

/// Media that a newcomer may be given at once and so may be paid for at most: the live window, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// What `POST /v1/streams` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    id: StreamId,
    /// Who pays.
    account: String,
    /// Micro-units per GiB delivered.
    #[serde(default)]
    price_per_gib: u32,
    /// Micro-units a day; no limit when it is left out.
    #[serde(default)]
    budget_per_day: Option<i64>,
    /// Anybody may fetch from the origin.
    #[serde(default = "yes")]
    public: bool,
    /// Ed25519 public key that signs tickets, base64url; without it, anybody may join.
    #[serde(default)]
    ticket_key: Option<PublicKey>,
}

const fn yes() -> bool {
    true
}

/// A stream as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: StreamId,
    account: String,
    root_public_key: PublicKey,
    price_per_gib: u32,
    public: bool,
    ticketed: bool,
    state: &'static str,
    viewers: usize,
    created: u64,
    watch_url: String,
    /// Where to publish: `rtmp_url`/`stream_key`. The key is shown only when the stream is made.
    rtmp_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_key: Option<String>,
}

pub(super) async fn list(api: Arc<Api>) -> Response {
    let all: Vec<Shown> = api.hub.streams.all().iter().map(|stream| shown(&api, stream, None)).collect();
    json(StatusCode::OK, &serde_json::json!({ "streams": all }))
}

pub(super) async fn create(api: Arc<Api>, wanted: Wanted) -> Response {
    either(try_create(api, wanted).await)
}

async fn try_create(api: Arc<Api>, wanted: Wanted) -> Answer {
    let account =
        Name::new(&wanted.account).map_err(|error| Box::new(refuse(StatusCode::BAD_REQUEST, error)))?;
    let terms = Terms {
        price: Price(wanted.price_per_gib),
        budget_day: wanted.budget_per_day.map_or(Micros(i64::MAX), Micros),
        stopped: false,
        kind: Kind::Live { window_ms: WINDOW_MS },
    };
    let new =
        NewStream { id: wanted.id, account, public: wanted.public, ticket_key: wanted.ticket_key, terms };
    let created = api.hub.streams.create(new, now()).await.map_err(refusal)?;
    Ok(json(StatusCode::CREATED, &shown(&api, &created.stream, Some(created.key))))
}

pub(super) async fn show(api: Arc<Api>, id: String) -> Response {
    either(stream_id(&id).and_then(|id| {
        let stream = api.hub.streams.get(&id).ok_or_else(|| refusal(Error::Unknown(id)))?;
        Ok(json(StatusCode::OK, &shown(&api, &stream, None)))
    }))
}

pub(super) async fn remove(api: Arc<Api>, id: String) -> Response {
    let id = match stream_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    match api.hub.streams.remove(&id).await {
        Ok(()) => json(StatusCode::OK, &serde_json::json!({ "removed": id })),
        Err(error) => *refusal(error),
    }
}

/// The secret half of the root key: whoever has it speaks for the stream.
pub(super) async fn root(api: Arc<Api>, id: String) -> Response {
    use base64::Engine as _;
    either(stream_id(&id).and_then(|id| {
        let seed = api.hub.streams.export_root(&id).ok_or_else(|| refusal(Error::Unknown(id)))?;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(seed);
        Ok(json(StatusCode::OK, &serde_json::json!({ "root_secret_seed": text })))
    }))
}

fn refusal(error: Error) -> Box<Response> {
    let status = match &error {
        Error::Exists(_) => StatusCode::CONFLICT,
        Error::Unknown(_) => StatusCode::NOT_FOUND,
        Error::Terms(_) => StatusCode::BAD_REQUEST,
        Error::Full | Error::Store(_) | Error::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Box::new(refuse(status, error))
}

fn shown(api: &Api, stream: &Stream, stream_key: Option<String>) -> Shown {
    Shown {
        id: stream.id.clone(),
        account: stream.account.to_string(),
        root_public_key: stream.root,
        price_per_gib: stream.price.0,
        public: stream.public,
        ticketed: stream.ticket_key.is_some(),
        state: super::overview::state(&api.hub, &stream.id),
        viewers: api.hub.sessions.iter().filter(|session| session.stream == stream.id).count(),
        created: stream.created.0,
        watch_url: format!("{}/watch/{}", api.public_url, stream.id),
        rtmp_url: api.config.rtmp_url.clone(),
        stream_key,
    }
}
