//! The HTTP API under `/v1`: JSON, described by `/v1/openapi.json`.

mod accounts;
mod answer;
mod overview;
mod packager;
mod streams;

use std::sync::Arc;

use millstream_service::{Secret, http::Peer};
use millstream_wire::tracker::FaultCode;
use warp::{
    Filter,
    http::{HeaderValue, StatusCode},
    reject::Rejection,
    reply::Response,
};

pub(crate) use answer::recover;
pub(crate) use overview::of as overview;

use self::answer::{Outcome, json, refuse};
use crate::{
    config::Config,
    hub::{Hub, fault},
};

/// Bytes of a request's body at most: a packager's report is the longest.
const BODY_BYTES_MAX: u64 = millstream_wire::tracker::REPORT_BYTES_MAX as u64;

/// How long a browser need not ask again whether it may ask; browsers take two hours at most.
const PREFLIGHT_SECONDS: &str = "7200";

/// The description of this API.
const OPENAPI: &str = include_str!("openapi.json");

/// What the routes share.
pub(crate) struct Api {
    pub(crate) hub: Arc<Hub>,
    pub(crate) admin: Secret<String>,
    pub(crate) packager: Secret<String>,
    pub(crate) config: Config,
    pub(crate) public_url: String,
    shown: overview::Shown,
}

impl Api {
    pub(crate) fn new(
        hub: Arc<Hub>,
        admin: Secret<String>,
        packager: Secret<String>,
        config: Config,
        public_url: String,
    ) -> Self {
        Self { hub, admin, packager, config, public_url, shown: overview::Shown::default() }
    }
}

/// All routes of the API.
pub(crate) fn routes(
    api: &Arc<Api>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let openapi = warp::path!("v1" / "openapi.json").and(warp::get()).map(|| {
        warp::http::Response::builder()
            .header("content-type", "application/json")
            .body(OPENAPI.into())
            .unwrap_or_default()
    });
    let open_overview = api.config.open_overview;
    let shown = Arc::clone(api);
    let overview = warp::path!("v1" / "overview")
        .and(warp::get())
        .and(warp::header::optional::<String>("authorization"))
        .map(move |authorization: Option<String>| {
            if !open_overview && !allowed(&shown.admin, authorization.as_deref()) {
                return refuse(StatusCode::UNAUTHORIZED, "the admin token is wanted as a bearer token");
            }
            shown.shown.answer(&shown.hub)
        });
    let watch = watch(api);

    let list = warp::path!("v1" / "streams")
        .and(warp::get())
        .and(warp::query::<streams::After>())
        .and(admin(api))
        .then(streams::list);
    let create =
        warp::path!("v1" / "streams").and(warp::post()).and(admin(api)).and(body()).then(streams::create);
    let show = warp::path!("v1" / "streams" / String)
        .and(warp::get())
        .and(admin(api))
        .then(|id, api| async move { streams::show(api, id).await });
    let change = warp::path!("v1" / "streams" / String)
        .and(warp::patch())
        .and(admin(api))
        .and(body())
        .then(|id, api, body| async move { streams::change(api, id, body).await });
    let remove = warp::path!("v1" / "streams" / String)
        .and(warp::delete())
        .and(admin(api))
        .then(|id, api| async move { streams::remove(api, id).await });
    let root = warp::path!("v1" / "streams" / String / "root")
        .and(warp::get())
        .and(admin(api))
        .then(|id, api| async move { streams::root(api, id).await });
    let accounts = warp::path!("v1" / "accounts").and(warp::get()).and(admin(api)).then(accounts::list);
    let fund = warp::path!("v1" / "accounts" / String / "fund")
        .and(warp::post())
        .and(admin(api))
        .and(body())
        .then(|name, api, body| async move { accounts::fund(api, name, body).await });
    let audit = warp::path!("v1" / "audit").and(warp::get()).and(admin(api)).then(accounts::audit);
    let edges = warp::path!("v1" / "edges").and(warp::get()).and(admin(api)).then(overview::edges);
    let sessions = warp::path!("v1" / "sessions").and(warp::get()).and(admin(api)).then(overview::sessions);
    let earnings = warp::path!("v1" / "earnings").and(warp::get()).and(admin(api)).then(accounts::earnings);
    let earned = warp::path!("v1" / "earnings" / String)
        .and(warp::get())
        .and(warp::query::<accounts::Before>())
        .and(admin(api))
        .then(accounts::earned);
    let refusals = warp::path!("v1" / "edges" / String / "refusals")
        .and(warp::get())
        .and(warp::query::<accounts::Before>())
        .and(admin(api))
        .then(accounts::refusals);
    let lanes = warp::path!("v1" / "earnings" / String / u64)
        .and(warp::get())
        .and(warp::query::<accounts::After>())
        .and(admin(api))
        .then(accounts::lanes);

    let admit = warp::path!("v1" / "packager" / "admit")
        .and(warp::post())
        .and(bearer(api, |api| &api.packager))
        .and(body())
        .then(packager::admit);
    let report = warp::path!("v1" / "packager" / "report")
        .and(warp::post())
        .and(bearer(api, |api| &api.packager))
        .and(body())
        .then(packager::report);

    openapi
        .or(overview)
        .unify()
        .or(watch)
        .unify()
        .or(list.or(create).unify().or(show).unify().or(change).unify().or(remove).unify().or(root).unify())
        .unify()
        .or(accounts
            .or(fund)
            .unify()
            .or(audit)
            .unify()
            .or(earnings.or(earned).unify().or(lanes).unify())
            .unify())
        .unify()
        .or(edges.or(refusals).unify().or(sessions).unify())
        .unify()
        .or(admit.or(report).unify())
        .unify()
}

/// Where a player without a session finds a stream. Players on any page ask, those with a ticket with a preflight.
fn watch(api: &Arc<Api>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let plain = Arc::clone(api);
    let ask = warp::path!("v1" / "watch" / String)
        .and(warp::get())
        .and(warp::header::optional::<String>("authorization"))
        .and(warp::ext::get::<Peer>())
        .then(move |id: String, authorization: Option<String>, peer: Peer| {
            let api = Arc::clone(&plain);
            async move {
                let id = match stream_id(&id) {
                    Ok(id) => id,
                    Err(refusal) => return for_any_page(*refusal),
                };
                let ticket = authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
                for_any_page(match api.hub.plain(&id, ticket, peer.address.ip()).await {
                    Ok(plain) => json(StatusCode::OK, &plain),
                    Err(why) => answer::fault(&why),
                })
            }
        });
    let may_ask = warp::path!("v1" / "watch" / String).and(warp::options()).map(|_: String| {
        let mut response = for_any_page(Response::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert("access-control-allow-headers", HeaderValue::from_static("Authorization"));
        headers.insert("access-control-max-age", HeaderValue::from_static(PREFLIGHT_SECONDS));
        response
    });
    ask.or(may_ask).unify()
}

fn for_any_page(mut response: Response) -> Response {
    response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("*"));
    response
}

/// A JSON body of bounded length.
fn body<T: serde::de::DeserializeOwned + Send>() -> impl Filter<Extract = (T,), Error = Rejection> + Copy {
    warp::body::content_length_limit(BODY_BYTES_MAX).and(warp::body::json())
}

fn admin(api: &Arc<Api>) -> impl Filter<Extract = (Arc<Api>,), Error = Rejection> + Clone + use<> {
    bearer(api, |api| &api.admin)
}

/// Passes on requests that show the token.
fn bearer(
    api: &Arc<Api>,
    token: fn(&Api) -> &Secret<String>,
) -> impl Filter<Extract = (Arc<Api>,), Error = Rejection> + Clone + use<> {
    let api = Arc::clone(api);
    warp::header::optional::<String>("authorization").and_then(move |authorization: Option<String>| {
        let api = Arc::clone(&api);
        async move {
            if allowed(token(&api), authorization.as_deref()) {
                Ok(api)
            } else {
                Err(warp::reject::custom(answer::Unauthorized))
            }
        }
    })
}

fn allowed(token: &Secret<String>, authorization: Option<&str>) -> bool {
    let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| token.matches(given.as_bytes()))
}

/// Parses a path's stream id.
fn stream_id(text: &str) -> Result<millstream_model::StreamId, Box<Response>> {
    text.parse().map_err(|error: millstream_model::SlugError| {
        Box::new(answer::fault(&fault(FaultCode::BadRequest, error)))
    })
}

type Answer = Outcome<Response>;
