//! Streams: made, listed, shown, changed, removed; the root key exported.

use std::sync::Arc;

use millstream_ledger::{Kind, Name, Terms};
use millstream_model::{Micros, Price, PublicKey, StreamId};
use serde::{Deserialize, Deserializer, Serialize};
use warp::{http::StatusCode, reply::Response};

use super::{
    Answer, Api,
    answer::{either, json, refuse},
    overview::{ROWS_MAX, viewers},
    stream_id,
};
use crate::{
    hub::now,
    streams::{Changes, Error, NewStream, Stream},
};

/// Media that a newcomer may be given at once and so may be paid for at most: the live window, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// The budget of those who set none.
const NO_LIMIT: Micros = Micros(i64::MAX);

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

/// What `PATCH /v1/streams/{id}` takes: what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wishes {
    /// For lanes that begin from now on.
    price_per_gib: Option<u32>,
    /// Micro-units a day; `null` for no limit.
    #[serde(default, deserialize_with = "said")]
    budget_per_day: Option<Option<i64>>,
    /// The hard stop: no grant is given or renewed.
    stopped: Option<bool>,
    public: Option<bool>,
    /// `null`: tickets are not asked for any more.
    #[serde(default, deserialize_with = "said")]
    ticket_key: Option<Option<PublicKey>>,
}

/// Tells `null` from what is left out.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Where a page of streams begins: behind this one, the last of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<StreamId>,
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
    /// Micro-units a day; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_per_day: Option<i64>,
    /// What was paid today (UTC), and what is set aside for lanes.
    spent_today: i64,
    reserved: i64,
    stopped: bool,
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

pub(super) async fn list(after: After, api: Arc<Api>) -> Response {
    let viewers = viewers(&api.hub);
    let page = api.hub.streams.page(after.after.as_ref(), ROWS_MAX);
    let all: Vec<Shown> = page
        .iter()
        .map(|stream| shown(&api, stream, viewers.get(&stream.id).copied().unwrap_or(0), None))
        .collect();
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
        budget_day: wanted.budget_per_day.map_or(NO_LIMIT, Micros),
        stopped: false,
        kind: Kind::Live { window_ms: WINDOW_MS },
    };
    let new =
        NewStream { id: wanted.id, account, public: wanted.public, ticket_key: wanted.ticket_key, terms };
    let created = api.hub.streams.create(new, now()).await.map_err(refusal)?;
    Ok(json(StatusCode::CREATED, &shown(&api, &created.stream, 0, Some(created.key))))
}

pub(super) async fn show(api: Arc<Api>, id: String) -> Response {
    either(stream_id(&id).and_then(|id| {
        let stream = api.hub.streams.get(&id).ok_or_else(|| refusal(Error::Unknown(id)))?;
        let viewers = viewers_of(&api, &stream.id);
        Ok(json(StatusCode::OK, &shown(&api, &stream, viewers, None)))
    }))
}

pub(super) async fn change(api: Arc<Api>, id: String, wishes: Wishes) -> Response {
    either(try_change(&api, &id, wishes).await)
}

async fn try_change(api: &Api, id: &str, wishes: Wishes) -> Answer {
    let id = stream_id(id)?;
    let changes = Changes {
        price: wishes.price_per_gib.map(Price),
        budget_day: wishes.budget_per_day.map(|budget| budget.map_or(NO_LIMIT, Micros)),
        stopped: wishes.stopped,
        public: wishes.public,
        ticket_key: wishes.ticket_key,
    };
    let stream = api.hub.streams.change(&id, changes).await.map_err(refusal)?;
    Ok(json(StatusCode::OK, &shown(api, &stream, viewers_of(api, &id), None)))
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
        Error::Exhausted(_) | Error::Exists(_) => StatusCode::CONFLICT,
        Error::Unknown(_) => StatusCode::NOT_FOUND,
        Error::Terms(_) => StatusCode::BAD_REQUEST,
        Error::Full | Error::Store(_) | Error::Random(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Box::new(refuse(status, error))
}

fn viewers_of(api: &Api, stream: &StreamId) -> usize {
    api.hub.sessions.iter().filter(|session| session.stream == *stream).count()
}

fn shown(api: &Api, stream: &Stream, viewers: usize, stream_key: Option<String>) -> Shown {
    let terms = api.hub.money.terms(&stream.id);
    let budget = terms.map(|terms| terms.budget_day).filter(|budget| *budget != NO_LIMIT);
    let (spent, reserved) = api.hub.money.spending(&stream.id).unwrap_or_default();
    Shown {
        id: stream.id.clone(),
        account: stream.account.to_string(),
        root_public_key: stream.root,
        price_per_gib: stream.price.0,
        budget_per_day: budget.map(|budget| budget.0),
        spent_today: spent.0,
        reserved: reserved.0,
        stopped: terms.is_some_and(|terms| terms.stopped),
        public: stream.public,
        ticketed: stream.ticket_key.is_some(),
        state: super::overview::state(&api.hub, &stream.id),
        viewers,
        created: stream.created.0,
        watch_url: format!("{}/watch/{}", api.public_url, stream.id),
        rtmp_url: api.config.rtmp_url.clone(),
        stream_key,
    }
}
