//! Money as operators of the platform see it: accounts, funds, earnings, and the proof that the book is whole.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use millstream_ledger::{Epoch, Name, epoch::Earned};
use millstream_model::{EdgeId, Micros, SessionId, WallTime};
use serde::Deserialize;
use warp::{http::StatusCode, reply::Response};

use super::{
    Api,
    answer::{json, refuse},
};
use crate::hub::now;

/// What `POST /v1/accounts/{name}/fund` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Funds {
    /// Micro-units to add.
    amount: i64,
    /// Names the payment; the same one counts once.
    transfer: String,
}

pub(super) async fn list(api: Arc<Api>) -> Response {
    let accounts: Vec<_> = api
        .hub
        .money
        .balances()
        .into_iter()
        .map(|(account, balance)| serde_json::json!({ "account": account.to_string(), "balance": balance }))
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "accounts": accounts }))
}

pub(super) async fn fund(api: Arc<Api>, name: String, funds: Funds) -> Response {
    let name = match Name::new(&name) {
        Ok(name) => name,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    match api.hub.money.fund(&name, Micros(funds.amount), &funds.transfer).await {
        Ok(balance) => {
            api.hub.funded();
            json(StatusCode::OK, &serde_json::json!({ "account": name.as_str(), "balance": balance }))
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

/// What everybody earned in the epochs that are not sealed.
pub(super) async fn earnings(api: Arc<Api>) -> Response {
    let lines: Vec<_> = api
        .hub
        .money
        .earnings()
        .into_iter()
        .map(|(epoch, operator, earned)| line(epoch, &operator, earned))
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "earnings": lines }))
}

/// Where a page begins: before this epoch or time, the last of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    before: Option<u64>,
}

/// What one operator earned, newest epoch first, the sealed ones too.
pub(super) async fn earned(operator: String, before: Before, api: Arc<Api>) -> Response {
    let name = match Name::new(&operator) {
        Ok(name) => name,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let lines = match api.hub.money.store().epochs(&name, before.before.map(Epoch)).await {
        Ok(lines) => lines,
        Err(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let lines: Vec<_> = lines.into_iter().map(|(epoch, earned)| line(epoch, &name, earned)).collect();
    let balance = api.hub.money.earned(&name);
    json(StatusCode::OK, &serde_json::json!({ "balance": balance, "earnings": lines }))
}

/// Why vouchers of an edge were refused, newest first.
pub(super) async fn refusals(edge: String, before: Before, api: Arc<Api>) -> Response {
    let edge: EdgeId = match edge.parse() {
        Ok(edge) => edge,
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "an edge's id is its key, base64url"),
    };
    let lines = match api.hub.money.store().refusals(edge, before.before.map(WallTime)).await {
        Ok(lines) => lines,
        Err(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let lines: Vec<_> = lines
        .into_iter()
        .map(|line| {
            serde_json::json!({
                "session": line.session,
                "payable": line.payable,
                "at": line.at,
                "code": line.code,
                "reason": line.reason,
            })
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "refusals": lines }))
}

fn line(epoch: Epoch, operator: &Name, earned: Earned) -> serde_json::Value {
    serde_json::json!({
        "epoch": epoch.0,
        "from": epoch.start(),
        "to": epoch.end(),
        "state": format!("{:?}", epoch.state(now())).to_lowercase(),
        "operator": operator.as_str(),
        "earned": earned.micros,
        "bytes": earned.bytes,
        "segments": earned.segments,
    })
}

/// Where a page of lanes begins: behind this lane, the last of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    session: Option<SessionId>,
    edge: Option<EdgeId>,
}

/// The lanes behind one line of the earnings, each with the voucher that proves it.
pub(super) async fn lanes(operator: String, epoch: u64, after: After, api: Arc<Api>) -> Response {
    let name = match Name::new(&operator) {
        Ok(name) => name,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let after = after.session.zip(after.edge);
    let lines = match api.hub.money.store().lanes_of(&name, Epoch(epoch), after).await {
        Ok(lines) => lines,
        Err(error) => return refuse(StatusCode::SERVICE_UNAVAILABLE, error),
    };
    let lanes: Vec<_> = lines
        .into_iter()
        .map(|line| {
            serde_json::json!({
                "session": line.session,
                "edge": line.edge,
                "stream": line.stream,
                "payable": line.payable,
                "earned": line.earned.micros,
                "bytes": line.earned.bytes,
                "segments": line.earned.segments,
                "at": line.at,
                "voucher": URL_SAFE_NO_PAD.encode(&line.voucher),
            })
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "lanes": lanes }))
}

/// Recomputes every balance from the entries on disk.
pub(super) async fn audit(api: Arc<Api>) -> Response {
    match api.hub.money.verify().await {
        Ok(audit) => json(StatusCode::OK, &audit),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format_args!("{error:#}")),
    }
}
