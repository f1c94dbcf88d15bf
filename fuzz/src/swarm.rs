//! A viewer's swarm among edges, an origin and a tracker that say anything, truth among it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_model::{EdgeId, Fingerprint, Instant, PIECE_BYTES, RenditionId, WallTime};
use millstream_swarm::{
    Config, Content, EARLY_PIECES_MAX, FETCHES_MAX, FetchId, Input, Output, Resource, SignId, Swarm,
    WANTS_MAX, WantId,
};
use millstream_wire::{
    frame::{Frame, Reason, Span},
    session::Voucher,
    sign::{Context, Signer as _},
    tracker::ToViewer,
};

use crate::script::Script;

mod held;
mod show;

use held::Held;
use show::{NUMBERS, SHOW, Show, WALL, rendition_of};

/// Steps of one run: each can be a real signature to check.
const STEPS_MAX: usize = 200;

/// Bytes of what was handed in that may be held: the whole show, pieces that wait for their record, records with the
/// responses that they came in.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024 + EARLY_PIECES_MAX * (PIECE_BYTES as usize + 64);

/// Outputs after one input at most.
const OUTPUTS_MAX: usize = 2_000;

/// Timers that may ring in one wait of at most two minutes.
const TIMERS_MAX: usize = 20_000;

pub(crate) fn swarm(data: &[u8]) {
    let mut script = Script::new(data);
    let mut run = Run::new(&SHOW, script.byte());
    for _ in 0..STEPS_MAX {
        if !script.goes_on() {
            break;
        }
        run.step(&mut script);
    }
    run.handle(Input::Leave);
    run.wait(60_000);
    let held = &run.held;
    drop(run.swarm);
    assert_eq!(held.bytes(), 0, "bytes are held after the end");
}

/// Path, range and the longest body.
type Fetch = (String, Option<(u64, u64)>, usize);

struct Run {
    show: &'static Show,
    swarm: Swarm,
    now: Instant,
    held: Held,
    /// What was asked for and not yet answered.
    fetches: BTreeMap<FetchId, Fetch>,
    signs: BTreeMap<SignId, Vec<u8>>,
    wants: BTreeMap<WantId, Resource>,
    next_want: u32,
    /// Piece bytes that each edge brought, and those among them that were true.
    brought: BTreeMap<EdgeId, (u64, u64)>,
    connected: BTreeSet<EdgeId>,
}

impl Run {
    fn new(show: &'static Show, first: u8) -> Self {
        let now = Instant::from_millis(1_000);
        let config = Config {
            stream: show.stream.clone(),
            key: show.session.public(),
            ticket: None,
            root: Some(show.root.public()),
            origin: (first & 1 == 0).then(|| "http://origin".into()),
            wall: WallTime(WALL),
            latency_ms: 3_000,
            data_channels: first & 2 == 0,
            seed: u64::from(first),
        };
        let mut run = Self {
            show,
            swarm: Swarm::new(config, now),
            now,
            held: Held::default(),
            fetches: BTreeMap::new(),
            signs: BTreeMap::new(),
            wants: BTreeMap::new(),
            next_want: 0,
            brought: BTreeMap::new(),
            connected: BTreeSet::new(),
        };
        if first & 4 == 0 {
            // As far as an honest start gets: the rest need not be found by chance.
            run.handle(Input::TrackerOpen);
            run.tracker(show.challenge());
            run.tracker(show.welcome(7, 1 << 30));
            run.be_honest();
            for edge in 0..2 {
                run.greet(edge);
            }
        }
        run
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 40 {
            0 => self.handle(if script.flag() { Input::TrackerOpen } else { Input::TrackerClosed }),
            1 => self.tracker(self.show.challenge()),
            2 => self.tracker(self.show.welcome(script.byte(), script.long())),
            3 | 4 => {
                let message = self.show.tracker_says(script);
                self.tracker(message);
            }
            5 => {
                let edge = script.index(4);
                self.greet(edge);
            }
            6 => {
                let edge = self.show.edge(script.index(4));
                self.handle(Input::EdgeClosed { edge });
            }
            7..=14 => {
                let (edge, number) = (script.index(3), self.number(script));
                let rendition = RenditionId(script.byte() & 1);
                self.part(edge, rendition, number, script.byte());
            }
            15 | 16 => {
                let (edge, frame) = (script.index(4), self.show.true_frame(script));
                self.edge(edge, &frame.encode());
            }
            17 | 18 => {
                let (edge, frame) = (script.index(4), self.lie(script));
                self.edge(edge, &frame.encode());
            }
            19 => {
                // A true frame with one bit changed, or no frame at all.
                let edge = script.index(4);
                let mut message = if script.flag() {
                    self.show.true_frame(script).encode().to_vec()
                } else {
                    script.bytes().to_vec()
                };
                if !message.is_empty() {
                    let at = script.index(message.len());
                    message[at] ^= 1 << (script.byte() % 8);
                }
                self.edge(edge, &message);
            }
            20..=22 => self.answer_fetch(script),
            23 => self.be_honest(),
            24 => {
                let index = script.index(self.signs.len());
                if let Some((sign, message)) =
                    self.signs.iter().nth(index).map(|(id, text)| (*id, text.clone()))
                {
                    self.signs.remove(&sign);
                    let signature = if script.seldom() { [7; 64] } else { self.show.session.sign(&message) };
                    self.handle(Input::Signed { sign, signature });
                }
            }
            25..=30 => self.want(script),
            31 => {
                let want = WantId(u32::from(script.byte()));
                self.wants.remove(&want);
                self.handle(Input::Unwant { want });
            }
            32 | 33 => {
                let at = if script.seldom() { script.long() } else { WALL + u64::from(script.half()) };
                let (buffer_ms, stalls, stalled_ms) =
                    (u32::from(script.half()), script.word(), script.word());
                self.handle(Input::Playhead { at: WallTime(at), buffer_ms, stalls, stalled_ms });
            }
            34 => {
                self.handle(Input::FetchFailed {
                    fetch: FetchId(script.word()),
                    status: Some(script.half()),
                });
            }
            35 if script.seldom() => self.handle(Input::Leave),
            _ => {
                let ms =
                    if script.seldom() { u64::from(script.half()) * 2 } else { u64::from(script.byte()) * 8 };
                self.wait(ms);
            }
        }
    }

    fn number(&self, script: &mut Script<'_>) -> u64 {
        NUMBERS.start + u64::from(script.byte()) % (NUMBERS.end - NUMBERS.start)
    }

    fn tracker(&mut self, message: ToViewer) {
        self.handle(Input::Tracker(message));
    }

    fn greet(&mut self, edge: usize) {
        let edge = self.show.edge(edge);
        self.connected.insert(edge);
        self.handle(Input::EdgeOpen { edge, fingerprint: Fingerprint([4; 32]) });
        self.be_honest();
        for frame in [
            Frame::Welcome { protocol: 1, window: 2 << 20 },
            Frame::Delegation(self.show.delegation.clone()),
            Frame::Catalog(self.show.catalogs[0].clone()),
        ] {
            self.handle(Input::EdgeMessage { edge, message: frame.encode() });
        }
    }

    /// A part as an edge pushes it: its record and its pieces, each if its bit is set; one of them not true, if
    /// `how` says so.
    fn part(&mut self, edge: usize, rendition: RenditionId, number: u64, how: u8) {
        if how & 1 == 1 {
            let record = self.show.record(rendition, number).clone();
            self.edge(edge, &Frame::Record(record).encode());
        }
        let media = self.show.media[&(rendition, number)].clone();
        for (index, piece) in (0_u32..).zip(media.chunks(PIECE_BYTES as usize)) {
            if how >> (1 + index) & 1 == 1 {
                let mut data = piece.to_vec();
                if how & 0x80 == 0x80 {
                    data[0] ^= 1;
                }
                let data = Bytes::from(data);
                self.edge(edge, &Frame::Piece { rendition, number, index, data }.encode());
            }
        }
    }

    fn edge(&mut self, edge: usize, message: &[u8]) {
        let edge = self.show.edge(edge);
        if let Ok(Some(Frame::Piece { rendition, number, index, data })) =
            Frame::decode(Bytes::copy_from_slice(message))
        {
            let counts = self.brought.entry(edge).or_default();
            counts.0 += data.len() as u64;
            if self.show.is_true(rendition, number, index, &data) {
                counts.1 += data.len() as u64;
            }
        }
        let message = self.held.hold(message);
        self.handle(Input::EdgeMessage { edge, message });
    }

    /// Frames that no honest edge would send, or not now.
    fn lie(&self, script: &mut Script<'_>) -> Frame {
        let rendition = RenditionId(script.byte() % 3);
        let number = if script.flag() { self.number(script) } else { script.long() >> 2 };
        match script.byte() % 9 {
            0 => Frame::Piece {
                rendition,
                number,
                index: u32::from(script.byte()),
                data: vec![script.byte(); if script.flag() { PIECE_BYTES as usize } else { 9 }].into(),
            },
            1 => Frame::Gap { rendition, from: number, next: script.long() >> 2 },
            2 => Frame::Missing(Span { rendition, number, first: 0, count: 256 }),
            3 => Frame::Goaway { reason: Reason::Shutdown, within_ms: script.word() },
            4 => Frame::Refuse { reason: Reason::Unpaid, text: "pay".into() },
            5 => Frame::Pong(script.long()),
            6 => Frame::Welcome { protocol: script.half(), window: script.word() },
            7 => Frame::Record(self.show.forged_record(script.byte())),
            _ => Frame::Catalog(self.show.forged_catalog.clone()),
        }
    }

    fn answer_fetch(&mut self, script: &mut Script<'_>) {
        let index = script.index(self.fetches.len());
        let Some((fetch, (url, range, bytes_max))) =
            self.fetches.iter().nth(index).map(|(id, asked)| (*id, asked.clone()))
        else {
            return;
        };
        self.fetches.remove(&fetch);
        let mut body = self.show.serves(&url, range).unwrap_or_default();
        match script.byte() % 8 {
            0 => return self.handle(Input::FetchFailed { fetch, status: Some(503) }),
            1 => return self.handle(Input::FetchFailed { fetch, status: None }),
            2 => body.truncate(script.index(body.len())),
            3 => body = script.bytes().to_vec(),
            4 if !body.is_empty() => {
                let at = script.index(body.len());
                body[at] ^= 1 << (script.byte() % 8);
            }
            _ => {}
        }
        // A longer one is a failure, which the shell tells.
        body.truncate(bytes_max);
        let body = self.held.hold(&body);
        self.handle(Input::Fetched { fetch, body });
    }

    /// Whatever was asked is answered, truly.
    fn be_honest(&mut self) {
        for (fetch, (url, range, bytes_max)) in std::mem::take(&mut self.fetches) {
            let input = match self.show.serves(&url, range).filter(|body| body.len() <= bytes_max) {
                Some(body) => Input::Fetched { fetch, body: self.held.hold(&body) },
                None => Input::FetchFailed { fetch, status: Some(404) },
            };
            self.handle(input);
        }
        for (sign, message) in std::mem::take(&mut self.signs) {
            self.handle(Input::Signed { sign, signature: self.show.session.sign(&message) });
        }
    }

    fn want(&mut self, script: &mut Script<'_>) {
        let rendition = String::from(["video", "audio", "other"][script.index(3)]);
        let resource = match script.byte() % 8 {
            0 => Resource::Multivariant,
            1 | 2 => {
                let url = format!("/s/demo/{rendition}.m3u8?_HLS_msn={}", 50 + script.byte() % 8);
                Resource::of_url(&url).unwrap()
            }
            3 => Resource::Init {
                rendition,
                generation: u32::from(script.byte() % 3),
                version: u32::from(script.byte() % 3),
            },
            4 => Resource::Segment { rendition, segment: 50 + u64::from(script.byte() % 5) },
            5 if script.seldom() => Resource::Part { rendition, number: script.long() },
            _ => Resource::Part { rendition, number: self.number(script) },
        };
        let want = WantId(self.next_want);
        self.next_want += 1;
        self.wants.insert(want, resource.clone());
        self.handle(Input::Want { want, resource });
        assert!(self.wants.len() <= WANTS_MAX, "{} wants wait", self.wants.len());
    }

    fn wait(&mut self, ms: u64) {
        let end = Instant(self.now.0 + ms * 1_000);
        for rung in 0.. {
            assert!(rung < TIMERS_MAX, "its timers never rest");
            let Some(at) = self.swarm.deadline().filter(|at| *at <= end) else { break };
            self.now = at.max(Instant(self.now.0 + 1));
            self.swarm.handle_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(end);
    }

    fn handle(&mut self, input: Input) {
        self.swarm.handle(input, self.now);
        self.drain();
        let held = self.held.bytes();
        assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
        // Requests for records wait for what does not exist yet: one a rendition, beside those for media.
        let records = self.fetches.values().filter(|(url, ..)| url.contains("/records?")).count();
        assert!(records <= 2 && self.fetches.len() - records <= FETCHES_MAX, "{:?}", self.fetches);
        let stats = self.swarm.stats();
        assert!(stats.paid.0 >= 0 && stats.edges.iter().all(|edge| edge.payable <= edge.received));
    }

    fn drain(&mut self) {
        for polled in 0.. {
            assert!(polled < OUTPUTS_MAX, "it never falls silent");
            let Some(output) = self.swarm.poll() else { break };
            match output {
                Output::Fetch { fetch, url, range, bytes_max, .. } => {
                    assert!(self.fetches.insert(fetch, (url, range, bytes_max)).is_none());
                }
                Output::Abort { fetch } => drop(self.fetches.remove(&fetch)),
                Output::Sign { sign, message } => drop(self.signs.insert(sign, message)),
                Output::Deliver { want, content } => {
                    let resource = self.wants.remove(&want).expect("what was not wanted is not delivered");
                    self.delivered(&resource, &content);
                }
                Output::Refuse { want, .. } => {
                    assert!(self.wants.remove(&want).is_some(), "an answer that nobody waits for");
                }
                Output::Send { edge, message } => {
                    let frame = Frame::decode(message).unwrap().unwrap();
                    if let Frame::Voucher(voucher) = frame {
                        // One that was signed wrongly is no statement.
                        if let Ok(said) = voucher.verify(&self.show.session.public(), Context::None) {
                            self.vouched(edge, said);
                        }
                    }
                }
                Output::Disconnect { edge } => drop(self.connected.remove(&edge)),
                Output::Tracker(_) | Output::Connect { .. } | Output::Event(_) => {}
            }
        }
    }

    /// Every byte that is played is one that the packager signed.
    fn delivered(&self, resource: &Resource, content: &Content) {
        match (resource, content) {
            (Resource::Part { rendition, number }, Content::Media(media)) => {
                assert_eq!(Some(media), self.show.media.get(&(rendition_of(rendition), *number)));
            }
            (Resource::Segment { rendition, segment }, Content::Media(media)) => {
                assert_eq!(media, &self.show.segment(rendition_of(rendition), *segment));
            }
            (Resource::Init { generation, .. }, Content::Media(media)) => {
                assert_eq!((*generation, &media[..]), (1, &b"init"[..]));
            }
            (Resource::Multivariant | Resource::Playlist { .. }, Content::Playlist(text)) => {
                assert!(text.starts_with("#EXTM3U\n"), "{text}");
            }
            (asked, answered) => panic!("{answered:?} for {asked:?}"),
        }
    }

    /// Nobody is promised money for more than they brought, nor for what was not true.
    fn vouched(&self, edge: EdgeId, said: &Voucher) {
        let (received, verified) = self.brought.get(&edge).copied().unwrap_or_default();
        assert_eq!(said.edge, edge);
        assert!(said.received <= received, "{} of {received} bytes vouched for", said.received);
        assert!(said.payable <= verified, "{} of {verified} bytes payable", said.payable);
    }
}
