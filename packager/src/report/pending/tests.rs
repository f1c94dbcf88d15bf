//! A tracker that is away, slow of mind or small, and what it knows in the end.

use millstream_model::SessionId;

use super::*;
use crate::{
    config::Config,
    show::{self, NOW},
};

/// Of a stream: its state, whether its catalog is known, and its counters.
type Heard = (State, bool, BTreeMap<[u8; 16], u64>);

/// A tracker that takes bodies of so many bytes.
struct Tracker {
    bytes_max: usize,
    known: BTreeMap<StreamId, Heard>,
    reports: usize,
}

impl Tracker {
    fn new(bytes_max: usize) -> Self {
        Self { bytes_max, known: BTreeMap::new(), reports: 0 }
    }

    /// Takes what a round tells, however often it says that something is too long.
    fn take(&mut self, pending: &mut Pending) {
        for _ in 0..1_000 {
            let lines = pending.next();
            if lines.is_empty() {
                return;
            }
            if serde_json::to_vec(&lines).unwrap().len() > self.bytes_max {
                pending.too_long(&lines);
                continue;
            }
            self.reports += 1;
            let mut wanted = Vec::new();
            for line in &lines {
                assert!(line.published.len() <= RUNS_MAX);
                let known =
                    self.known.entry(line.stream.clone()).or_insert((line.state, false, BTreeMap::new()));
                known.0 = line.state;
                known.1 |= line.catalog.is_some();
                for published in &line.published {
                    known.2.insert(published.run.0, published.bytes);
                }
                if !known.1 && line.state != State::Ended {
                    wanted.push(line.stream.clone());
                }
            }
            pending.taken(&lines, &Reported { time: NOW, wanted, gone: Vec::new() });
        }
        panic!("a round does not end");
    }

    fn total(&self, stream: &str) -> u64 {
        self.known[&id(stream)].2.values().sum()
    }
}

fn id(text: &str) -> StreamId {
    text.parse().unwrap()
}

/// A catalog whose signed bytes are about `bytes`.
fn catalog(bytes: usize) -> Signed<Catalog> {
    let mut tracks = show::tracks();
    let inits = bytes / 8_000;
    for extra in 0..inits.saturating_sub(1) {
        let mut track = tracks[0].clone();
        track.rendition = millstream_model::RenditionId(u8::try_from(10 + extra).unwrap());
        track.init = vec![7; 8_000].into();
        tracks.push(track);
    }
    let signed = show::signer().tracks(&tracks, NOW).unwrap();
    let renditions = &signed.unverified().renditions;
    let mut named = renditions.clone();
    for (index, rendition) in named.iter_mut().enumerate() {
        rendition.name = format!("r{index}");
    }
    let catalog = Catalog { renditions: named, ..signed.unverified().clone() };
    Signed::new(catalog, millstream_wire::sign::Context::Stream(&show::stream()), &show::packager())
}

fn seen(stream: &str, run: u8, bytes: u64, catalog: &Signed<Catalog>) -> Seen {
    Seen {
        stream: id(stream),
        generation: 1,
        state: State::Live,
        catalog: Some(catalog.clone()),
        published: Published { run: SessionId([run; 16]), bytes },
    }
}

/// As many streams as a packager carries, each with `bytes`.
fn full_house(bytes: u64, catalog: &Signed<Catalog>) -> Vec<Seen> {
    (0..Config::default().streams_max)
        .map(|n| seen(&format!("a-stream-with-a-name-of-some-length-{n}"), 1, bytes, catalog))
        .collect()
}

fn all_live(tracker: &Tracker, bytes: u64) {
    assert_eq!(tracker.known.len(), Config::default().streams_max);
    for (state, has_catalog, counters) in tracker.known.values() {
        assert_eq!((*state, *has_catalog), (State::Live, true));
        assert_eq!(counters.values().sum::<u64>(), bytes);
    }
}

#[test]
fn after_ten_minutes_without_a_tracker_all_streams_are_told_at_once() {
    let catalog = catalog(2_000);
    let mut pending = Pending::new(Left::default());
    for second in 1..=600 {
        pending.see(full_house(second * 500_000, &catalog));
        assert!(!pending.next().is_empty(), "told and not taken");
    }
    assert!(serde_json::to_vec(&pending.left()).unwrap().len() < 16 * 1024);
    let mut tracker = Tracker::new(REPORT_BYTES_MAX);
    pending.see(full_house(601 * 500_000, &catalog));
    tracker.take(&mut pending);
    all_live(&tracker, 601 * 500_000);
    assert!(pending.left().is_empty());
    // Then each second costs little.
    pending.see(full_house(602 * 500_000, &catalog));
    let again = pending.next();
    assert_eq!(again.len(), Config::default().streams_max);
    assert!(again.iter().all(|line| line.catalog.is_none()));
}

#[test]
fn all_catalogs_at_once_fit_however_long_they_are() {
    let catalog = catalog(60_000);
    assert!((45_000..64_000).contains(&catalog.bytes().len()), "{}", catalog.bytes().len());
    let mut pending = Pending::new(Left::default());
    pending.see(full_house(1, &catalog));
    let mut tracker = Tracker::new(REPORT_BYTES_MAX);
    tracker.take(&mut pending);
    all_live(&tracker, 1);
    assert!(tracker.reports <= Config::default().streams_max);
}

#[test]
fn a_tracker_that_takes_less_is_told_less_at_a_time_and_without_what_never_fits() {
    let small = catalog(2_000);
    let mut pending = Pending::new(Left::default());
    pending.see(full_house(5, &small));
    let mut tracker = Tracker::new(9_000);
    tracker.take(&mut pending);
    all_live_but_catalogs(&tracker);
    let long = catalog(40_000);
    let mut pending = Pending::new(Left::default());
    pending.see(full_house(5, &long));
    let mut tracker = Tracker::new(20_000);
    tracker.take(&mut pending);
    all_live_but_catalogs(&tracker);
}

fn all_live_but_catalogs(tracker: &Tracker) {
    assert_eq!(tracker.known.len(), Config::default().streams_max);
    assert!(tracker.known.values().all(|(state, ..)| *state == State::Live));
    assert!(tracker.known.values().all(|(_, _, counters)| counters.values().sum::<u64>() == 5));
}

#[test]
fn a_tracker_that_forgot_a_catalog_is_told_it_again() {
    let catalog = catalog(2_000);
    let mut pending = Pending::new(Left::default());
    let mut tracker = Tracker::new(REPORT_BYTES_MAX);
    pending.see(vec![seen("demo", 1, 10, &catalog)]);
    tracker.take(&mut pending);
    let mut tracker = Tracker::new(REPORT_BYTES_MAX);
    for bytes in [20, 30] {
        pending.see(vec![seen("demo", 1, bytes, &catalog)]);
        tracker.take(&mut pending);
    }
    assert!(tracker.known[&id("demo")].1);
    assert_eq!(tracker.total("demo"), 30);
}

#[test]
fn what_a_show_published_is_told_after_it_is_over_and_after_the_program_was_too() {
    let catalog = catalog(2_000);
    let mut pending = Pending::new(Left::default());
    pending.see(vec![seen("demo", 1, 700, &catalog), seen("other", 2, 70, &catalog)]);
    pending.next();
    // `demo` is over and forgotten, then begins again with a count of its own.
    pending.see(vec![seen("other", 2, 80, &catalog)]);
    pending.see(vec![seen("demo", 3, 40, &catalog), seen("other", 2, 90, &catalog)]);
    let text = serde_json::to_string(&pending.left()).unwrap();
    let mut pending = Pending::new(serde_json::from_str(&text).unwrap());
    pending.see(vec![seen("demo", 4, 5, &catalog)]);
    let mut tracker = Tracker::new(REPORT_BYTES_MAX);
    tracker.take(&mut pending);
    assert_eq!((tracker.total("demo"), tracker.total("other")), (745, 90));
    assert_eq!(tracker.known[&id("demo")].0, State::Live);
    assert_eq!(tracker.known[&id("other")].0, State::Ended);
    assert!(pending.left().is_empty());
    pending.see(vec![seen("demo", 4, 6, &catalog)]);
    let lines = pending.next();
    assert_eq!((lines.len(), lines[0].published.len()), (1, 1), "what was taken is not told again");
}

#[test]
fn what_waits_is_bounded_and_the_least_is_given_up_first() {
    let catalog = catalog(2_000);
    let mut pending = Pending::new(Left::default());
    for run in 0..100 {
        pending.see(vec![seen("demo", run, 1_000 + u64::from(run), &catalog)]);
    }
    let left = pending.left();
    assert_eq!(left.streams[&id("demo")].published.len(), RUNS_MAX);
    assert_eq!(left.streams[&id("demo")].published.last().unwrap().bytes, 1_099);
    for show in 0..OVER_MAX + 100 {
        pending.see(vec![seen(&format!("s{show}"), 1, 10, &catalog)]);
    }
    pending.see(Vec::new());
    assert!(pending.left().streams.len() <= OVER_MAX);
    assert!(pending.left().streams.contains_key(&id("demo")));
}
