//! Money as operators of the platform see it: accounts, funds, earnings, and the proof that the book is whole.

use std::sync::Arc;

use millstream_ledger::Name;
use millstream_model::Micros;
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
            json(StatusCode::OK, &serde_json::json!({ "account": name.as_str(), "balance": balance }))
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

pub(super) async fn earnings(api: Arc<Api>) -> Response {
    let lines: Vec<_> = api
        .hub
        .money
        .earnings()
        .into_iter()
        .map(|(epoch, operator, earned)| {
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
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "earnings": lines }))
}

/// Recomputes every balance from the entries on disk.
pub(super) async fn audit(api: Arc<Api>) -> Response {
    match api.hub.money.verify().await {
        Ok(audit) => json(StatusCode::OK, &audit),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format_args!("{error:#}")),
    }
}
