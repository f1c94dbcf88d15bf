//! Packagers: may this publisher publish, and what is carried.

use std::sync::Arc;

use millstream_model::PublicKey;
use millstream_wire::tracker::{Admit, Admitted, Fault, FaultCode, RUNS_MAX, Reported, State, StreamReport};
use serde::Deserialize;
use serde_json::Value;
use warp::{http::StatusCode, reply::Response};

use super::{
    Answer, Api,
    answer::{self, either, json},
};
use crate::{
    hub::{Carried, fault, now},
    streams,
};

/// Characters of an origin's URL at most.
const URL_CHARS_MAX: usize = 256;

/// A carrier that was not heard for so long is not in the way of another.
const CARRIER_SILENT_MS: u64 = 5_000;

/// A report as it comes. Its lines are read one by one, so that one that cannot be read costs no other.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    packager: PublicKey,
    origin: String,
    streams: Vec<Value>,
}

pub(super) async fn admit(api: Arc<Api>, admit: Admit) -> Response {
    either(try_admit(&api, admit).await)
}

async fn try_admit(api: &Api, admit: Admit) -> Answer {
    let hub = &api.hub;
    let refuse = |code, why: &dyn std::fmt::Display| Box::new(answer::fault(&fault(code, why)));
    let origin = admit.origin;
    check_origin(&origin).map_err(|why| Box::new(answer::fault(&why)))?;
    let stream = hub
        .streams
        .by_key(&admit.stream_key)
        .ok_or_else(|| refuse(FaultCode::BadKey, &"no stream has this key"))?;
    let before = hub.streams.carrier(&stream.id).and_then(|carrier| carrier.packager);
    let takes_over = before != Some(admit.packager);
    let is_live = hub.carried.get(&stream.id).is_some_and(|carried| {
        carried.state == State::Live && now().millis_since(carried.heard) < CARRIER_SILENT_MS
    });
    if takes_over && is_live {
        return Err(refuse(FaultCode::Busy, &"another packager carries this stream"));
    }
    let time = now();
    let delegated = hub.streams.delegate(&stream.id, admit.packager, admit.generation, time).await;
    let delegation = delegated.map_err(|error| match error {
        streams::Error::Exhausted(_) => refuse(FaultCode::BadRequest, &error),
        _ => refuse(FaultCode::Unavailable, &error),
    })?;
    tracing::info!(stream = %stream.id, %origin, "publisher admitted");
    {
        let mut carried = hub.carried.entry(stream.id.clone()).or_insert_with(|| Carried {
            origin: String::new(),
            state: State::Away,
            catalog: None,
            since: time,
            heard: time,
        });
        if takes_over || carried.state == State::Ended {
            (carried.state, carried.catalog) = (State::Away, None);
        }
        (carried.origin, carried.heard) = (origin, time);
    }
    let admitted = Admitted {
        stream: stream.id,
        delegation,
        root: stream.root,
        tracker: hub.id(),
        public: stream.public,
        time,
    };
    Ok(json(StatusCode::OK, &admitted))
}

pub(super) async fn report(api: Arc<Api>, report: Report) -> Response {
    let time = now();
    if let Err(why) = check_origin(&report.origin) {
        return answer::fault(&why);
    }
    let (mut wanted, mut gone) = (Vec::new(), Vec::new());
    for line in report.streams.into_iter().filter_map(read) {
        let Some(carrier) = api.hub.streams.carrier(&line.stream) else {
            api.hub.carried.remove(&line.stream);
            gone.push(line.stream);
            continue;
        };
        if carrier.counts(report.packager, &line) {
            for published in line.published.iter().take(RUNS_MAX) {
                if let Err(refused) = api.hub.money.published(&line.stream, *published) {
                    tracing::debug!(stream = %line.stream, "{refused}");
                }
            }
        }
        if !carrier.speaks(report.packager, &line) {
            tracing::debug!(stream = %line.stream, packager = %report.packager, "another packager has it now");
            continue;
        }
        let mut carried = api.hub.carried.entry(line.stream.clone()).or_insert_with(|| Carried {
            origin: report.origin.clone(),
            state: line.state,
            catalog: None,
            since: time,
            heard: time,
        });
        if carried.state != State::Live && line.state == State::Live {
            carried.since = time;
        }
        carried.origin.clone_from(&report.origin);
        carried.state = line.state;
        carried.heard = time;
        if line.catalog.is_some() {
            carried.catalog = line.catalog;
        } else if carried.catalog.is_none() {
            wanted.push(line.stream);
        }
    }
    json(StatusCode::OK, &Reported { time, wanted, gone })
}

/// One line of a report. A catalog that cannot be read does not cost the stream its state and its counts.
fn read(mut line: Value) -> Option<StreamReport> {
    let error = match StreamReport::deserialize(&line) {
        Ok(line) => return Some(line),
        Err(error) => error,
    };
    tracing::warn!(%error, "a line of a packager's report cannot be read");
    line.as_object_mut()?.remove("catalog")?;
    StreamReport::deserialize(&line).ok()
}

fn check_origin(origin: &str) -> Result<(), Fault> {
    let is_url = origin.starts_with("http://") || origin.starts_with("https://");
    if !is_url || origin.ends_with('/') || origin.len() > URL_CHARS_MAX {
        let right = "an origin is a URL that begins with http:// or https:// and ends without a slash";
        return Err(fault(FaultCode::BadRequest, right));
    }
    Ok(())
}
