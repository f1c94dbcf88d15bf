//! The tracker's book as its API tells it, held to the promise: every line of the earnings is the sum of its lanes, and
//! every lane is paid `floor(payable × price ÷ 2³⁰)`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{api::Api, stack::PRICE_PER_GIB};

/// Time for the last vouchers to be brought: edges bring them every ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What edges were paid for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paid {
    /// Bytes by edge.
    pub bytes: BTreeMap<String, u64>,
    /// Micro-units by edge.
    pub earned: BTreeMap<String, u64>,
    /// Lanes with a voucher.
    pub lanes: usize,
}

impl Paid {
    /// Bytes of all edges.
    #[must_use]
    pub fn all_bytes(&self) -> u64 {
        self.bytes.values().sum()
    }
}

#[derive(Debug, Deserialize)]
struct Earnings {
    earnings: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    epoch: u64,
    operator: String,
    earned: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Lanes {
    lanes: Vec<Lane>,
}

#[derive(Debug, Deserialize)]
struct Lane {
    session: String,
    edge: String,
    payable: u64,
    earned: u64,
    bytes: u64,
    voucher: String,
}

/// Reads the whole book and adds it up.
///
/// # Errors
/// When it does not add up, or the tracker does not answer.
pub fn read(api: &Api) -> anyhow::Result<Paid> {
    let audit = api.get("/v1/audit")?;
    ensure!(audit["sound"] == true && audit["sum"] == 0, "the book is not whole: {audit}");
    let earnings: Earnings = serde_json::from_value(api.get("/v1/earnings")?)?;
    // What a lane claimed in all, and what it was paid for that over all epochs.
    let mut lanes: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for line in &earnings.earnings {
        let (mut earned, mut bytes) = (0, 0);
        for lane in pages(api, line)? {
            ensure!(!lane.voucher.is_empty(), "a lane is paid without a voucher: {lane:?}");
            (earned, bytes) = (earned + lane.earned, bytes + lane.bytes);
            let whole = lanes.entry((lane.session, lane.edge)).or_default();
            *whole = (whole.0.max(lane.payable), whole.1 + lane.earned);
        }
        ensure!((earned, bytes) == (line.earned, line.bytes), "{line:?} is not its lanes: {earned}, {bytes}");
    }
    let mut paid = Paid { lanes: lanes.len(), ..Paid::default() };
    for ((session, edge), (payable, earned)) in lanes {
        let due = (u128::from(payable) * u128::from(PRICE_PER_GIB)) >> 30;
        ensure!(u128::from(earned) == due, "{session} on {edge}: {earned} for {payable} bytes and not {due}");
        *paid.bytes.entry(edge.clone()).or_default() += payable;
        *paid.earned.entry(edge).or_default() += earned;
    }
    Ok(paid)
}

/// Reads the book until it holds as many bytes: edges bring vouchers when they find the time.
///
/// # Errors
/// When it does not come to that, or ever holds more.
pub fn settled(api: &Api, bytes: u64) -> anyhow::Result<Paid> {
    settled_within(api, bytes, PATIENCE)
}

/// The same with more or less patience.
///
/// # Errors
/// As [`settled`].
pub fn settled_within(api: &Api, bytes: u64, patience: Duration) -> anyhow::Result<Paid> {
    let started = Instant::now();
    loop {
        let paid = read(api)?;
        let booked = paid.all_bytes();
        ensure!(booked <= bytes, "{booked} bytes are paid, and {bytes} were used: {paid:?}");
        if booked == bytes {
            return Ok(paid);
        }
        ensure!(
            started.elapsed() < patience,
            "{booked} of {bytes} bytes are paid after {patience:?}: {paid:?}"
        );
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// All lanes of a line.
fn pages(api: &Api, line: &Line) -> anyhow::Result<Vec<Lane>> {
    let path = format!("/v1/earnings/{}/{}", line.operator, line.epoch);
    let mut all: Vec<Lane> = Vec::new();
    loop {
        let after = all.last().map(|last| format!("?session={}&edge={}", last.session, last.edge));
        let answer = api.get(&format!("{path}{}", after.unwrap_or_default()))?;
        let page: Lanes = serde_json::from_value(answer).context("a page of lanes")?;
        if page.lanes.is_empty() {
            return Ok(all);
        }
        all.extend(page.lanes);
    }
}
