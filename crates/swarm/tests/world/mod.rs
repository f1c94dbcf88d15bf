//! A small world in virtual time around one swarm: a packager, edges, an origin, a tracker and a player.
//!
//! Everything here is honest unless a test says otherwise, and all cryptography is real.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the world")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, a surprise shall be loud")]

mod edge;
mod player;
mod tracker;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millstream_model::{
    BitRate, EdgeId, Fingerprint, Instant, MediaTime, Micros, PIECE_BYTES, Price, RenditionId, SessionId,
    StreamId, WallTime,
};
use millstream_playlist::reload::Reload;
use millstream_swarm::{Config, Content, Event, FetchId, Input, Output, Resource, Swarm, WantId};
use millstream_wire::{
    frame::{Deframer, Frame, Reason, Span, Subscription, write_framed},
    media::{Catalog, Delegation, Media, Record, Rendition, hash_pieces},
    session::{Bearer, Certificate, Grant, Receipt, Token, Voucher},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    tracker::{Challenge, EdgeAddress, EdgeOffer, Fault, FaultCode, FromViewer, ToViewer, Welcome},
};

pub use player::Player;

pub const PART_MS: u64 = 250;
pub const PARTS_PER_SEGMENT: u64 = 8;
pub const VIDEO: RenditionId = RenditionId(0);
pub const AUDIO: RenditionId = RenditionId(1);
/// The same pictures as [`VIDEO`] in fewer bytes.
pub const LOW: RenditionId = RenditionId(2);
const RENDITIONS: [(RenditionId, &str, u32); 3] =
    [(VIDEO, "video", 100_000), (AUDIO, "audio", 6_000), (LOW, "video-low", 30_000)];
const WALL: u64 = 1_800_000_000_000;
const EDGE_MS: u64 = 10;
const HTTP_MS: u64 = 25;
const WINDOW: u32 = 2 << 20;

pub fn stream() -> StreamId {
    StreamId::new("demo").unwrap()
}

/// How an edge behaves.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Flips a bit in every n-th piece; 0 for never.
    pub corrupt_every: u64,
    /// Sends records, but pieces only when asked.
    pub never_pushes: bool,
    /// Sends no pieces at all, not even when asked.
    pub never_sends: bool,
    /// Every so many parts' pieces come late; 0 for never.
    pub late_every: u64,
    /// By so many milliseconds, in which they can be taken back.
    pub late_ms: u64,
    /// Was restarted and knows nobody: what is said to it on the old connection is lost, and nothing tells so.
    pub forgot: bool,
}

pub struct TestEdge {
    secret: SecretKey,
    pub up: bool,
    pub connected: bool,
    pub manners: Manners,
    told: BTreeMap<RenditionId, Subscription>,
    /// The first record that it was last told to bring.
    pub from: BTreeMap<RenditionId, u64>,
    pub pieces_sent: u64,
    pub bytes_sent: u64,
    pub sent_of: BTreeMap<RenditionId, u64>,
    pub subscriptions: u64,
    pub requests: u64,
    pub cancels: u64,
    pub connects: u64,
    pub voucher: Option<Voucher>,
    pub refused: bool,
}

pub struct World {
    pub swarm: Swarm,
    pub now: Instant,
    queue: BTreeMap<(u64, u64), Input>,
    order: u64,
    root: SecretKey,
    packager: SecretKey,
    tracker: SecretKey,
    session_secret: SessionSecret,
    pub session: SessionId,
    pub records: BTreeMap<RenditionId, Vec<Signed<Record>>>,
    pub media: BTreeMap<(RenditionId, u64), Bytes>,
    catalog: Signed<Catalog>,
    delegation: Signed<Delegation>,
    pub edges: Vec<TestEdge>,
    pub publishing: bool,
    pub origin_up: bool,
    /// Something on the way answers everything with a page of its own.
    pub origin_lies: bool,
    pub origin_ms: u64,
    /// The URLs that it was asked for.
    pub asked: Vec<String>,
    pub refused: Vec<(WantId, u16)>,
    pub aborts: u64,
    pub timeouts: u64,
    /// Parts have so many times their usual size.
    pub scale: u32,
    pub tracker_up: bool,
    /// Edges that the tracker offers in its welcome: a restarted one knows none yet.
    pub edges_offered: usize,
    pub cap: u64,
    /// The origin wants a token, which lives so long.
    pub token_ms: Option<u64>,
    /// Tokens that the tracker brings after the first.
    pub tokens_more: u64,
    /// Requests without a good token.
    pub turned_away: u64,
    next_part_at: u64,
    pub origin_bytes: u64,
    pub origin_records: u64,
    waiting_records: Vec<(FetchId, RenditionId, u64)>,
    pub events: Vec<Event>,
    pub brought: Vec<Signed<Voucher>>,
    pub delivered: BTreeMap<(RenditionId, u64), Instant>,
    pub player: BTreeMap<RenditionId, Player>,
    pub joins: u64,
    pub resumes: u64,
    /// The tracker has forgotten the session.
    pub session_over: bool,
}

impl World {
    pub fn new(edges: usize) -> Self {
        let key = |n: u8| SecretKey::from_seed(&[n; 32]);
        let (root, packager, tracker) = (key(1), key(2), key(3));
        let session_secret = SessionSecret::from_bytes(&[7; 32]).unwrap();
        let now = Instant::from_millis(1_000);
        let swarm = Swarm::new(
            Config {
                stream: stream(),
                key: session_secret.public(),
                ticket: None,
                root: Some(root.public()),
                origin: Some("http://origin".into()),
                wall: WallTime(WALL),
                latency_ms: 3_000,
                data_channels: true,
                seed: 42,
            },
            now,
        );
        let delegation = Signed::new(
            Delegation {
                stream: stream(),
                generation: 1,
                packager: packager.public(),
                not_before: WallTime(WALL - 1_000_000),
                expires: WallTime(WALL + 100_000_000),
            },
            Context::None,
            &root,
        );
        let catalog = Signed::new(catalog(1, false), Context::Stream(&stream()), &packager);
        let edges: Vec<_> = (0..edges)
            .map(|n| TestEdge {
                secret: key(100 + u8::try_from(n).unwrap()),
                up: true,
                connected: false,
                manners: Manners::default(),
                told: BTreeMap::new(),
                from: BTreeMap::new(),
                pieces_sent: 0,
                bytes_sent: 0,
                sent_of: BTreeMap::new(),
                subscriptions: 0,
                requests: 0,
                cancels: 0,
                connects: 0,
                voucher: None,
                refused: false,
            })
            .collect();
        let mut world = Self {
            swarm,
            now,
            queue: BTreeMap::new(),
            order: 0,
            root,
            packager,
            tracker,
            session_secret,
            session: SessionId([9; 16]),
            records: BTreeMap::new(),
            media: BTreeMap::new(),
            catalog,
            delegation,
            edges_offered: edges.len(),
            edges,
            publishing: true,
            origin_up: true,
            origin_lies: false,
            origin_ms: HTTP_MS,
            asked: Vec::new(),
            refused: Vec::new(),
            aborts: 0,
            timeouts: 0,
            scale: 1,
            tracker_up: true,
            cap: 1 << 40,
            token_ms: None,
            tokens_more: 0,
            turned_away: 0,
            next_part_at: 0,
            origin_bytes: 0,
            origin_records: 0,
            waiting_records: Vec::new(),
            events: Vec::new(),
            brought: Vec::new(),
            delivered: BTreeMap::new(),
            player: BTreeMap::new(),
            joins: 0,
            resumes: 0,
            session_over: false,
        };
        // The show has been on for eight seconds when the viewer comes.
        for _ in 0..4 * PARTS_PER_SEGMENT {
            world.publish();
        }
        world.next_part_at = now.0 / 1_000 + PART_MS;
        world.open_tracker();
        world
    }

    pub fn edge_id(&self, n: usize) -> EdgeId {
        self.edges[n].secret.public()
    }

    fn wall(&self) -> WallTime {
        WallTime(WALL + self.now.0 / 1_000)
    }

    pub fn open_tracker(&mut self) {
        let challenge = Challenge {
            nonce: SessionId([5; 16]),
            tracker: self.tracker.public(),
            time: self.wall().plus_millis(EDGE_MS),
        };
        self.post(EDGE_MS, Input::TrackerOpen);
        self.post(EDGE_MS, Input::Tracker(ToViewer::Challenge(challenge)));
    }

    fn post(&mut self, after_ms: u64, input: Input) {
        self.order += 1;
        self.queue.insert((self.now.0 + after_ms * 1_000, self.order), input);
    }

    /// Signs the next part of all renditions.
    pub fn publish(&mut self) {
        for (rendition, _, size) in RENDITIONS {
            let known = self.records.entry(rendition).or_default();
            let number = known.len() as u64 + 1_000;
            let index = known.len() as u64;
            let part = u16::try_from(index % PARTS_PER_SEGMENT).unwrap();
            let seed = u8::try_from(number % 251).unwrap() ^ rendition.0;
            let size = size * self.scale;
            let data: Bytes = (0..size)
                .map(|n| seed.wrapping_add(u8::try_from(n % 253).unwrap()))
                .collect::<Vec<_>>()
                .into();
            let start = WALL + 1_000 - 4 * PARTS_PER_SEGMENT * PART_MS;
            let record = Record {
                generation: 1,
                catalog: 1,
                rendition,
                number,
                segment: 50 + index / PARTS_PER_SEGMENT,
                part,
                media_time: MediaTime(index * PART_MS),
                duration: 250,
                program_date_time: WallTime(start + index * PART_MS),
                discontinuity: 0,
                independent: part == 0,
                first: part == 0,
                size,
                pieces: hash_pieces(&data),
                previous: known.last().map_or(Record::NO_PREVIOUS, Signed::digest),
            };
            known.push(Signed::new(record, Context::Stream(&stream()), &self.packager));
            self.media.insert((rendition, number), data);
        }
    }

    /// Plays for this long.
    pub fn run(&mut self, millis: u64) {
        let until = self.now.0 + millis * 1_000;
        loop {
            self.work_off();
            let input = self.queue.first_key_value().map(|(key, _)| key.0);
            let timer = self.swarm.deadline().map(|at| at.0.max(self.now.0 + 1));
            let part = self.publishing.then_some(self.next_part_at * 1_000);
            let next = [input, timer, part].into_iter().flatten().min().unwrap_or(until);
            if next > until {
                self.now = Instant(until);
                return;
            }
            self.now = Instant(next.max(self.now.0));
            if part == Some(next) {
                self.next_part_at += PART_MS;
                self.publish();
                self.tell_edges();
                self.release_records();
            } else if input == Some(next) {
                let (_, input) = self.queue.pop_first().unwrap();
                self.swarm.handle(input, self.now);
            } else {
                self.timeouts += 1;
                self.swarm.handle_timeout(self.now);
            }
        }
    }

    fn work_off(&mut self) {
        while let Some(output) = self.swarm.poll() {
            self.carry_out(output);
            self.play();
        }
        self.play();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Tracker(message) => self.tracker_hears(message),
            Output::Connect { edge, .. } => {
                let n = (0..self.edges.len()).find(|n| self.edge_id(*n) == edge).unwrap();
                self.edges[n].connects += 1;
                if self.edges[n].up {
                    self.edges[n].connected = true;
                    self.post(60, Input::EdgeOpen { edge, fingerprint: Fingerprint([4; 32]) });
                }
            }
            Output::Disconnect { edge } => {
                let n = (0..self.edges.len()).find(|n| self.edge_id(*n) == edge).unwrap();
                self.edges[n].connected = false;
                self.edges[n].told.clear();
            }
            Output::Send { edge, message } => {
                let n = (0..self.edges.len()).find(|n| self.edge_id(*n) == edge).unwrap();
                let frame = Frame::decode(message).unwrap().unwrap();
                if self.edges[n].connected && self.edges[n].up {
                    self.edge_hears(n, frame);
                }
            }
            Output::Fetch { fetch, url, range, token, .. } => {
                if self.is_let_in(token.as_deref()) {
                    self.origin_hears(fetch, &url, range);
                } else {
                    self.turned_away += 1;
                    self.post(HTTP_MS, Input::FetchFailed { fetch, status: Some(401) });
                }
            }
            Output::Sign { sign, message } => {
                let signature = self.session_secret.sign(&message);
                self.post(1, Input::Signed { sign, signature });
            }
            Output::Deliver { want, content } => self.player_gets(want, Ok(content)),
            Output::Refuse { want, status } => {
                self.refused.push((want, status));
                self.player_gets(want, Err(status));
            }
            Output::Event(event) => self.events.push(event),
            Output::Abort { fetch: id } => {
                self.aborts += 1;
                self.queue.retain(|_, input| !matches!(input, Input::Fetched { fetch, .. } if *fetch == id));
            }
        }
    }

    /// A token that begins to be good `after_ms` from now, on a stream that wants one.
    fn token(&self, after_ms: u64) -> Option<Signed<Token>> {
        let expires = self.wall().plus_millis(after_ms + self.token_ms?);
        let token = Token { stream: stream(), bearer: Bearer::Session(self.session), expires };
        Some(Signed::new(token, Context::None, &self.tracker))
    }

    fn is_let_in(&self, token: Option<&str>) -> bool {
        let shown = || Some(token?.parse::<Signed<Token>>().unwrap().unverified().expires);
        self.token_ms.is_none() || shown().is_some_and(|expires| self.wall() < expires)
    }

    fn origin_hears(&mut self, fetch: FetchId, url: &str, range: Option<(u64, u64)>) {
        self.asked.push(url.into());
        if self.origin_lies {
            let body = Bytes::from_static(b"<html>Please log in</html>");
            return self.post(HTTP_MS, Input::Fetched { fetch, body });
        }
        if !self.origin_up {
            return self.post(HTTP_MS, Input::FetchFailed { fetch, status: None });
        }
        let path = url.strip_prefix("http://origin/s/demo/").unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "start" {
            let mut body = BytesMut::new();
            write_framed(&Frame::Delegation(self.delegation.clone()).encode(), &mut body);
            write_framed(&Frame::Catalog(self.catalog.clone()).encode(), &mut body);
            for records in self.records.values() {
                for record in records.iter().rev().take(16) {
                    write_framed(&Frame::Record(record.clone()).encode(), &mut body);
                }
            }
            return self.post(HTTP_MS, Input::Fetched { fetch, body: body.freeze() });
        }
        if path == "records" {
            let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap();
            let rendition = named(field("rendition="));
            self.waiting_records.push((fetch, rendition, field("from=").parse().unwrap()));
            return self.release_records();
        }
        let (name, file) = path.split_once('/').unwrap();
        let rendition = named(name);
        let number = file.strip_prefix('p').unwrap().strip_suffix(".m4s").unwrap().parse().unwrap();
        let Some(data) = self.media.get(&(rendition, number)) else {
            return self.post(HTTP_MS, Input::FetchFailed { fetch, status: Some(404) });
        };
        let body = match range {
            Some((first, last)) => {
                data.slice(usize::try_from(first).unwrap()..=usize::try_from(last).unwrap())
            }
            None => data.clone(),
        };
        self.origin_bytes += body.len() as u64;
        self.post(self.origin_ms, Input::Fetched { fetch, body });
    }

    fn release_records(&mut self) {
        for (fetch, rendition, from) in std::mem::take(&mut self.waiting_records) {
            let mut body = BytesMut::new();
            let newest = self.records[&rendition].last().map_or(0, |record| record.unverified().segment);
            for record in self.records[&rendition].iter().rev() {
                let Record { number, segment, .. } = record.unverified();
                if if from == 0 { *segment + 1 >= newest } else { *number >= from } {
                    write_framed(&Frame::Record(record.clone()).encode(), &mut body);
                }
            }
            if body.is_empty() {
                self.waiting_records.push((fetch, rendition, from));
            } else {
                self.origin_records += 1;
                self.post(HTTP_MS, Input::Fetched { fetch, body: body.freeze() });
            }
        }
    }

    pub fn count(&self, test: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| test(event)).count()
    }
}

fn named(name: &str) -> RenditionId {
    RENDITIONS.iter().find(|(_, own, _)| *own == name).unwrap().0
}

fn catalog(version: u32, ended: bool) -> Catalog {
    let rendition = |id, name: &str, media, codecs: &str| Rendition {
        id,
        name: name.into(),
        group: name.into(),
        media,
        codecs: codecs.into(),
        bandwidth: BitRate(3_200_000),
        timescale: 1_000,
        target_duration_ms: 4_000,
        part_target_ms: 250,
        init: Bytes::from_static(b"init"),
    };
    Catalog {
        generation: 1,
        version,
        created: WallTime(WALL),
        ended,
        renditions: vec![
            rendition(
                VIDEO,
                "video",
                Media::Video { width: 1280, height: 720, frame_rate_milli: 30_000 },
                "avc1.64001f",
            ),
            rendition(AUDIO, "audio", Media::Audio { channels: 2, sample_rate: 48_000 }, "mp4a.40.2"),
            Rendition {
                group: "video".into(),
                ..rendition(
                    LOW,
                    "video-low",
                    Media::Video { width: 320, height: 180, frame_rate_milli: 30_000 },
                    "avc1.64000d",
                )
            },
        ],
    }
}

/// Reads a framed body back, for tests of bodies.
pub fn frames(body: &[u8]) -> Vec<Frame> {
    let mut deframer = Deframer::default();
    deframer.push(body);
    std::iter::from_fn(|| deframer.next_frame().unwrap()).collect()
}
