//! What goes on: for the start page and for operators. No secrets, no addresses of viewers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use millstream_model::{EdgeId, SessionId, StreamId};
use millstream_wire::tracker::State;
use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode},
    reply::Response,
};

use super::{Api, answer::json};
use crate::hub::{Hub, ViewerReport, now};

/// Rows of a list at most.
pub(super) const ROWS_MAX: usize = 1_000;

/// How long an overview is shown again: start pages ask every two seconds, and anybody may ask more often.
const FRESH: Duration = Duration::from_secs(1);

/// The overview as it was last made, for all who ask within [`FRESH`].
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Option<(Instant, bytes::Bytes)>>);

impl Shown {
    /// The overview as an answer, made anew when it is old. Whoever asks meanwhile waits for it.
    pub(super) fn answer(&self, hub: &Hub) -> Response {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body = match &*known {
            Some((at, body)) if at.elapsed() < FRESH => body.clone(),
            _ => {
                let body = bytes::Bytes::from(serde_json::to_vec(&of(hub)).unwrap_or_default());
                *known = Some((Instant::now(), body.clone()));
                body
            }
        };
        let mut response = Response::new(body.into());
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        response
    }
}

/// Everything the start page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    time: u64,
    streams: Vec<StreamLine>,
    edges: Vec<EdgeLine>,
    viewers: usize,
    earned: i64,
}

#[derive(Debug, Serialize)]
struct StreamLine {
    id: StreamId,
    state: &'static str,
    viewers: usize,
    price_per_gib: u32,
    since: u64,
    renditions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct EdgeLine {
    id: EdgeId,
    operator: String,
    viewers: u32,
    viewers_max: u32,
    sending: u64,
    capacity: u64,
    warm: Vec<StreamId>,
    draining: bool,
    behind_nat: bool,
    since: u64,
    version: String,
    /// Micro-units the operator has earned in all.
    earned: i64,
}

#[derive(Debug, Serialize)]
struct SessionLine {
    id: SessionId,
    stream: StreamId,
    joined: u64,
    edges: Vec<EdgeId>,
    report: ViewerReport,
}

/// The state of a stream in one word.
pub(super) fn state(hub: &Hub, stream: &StreamId) -> &'static str {
    let state = hub.carried.get(stream).map(|carried| carried.state);
    match (hub.origin(stream), state) {
        (Some(_), Some(State::Live)) => "live",
        (Some(_), Some(State::Away)) => "away",
        _ => "offline",
    }
}

/// How many viewers each stream has.
pub(super) fn viewers(hub: &Hub) -> HashMap<StreamId, usize> {
    let mut viewers = HashMap::new();
    for session in &hub.sessions {
        match viewers.get_mut(&session.stream) {
            Some(count) => *count += 1,
            None => drop(viewers.insert(session.stream.clone(), 1)),
        }
    }
    viewers
}

/// Everything the start page shows.
pub(crate) fn of(hub: &Hub) -> Overview {
    let viewers = viewers(hub);
    let streams = hub.streams.page(None, ROWS_MAX).into_iter().map(|stream| {
        let carried = hub.carried.get(&stream.id);
        let catalog = carried.as_ref().and_then(|carried| carried.catalog.as_ref());
        let renditions = catalog.map(|catalog| &catalog.unverified().renditions);
        StreamLine {
            state: state(hub, &stream.id),
            viewers: viewers.get(&stream.id).copied().unwrap_or(0),
            price_per_gib: stream.price.0,
            since: carried.as_ref().map_or(0, |carried| carried.since.0),
            renditions: renditions.into_iter().flatten().map(|r| r.name.clone()).collect(),
            id: stream.id,
        }
    });
    let edges = edge_lines(hub);
    Overview {
        time: now().0,
        streams: streams.collect(),
        viewers: hub.sessions.len(),
        earned: edges.iter().map(|edge| edge.earned).sum(),
        edges,
    }
}

fn edge_lines(hub: &Hub) -> Vec<EdgeLine> {
    let mut lines: Vec<EdgeLine> = hub
        .edges
        .iter()
        .take(ROWS_MAX)
        .map(|edge| EdgeLine {
            id: *edge.key(),
            operator: edge.operator.to_string(),
            viewers: edge.viewers,
            viewers_max: edge.viewers_max,
            sending: edge.sending.0,
            capacity: edge.capacity.0,
            warm: edge.warm.clone(),
            draining: edge.draining,
            behind_nat: edge.address.behind_nat,
            since: edge.since.0,
            version: edge.version.clone(),
            earned: hub.money.earned(&edge.operator).0,
        })
        .collect();
    lines.sort_by_key(|edge| (edge.since, edge.id));
    lines
}

pub(super) async fn edges(api: Arc<Api>) -> Response {
    json(StatusCode::OK, &serde_json::json!({ "edges": edge_lines(&api.hub) }))
}

pub(super) async fn sessions(api: Arc<Api>) -> Response {
    let lines: Vec<SessionLine> = api
        .hub
        .sessions
        .iter()
        .take(ROWS_MAX)
        .map(|session| SessionLine {
            id: *session.key(),
            stream: session.stream.clone(),
            joined: session.joined.0,
            edges: session.edges.clone(),
            report: session.report.clone(),
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "sessions": lines, "total": api.hub.sessions.len() }))
}
