//! A world around the ledger: honest and dishonest parties, time, restarts; the ledger beside the model.
//!
//! Whoever has steps plays them: `random` here, and the fuzzing, which includes this file.

use std::collections::BTreeMap;

use millstream_ledger::{Account, Promised, Terms, grant, limits, session::Lane, voucher::Bringer};
use millstream_model::{Micros, Price, SessionId};
use millstream_wire::{
    session::{Grant, Receipt, Voucher},
    sign::Signed,
};

use crate::{
    model::{Model, Session},
    stage::*,
};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Fund { id: u8, amount: i64 },
    Terms { stream: u8, price: u32, budget: i64, stopped: bool },
    Publish { stream: u8, bytes: u64 },
    Pass { ms: u64 },
    Join { viewer: u8 },
    Leave { viewer: u8 },
    Grant { viewer: u8, edge: u8 },
    Voucher { viewer: u8, edge: u8, more: u64, lie: Lie },
    Replay { index: u16 },
    Take,
    Write,
    Crash,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    None,
    Forged,
    OverCap,
    Tracker,
    Stream,
    Bringer,
    Backwards,
}

/// Something the tracker may tell once it is on disk.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    Grant(Grant),
    Receipt(Receipt),
}

pub(crate) struct World {
    pub(crate) stage: Stage,
    model: Model,
    /// The model as of each batch that is under way, and as of the disk.
    models_under_way: Vec<Model>,
    model_on_disk: Model,
    crashed: bool,
    viewers: BTreeMap<SessionId, Viewer>,
    said: Vec<Signed<Voucher>>,
    waiting: Vec<Promised<Word>>,
    pub(crate) told: Vec<Word>,
    joins: u8,
    /// Newest session of each viewer.
    seats: BTreeMap<u8, SessionId>,
    counters: [u64; 2],
}

fn stream_of(n: u8) -> millstream_model::StreamId {
    stream(if n.is_multiple_of(2) { "even" } else { "odd" })
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            stage: Stage::new(),
            model: Model::at(START),
            models_under_way: Vec::new(),
            model_on_disk: Model::default(),
            crashed: false,
            viewers: BTreeMap::new(),
            said: Vec::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            joins: 0,
            seats: BTreeMap::new(),
            counters: [0; 2],
        };
        for stream in 0..2 {
            world.take(Step::Terms { stream, price: 1_000_000, budget: 3_000_000, stopped: false });
        }
        world.take(Step::Fund { id: 200, amount: 2_000_000 });
        for stream in 0..2 {
            world.take(Step::Publish { stream, bytes: 30 * SECOND });
        }
        for viewer in 0..3 {
            world.take(Step::Join { viewer });
        }
        // What a restart comes back to.
        world.take(Step::Take);
        world.take(Step::Write);
        world
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Fund { id, amount } => self.fund(id, amount),
            Step::Terms { stream, price, budget, stopped } => {
                let terms = Terms { stopped, ..live(price, budget) };
                self.stage.ledger.set_stream(&stream_of(stream), &name("acme"), terms).unwrap();
                self.model.terms.insert(stream_of(stream), terms);
            }
            Step::Publish { stream, bytes } => self.publish(stream, bytes),
            Step::Pass { ms } => {
                self.stage.pass(ms);
                self.model.pass(ms);
            }
            Step::Join { viewer } => self.join(viewer),
            Step::Leave { viewer } => {
                if let Some(id) = self.seats.get(&viewer) {
                    self.stage.ledger.close(*id, self.stage.now);
                    if let Some(session) = self.model.sessions.get_mut(id) {
                        session.close(self.stage.now.0);
                    }
                }
            }
            Step::Grant { viewer, edge } => self.grant(viewer, edge),
            Step::Voucher { viewer, edge, more, lie } => self.voucher(viewer, edge, more, lie),
            Step::Replay { index } => {
                if !self.said.is_empty() {
                    let voucher = self.said[usize::from(index) % self.said.len()].clone();
                    self.bring(&voucher, true, true);
                }
            }
            Step::Take => {
                let before = self.stage.under_way.len();
                self.stage.take();
                if self.stage.under_way.len() > before {
                    self.models_under_way.push(self.model.clone());
                }
            }
            Step::Write => {
                self.stage.write();
                if let Some(model) = self.models_under_way.drain(..).next_back() {
                    self.model_on_disk = model;
                }
                self.listen();
            }
            Step::Crash => self.crash(),
        }
    }

    fn fund(&mut self, id: u8, amount: i64) {
        let text = format!("invoice-{id}");
        let id = millstream_ledger::book::FundingId::new(&text).unwrap();
        let result = self.stage.ledger.fund(&name("acme"), Micros(amount), id, self.stage.now);
        match self.model.funded.get(&text) {
            None => {
                assert!(open(result.unwrap()));
                self.model.funded.insert(text, amount);
            }
            Some(before) if *before == amount => assert!(!open(result.unwrap())),
            Some(_) => assert!(result.is_err()),
        }
    }

    fn publish(&mut self, n: u8, bytes: u64) {
        let (stream, now) = (stream_of(n), self.stage.now);
        let counter = &mut self.counters[usize::from(n % 2)];
        *counter += bytes;
        self.stage.publish(&stream, *counter);
        self.model.reported.insert(stream.clone(), now.0);
        let known = self.stage.ledger.stream(&stream).unwrap().published();
        assert_eq!(known, *counter);
        if self.model.total(&stream) < *counter {
            let points = self.model.published.entry(stream).or_default();
            points.push((now.0, *counter));
        }
    }

    fn join(&mut self, seat: u8) {
        let Some(next) = self.joins.checked_add(1).filter(|next| *next < 200) else { return };
        self.joins = next;
        let stream = stream_of(seat);
        let viewer = self.stage.join(self.joins, &stream);
        let base = self.stage.ledger.session(viewer.session).unwrap().base();
        let (first, last) = self.model.base(&stream);
        if self.crashed {
            assert!(base <= last, "a restart may only favour the edges: {base} > {last}");
        } else {
            assert_eq!(base, first);
        }
        let session = Session {
            key: viewer.key(),
            stream,
            expires: self.stage.now.plus_millis(12 * 3_600_000),
            closed: false,
            over: false,
            base,
            closing: None,
            frozen: None,
        };
        self.model.sessions.insert(viewer.session, session);
        self.seats.insert(seat, viewer.session);
        self.viewers.insert(viewer.session, viewer);
    }

    fn grant(&mut self, seat: u8, n: u8) {
        let Some(id) = self.seats.get(&seat).copied() else { return };
        let request = grant::Request { session: id, edge: edge(n), operator: operator(n), rate: RATE };
        let result = self.stage.ledger.grant(&request, self.stage.now);
        let expected = self.model.grant(id, edge(n), n, RATE);
        let cap = result.as_ref().map(|promised| open(promised.clone()).cap_bytes);
        let code = cap.map_err(|refused| match refused {
            grant::Refused::UnknownSession(_) => "unknown",
            grant::Refused::Closed(_) => "closed",
            grant::Refused::Stopped(_) => "stopped",
            grant::Refused::Funds { .. } | grant::Refused::Budget { .. } => "money",
            other => panic!("{other}"),
        });
        assert_eq!(code, expected);
        self.waiting.extend(result.map(|promised| promised.map(Word::Grant)));
    }

    fn voucher(&mut self, seat: u8, n: u8, more: u64, lie: Lie) {
        let Some(viewer) = self.seats.get(&seat).and_then(|id| self.viewers.get(id)) else { return };
        let lane = self.model.lanes.get(&(viewer.session, edge(n)));
        let (payable, cap) = lane.map_or((0, 0), |lane| (lane.payable(), lane.cap()));
        let mut claim = viewer.says(edge(n), payable + more);
        let stranger = Viewer::new(250, &viewer.stream);
        let (mut own, mut genuine) = (true, true);
        match lie {
            Lie::None => {}
            Lie::Forged => genuine = false,
            Lie::OverCap => claim.payable = cap + 1 + more,
            Lie::Tracker => claim.tracker = millstream_model::PublicKey([9; 32]),
            Lie::Stream => claim.stream = stream_of(seat + 1),
            Lie::Bringer => own = false,
            Lie::Backwards => claim.payable = payable.saturating_sub(more),
        }
        claim.received = claim.payable;
        let signed = if genuine { viewer.signs(claim) } else { stranger.signs(claim) };
        self.bring(&signed, own, genuine);
        if genuine && own {
            self.said.push(signed);
        }
    }

    fn bring(&mut self, voucher: &Signed<Voucher>, own: bool, genuine: bool) {
        let claim = voucher.unverified();
        let by = match (own, claim.payable % 2) {
            (true, 0) => Bringer::Edge(claim.edge),
            (true, _) => Bringer::Session(claim.session),
            (false, 0) => Bringer::Edge(edge(9)),
            (false, _) => Bringer::Session(SessionId([0xfe; 16])),
        };
        let result = self.stage.ledger.bring(voucher.clone(), by, self.stage.now);
        let expected = self.model.voucher(claim, own, genuine);
        match (&result, expected) {
            (Ok(promised), Ok(_)) => {
                let receipt = open(promised.clone());
                let lane = &self.model.lanes[&(claim.session, claim.edge)];
                assert_eq!(receipt.payable, lane.payable());
                assert_eq!(i128::from(receipt.earned.0), lane.paid());
            }
            (Err(refused), Err(code)) => assert_eq!(refused.code(), code, "{refused}"),
            (result, expected) => panic!("{result:?} where {expected:?} belongs, for {claim:?}"),
        }
        self.waiting.extend(result.map(|promised| promised.map(Word::Receipt)));
    }

    /// Hears all words whose batch is on disk.
    fn listen(&mut self) {
        let durable = self.stage.ledger.durable();
        for promised in std::mem::take(&mut self.waiting) {
            match promised.release(durable) {
                Ok(word) => self.told.push(word),
                Err(promised) => self.waiting.push(promised),
            }
        }
    }

    fn crash(&mut self) {
        self.crashed = true;
        self.stage.crash();
        self.models_under_way.clear();
        self.waiting.clear();
        let now = self.stage.now;
        self.model = self.model_on_disk.clone();
        // When sessions were closed and packagers heard of is not stored.
        self.model.reported.clear();
        for session in self.model.sessions.values_mut().filter(|session| session.closing.is_some()) {
            session.closing = Some((now.0, now.0 + limits::FREEZE_AFTER_MS));
        }
        self.model.pass(now.0 - self.model.now);
        self.stage.ledger.tick(now);
        // The packager reports again: it is cumulative.
        for n in 0..2 {
            self.publish(n, 0);
        }
        for word in self.told.clone() {
            self.still_holds(&word);
        }
    }

    fn still_holds(&self, word: &Word) {
        let (session, edge) = match word {
            Word::Grant(grant) => (grant.session, grant.edge),
            Word::Receipt(receipt) => (receipt.session, receipt.edge),
        };
        let lane = self.stage.disk.lanes.get(&(session, edge)).expect("a lane that somebody was told of");
        match word {
            Word::Grant(grant) => assert!(lane.serial >= grant.serial && lane.cap_bytes >= grant.cap_bytes),
            Word::Receipt(receipt) => assert!(lane.payable >= receipt.payable && lane.paid >= receipt.earned),
        }
    }

    pub(crate) fn check(&self) {
        self.check_unsettled();
        let balances: BTreeMap<Account, Micros> = self
            .stage
            .ledger
            .balances()
            .filter(|(_, balance)| *balance != Micros::ZERO)
            .map(|(account, balance)| (account.clone(), balance))
            .collect();
        assert_eq!(balances, self.model.balances());
        assert_eq!(balances.values().map(|balance| i128::from(balance.0)).sum::<i128>(), 0);
        assert!(balances.iter().all(|(account, balance)| *account == Account::External || balance.0 > 0));
        for ((session, edge), lane) in &self.model.lanes {
            let Some(state) = self.stage.ledger.lane(*session, *edge).map(Lane::state) else {
                assert!(self.model.sessions[session].over);
                continue;
            };
            assert_eq!(state.payable, lane.payable());
            assert_eq!(i128::from(state.paid.0), lane.paid());
            assert_eq!(state.settled, lane.settled);
        }
        for (id, session) in self.stage.ledger.sessions() {
            let held: i128 = session.lanes().map(|lane| i128::from(lane.state().reserved.0)).sum();
            assert_eq!(held, self.model.held(id));
            assert_eq!(session.bound(), self.model.sessions[&id].frozen.map(|(bound, _)| bound));
        }
        let open_sessions = self.model.sessions.values().filter(|session| !session.over).count();
        assert_eq!(self.stage.ledger.sessions().count(), open_sessions);
        let unsealed: BTreeMap<_, _> = self
            .stage
            .ledger
            .epochs()
            .filter(|(epoch, _, _)| self.stage.now < epoch.sealed_at())
            .map(|(epoch, operator, earned)| ((epoch, operator.clone()), earned))
            .collect();
        assert_eq!(unsealed, self.model.epochs());
    }

    /// After everything is written: every way to count what was earned gives the same.
    /// The counts of unsettled lanes against a count of all lanes.
    fn check_unsettled(&self) {
        let ledger = &self.stage.ledger;
        for n in 0..4 {
            let open = |of: &str| {
                let sessions = ledger.sessions().filter(|(_, session)| session.stream().as_str() == of);
                let lanes = sessions.flat_map(|(_, session)| session.lane(edge(n)));
                lanes.filter(|lane| !lane.state().settled).count()
            };
            let (even, odd) = (open("even"), open("odd"));
            assert_eq!(ledger.lanes_of(edge(n)), even + odd);
            assert_eq!(ledger.carries(edge(n), &stream("even")), even > 0);
            assert_eq!(ledger.carries(edge(n), &stream("odd")), odd > 0);
        }
    }

    pub(crate) fn check_disk(&mut self) {
        self.take(Step::Take);
        self.take(Step::Write);
        let disk = &self.stage.disk;
        disk.audit().unwrap();
        let mut by_lane = BTreeMap::<_, i64>::new();
        for row in disk.lanes.values() {
            *by_lane.entry(row.operator.clone()).or_default() += Price(row.price.0).of(row.payable).0;
        }
        let mut by_voucher = BTreeMap::<_, i64>::new();
        for row in disk.vouchers.values() {
            *by_voucher.entry(row.operator.clone()).or_default() += row.earned.micros.0;
            let voucher = Signed::<Voucher>::decode(row.voucher.clone()).unwrap();
            let key = self.model.sessions[&row.session].key;
            assert_eq!(
                voucher.verify(&key, millstream_wire::sign::Context::None).unwrap().payable,
                row.payable
            );
        }
        let mut by_epoch = BTreeMap::<_, i64>::new();
        for ((_, operator), earned) in &disk.epochs {
            *by_epoch.entry(operator.clone()).or_default() += earned.micros.0;
        }
        by_lane.retain(|operator, _| by_voucher.contains_key(operator));
        for (operator, earned) in &by_voucher {
            assert_eq!(disk.balances.get(&Account::Operator(operator.clone())).map_or(0, |b| b.0), *earned);
        }
        assert_eq!(by_lane, by_voucher);
        assert_eq!(by_epoch, by_voucher);
        for word in self.told.clone() {
            self.still_holds(&word);
        }
    }

    pub(crate) fn replay_everything(&mut self) {
        let before = self.stage.disk.clone();
        let mut said = self.said.clone();
        for round in 0..10_usize {
            said.rotate_left((round * 7).min(self.said.len()));
            said.reverse();
            for voucher in &said {
                let claim = voucher.unverified();
                let lane = self.model.lanes.get(&(claim.session, claim.edge));
                // One that was ahead of its time may pass now; that is no replay.
                if lane.is_some_and(|lane| claim.payable <= lane.payable()) {
                    let _ =
                        self.stage.ledger.bring(voucher.clone(), Bringer::Edge(claim.edge), self.stage.now);
                }
            }
        }
        self.stage.commit();
        assert_eq!(self.stage.disk.balances, before.balances);
        assert_eq!(self.stage.disk.vouchers, before.vouchers);
    }
}
