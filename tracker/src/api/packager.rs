//! Packagers: may this publisher publish, and what is carried.

use std::sync::Arc;

use millstream_wire::tracker::{Admit, Admitted, Fault, FaultCode, PackagerReport, State};
use warp::{http::StatusCode, reply::Response};

use super::{
    Answer, Api,
    answer::{self, either, json},
};
use crate::hub::{Carried, fault, now};

/// Characters of an origin's URL at most.
const URL_CHARS_MAX: usize = 256;

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
    let elsewhere = hub.carried.get(&stream.id).is_some_and(|carried| {
        carried.state == State::Live && carried.origin != origin && now().millis_since(carried.heard) < 5_000
    });
    if elsewhere {
        return Err(refuse(FaultCode::Busy, &"another packager carries this stream"));
    }
    let time = now();
    let delegation = hub
        .streams
        .delegate(&stream.id, admit.packager, admit.generation, time)
        .await
        .map_err(|error| refuse(FaultCode::Unavailable, &error))?;
    tracing::info!(stream = %stream.id, %origin, "publisher admitted");
    let carried = Carried { origin, state: State::Away, catalog: None, since: time, heard: time };
    hub.carried.entry(stream.id.clone()).or_insert(carried);
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

pub(super) async fn report(api: Arc<Api>, report: PackagerReport) -> Response {
    let time = now();
    if let Err(why) = check_origin(&report.origin) {
        return answer::fault(&why);
    }
    let origin = report.origin;
    let mut gone = Vec::new();
    for line in report.streams {
        if api.hub.streams.get(&line.stream).is_none() {
            api.hub.carried.remove(&line.stream);
            gone.push(line.stream);
            continue;
        }
        for published in &line.published {
            if let Err(refused) = api.hub.money.published(&line.stream, *published) {
                tracing::debug!(stream = %line.stream, "{refused}");
            }
        }
        let mut carried = api.hub.carried.entry(line.stream.clone()).or_insert_with(|| Carried {
            origin: origin.clone(),
            state: line.state,
            catalog: None,
            since: time,
            heard: time,
        });
        if carried.state != State::Live && line.state == State::Live {
            carried.since = time;
        }
        carried.origin.clone_from(&origin);
        carried.state = line.state;
        carried.heard = time;
        if line.catalog.is_some() {
            carried.catalog = line.catalog;
        }
    }
    json(StatusCode::OK, &serde_json::json!({ "time": time, "gone": gone }))
}

fn check_origin(origin: &str) -> Result<(), Fault> {
    let is_url = origin.starts_with("http://") || origin.starts_with("https://");
    if !is_url || origin.ends_with('/') || origin.len() > URL_CHARS_MAX {
        let right = "an origin is a URL that begins with http:// or https:// and ends without a slash";
        return Err(fault(FaultCode::BadRequest, right));
    }
    Ok(())
}
