//! What breaks while people watch: edges and the tracker. Each program is a process of its own here.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::time::Duration;

use millstream_e2e::{
    api::Api,
    book,
    media::PLAIN,
    pressure::Pressure,
    process::Process,
    program::Program,
    stack::{Apart, Stack},
    time::go_on,
    viewers::{Report, Watch},
};
use serde_json::Value;

/// Time for an edge to come back to its tracker: it tries every 15 to 45 s after a long absence.
const COMEBACK: Duration = Duration::from_secs(60);

/// A show that is on, with two edges.
struct Show {
    edges: [Program; 2],
    _publisher: Process,
    apart: Apart,
}

impl Show {
    fn begin() -> Self {
        let apart = Stack::apart().unwrap();
        let edges = [apart.stack.edge("edge-a").unwrap(), apart.stack.edge("edge-b").unwrap()];
        let (publisher, _) = apart.stack.publish("show", &PLAIN).unwrap();
        Self { edges, _publisher: publisher, apart }
    }

    fn watch(&self, viewers: u32, seconds: u32) -> Watch {
        let mut watch = Watch::new(&self.apart.stack.ready.tracker, "show", seconds);
        watch.viewers = viewers;
        watch
    }

    /// The edge that has sent most: somebody's primary.
    fn busiest(&mut self) -> &mut Program {
        let sent = |edge: &Program| status(edge, |status| status["sent_bytes"].as_u64()).unwrap();
        let sent = self.edges.each_ref().map(sent);
        assert!(sent.iter().sum::<u64>() > 0, "edges send nothing");
        &mut self.edges[usize::from(sent[1] > sent[0])]
    }

    /// Waits until each viewer is connected to both edges.
    fn connected(&self, viewers: u64) {
        for edge in &self.edges {
            status(edge, |status| (status["viewers"].as_u64()? == viewers).then_some(())).unwrap();
        }
    }
}

/// Waits until an edge says so of itself.
fn status<T>(edge: &Program, judge: impl FnMut(&Value) -> Option<T>) -> anyhow::Result<T> {
    Api::new(edge.ops(), "")?.wait("/v1/status", Duration::from_secs(30), judge)
}

fn assert_smooth(report: &Report, pressure: &Pressure) {
    eprintln!(">> {report:?}; {pressure}");
    assert_eq!(report.stalls.count, 0, "{report:?}; {pressure}");
    assert_eq!(report.pieces.rejected, 0, "{report:?}");
}

#[test]
fn an_edge_that_dies_stalls_nobody() {
    let mut show = Show::begin();
    let pressure = Pressure::begin();
    let mut watching = show.watch(10, 16).start(show.apart.stack.folder()).unwrap();
    show.connected(10);
    go_on(Duration::from_secs(4));
    show.busiest().kill();
    let report = watching.report().unwrap();
    assert_smooth(&report, &pressure);
    // The other one serves everybody: HTTP is for the beginning, and for what was on its way when the edge died.
    let all = report.bytes.edge + report.bytes.origin;
    assert!(report.bytes.edge * 10 >= all * 7, "{report:?}; {pressure}");
    // The dead edge is paid, too: viewers bring their vouchers themselves.
    book::settled(&show.apart.stack.api, report.bytes.edge).unwrap();
}

#[test]
fn without_any_edge_viewers_go_on_by_http() {
    let mut show = Show::begin();
    let pressure = Pressure::begin();
    let mut watching = show.watch(10, 18).start(show.apart.stack.folder()).unwrap();
    show.connected(10);
    go_on(Duration::from_secs(4));
    for edge in &mut show.edges {
        edge.kill();
    }
    let before = show.apart.stack.packager_status().unwrap();
    let report = watching.report().unwrap();
    let after = show.apart.stack.packager_status().unwrap();
    eprintln!(">> {report:?}; {pressure}");
    assert!(report.stalls.ms <= 1_000, "{report:?}; {pressure}");
    assert_eq!(report.pieces.rejected, 0, "{report:?}");
    let sent = after.viewers_bytes - before.viewers_bytes;
    assert!(sent > 10 * 800_000, "ten viewers took {sent} bytes by HTTP in some ten seconds");
}

#[test]
fn an_edge_that_comes_back_is_the_same_and_brings_what_it_was_owed() {
    let mut show = Show::begin();
    let pressure = Pressure::begin();
    let id = show.edges[0].said("edge").unwrap().to_owned();
    let mut watching = show.watch(6, 26).start(show.apart.stack.folder()).unwrap();
    show.connected(6);
    go_on(Duration::from_secs(3));
    show.edges[0].kill();
    show.edges[0].restart().unwrap();
    assert_eq!(show.edges[0].said("edge").unwrap(), id, "it kept its key");
    // Its viewers find it again where it was.
    show.connected(6);
    show.apart.tracker.kill();
    let report = watching.report().unwrap();
    assert_smooth(&report, &pressure);

    // The viewers are gone, the tracker is away: nobody but the edge can bring the last vouchers.
    let owed = |status: &Value| status["vouchers"]["open"].as_u64().filter(|open| *open > 0);
    let other = &mut show.edges[1];
    let before = status(other, owed).unwrap();
    other.kill();
    other.restart().unwrap();
    assert_eq!(status(other, owed).unwrap(), before, "it kept its vouchers");
    show.apart.tracker.restart().unwrap();
    book::settled_within(&show.apart.stack.api, report.bytes.edge, COMEBACK).unwrap();
}

#[test]
fn a_tracker_away_for_a_minute_stalls_nobody_and_pays_everything_when_it_is_back() {
    let mut show = Show::begin();
    let pressure = Pressure::begin();
    let mut watching = show.watch(10, 96).start(show.apart.stack.folder()).unwrap();
    show.connected(10);
    go_on(Duration::from_secs(8));
    let paid_before = book::read(&show.apart.stack.api).unwrap().all_bytes();
    let sessions_before = show.apart.stack.sessions().unwrap();
    show.apart.tracker.kill();
    go_on(Duration::from_secs(60));
    show.apart.tracker.restart().unwrap();
    // Book and streams are where they were.
    let stack = &show.apart.stack;
    assert!(book::read(&stack.api).unwrap().all_bytes() >= paid_before);
    stack.live("show").unwrap();
    // Viewers come back within 23 s, each to the session it had.
    stack.api.wait("/v1/sessions", COMEBACK, |all| (all["total"] == 10).then_some(())).unwrap();
    assert_eq!(stack.sessions().unwrap(), sessions_before, "nobody had to join again");
    let report = watching.report().unwrap();
    assert_smooth(&report, &pressure);
    let all = report.bytes.edge + report.bytes.origin;
    assert!(report.bytes.edge * 10 >= all * 9, "edges went on without the tracker: {report:?}");
    for edge in &show.edges {
        stack.knows(edge.said("edge").unwrap()).unwrap();
    }
    book::settled(&stack.api, report.bytes.edge).unwrap();
}
