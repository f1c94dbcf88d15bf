//! The schedule: which edge pushes a rendition, who is asked for what is missing, and when.
//!
//! The clock of a part starts when its record arrives from anywhere. Its deadline is when the playhead gets there.
//! At half of that time the missing pieces are asked from the edge that stands by, at 70 % from the origin, unless who is
//! to bring them brings others: then the line is full, and asking more makes it fuller. A part that nobody pushes is
//! asked from the primary at once, or from the origin where there is none.
//!
//! Two who are asked for the same race, and nobody is paid for the copy that comes second: the loser is told at once,
//! and an edge is asked to race only as far as it bears to lose. Nothing is pushed to a player that stands.

use alloc::{format, string::ToString as _, vec::Vec};
use core::time::Duration;

use millstream_model::{EdgeId, Instant, PIECE_BYTES, RenditionId};
use millstream_playlist::{path::Path, query};
use millstream_wire::{
    frame::{Frame, Reason, Span, Subscription},
    media::Record,
    sign::{Context, signing_input},
};

use crate::{
    fetch::Purpose,
    lane::{Lane, Phase},
    limits::{
        ALLOWANCE_MS_MAX, ALLOWANCE_MS_MIN, CONNECT_MS, FLOW_SILENT_MS, FLOW_SILENT_MS_MAX, LANE_SILENT_MS,
        LATE_PARTS_MAX, PING_MS, PRIMARY_SILENT_MS, PRIMARY_TRIAL_MS, RACES_MAX, RECORDS_BYTES_MAX,
        RECORDS_JITTER_MS, TRIALS_MAX,
    },
    part::Part,
    port::{Event, Output},
    rendition::Rendition,
    swarm::{Signing, Swarm},
};

/// Milliseconds after which something overdue is looked at again.
const OVERDUE_MS: u64 = 50;

/// What to do for one part.
enum Step {
    Ask(EdgeId),
    Fetch,
}

impl Swarm {
    /// How long a part may take: until the playhead reaches it.
    pub(crate) fn allowance(&self, record: &Record, now: Instant) -> Duration {
        let playhead = self.player.playhead.map(|(at, then)| at.plus_millis(now.millis_since(then)));
        let millis = match playhead {
            Some(playhead) => record.program_date_time.millis_since(playhead),
            None => u64::from(self.config.latency_ms),
        };
        Duration::from_millis(millis.clamp(ALLOWANCE_MS_MIN, ALLOWANCE_MS_MAX))
    }

    pub(crate) fn is_primary(&self, edge: EdgeId) -> bool {
        self.renditions.values().any(|rendition| rendition.primary == Some(edge))
    }

    /// When [`Swarm::handle_timeout`] wants to be called; `None` when only an input can change anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.values().flat_map(|lane| {
            let next = match lane.phase {
                Phase::Idle(at) => Some(at),
                Phase::Connecting | Phase::Greeting => Some(lane.since + Duration::from_millis(CONNECT_MS)),
                Phase::Ready => {
                    let silent = lane.heard + Duration::from_millis(LANE_SILENT_MS);
                    Some(silent.min(lane.pinged + Duration::from_millis(PING_MS)))
                }
                Phase::Left => None,
            };
            [next, lane.voucher_deadline()].into_iter().flatten()
        });
        let parts = self.renditions.iter().flat_map(|(id, rendition)| {
            rendition.open.iter().filter_map(|number| self.next_mark(*id, rendition, *number))
        });
        let ended = self.catalog().is_some_and(|catalog| catalog.ended);
        let wanted = self.renditions.iter().filter_map(|(id, rendition)| {
            // What is over by now was seen to when it was.
            let until = rendition.wanted_until().filter(|at| *at > self.driven)?;
            let patience = Duration::from_millis(rendition.patience(RECORDS_JITTER_MS));
            let may_ask = rendition.records_fetch.is_none() && !ended && self.session.origin.is_some();
            let asks = may_ask.then(|| {
                let ready = self.fetches.ready_at(&Purpose::Records { rendition: *id });
                let at_once = rendition.hole().is_some() || rendition.wants_segment();
                if at_once { ready } else { ready.max(rendition.record_at + patience) }
            });
            let later = [rendition.settles_at(), rendition.coming_until(), Some(rendition.media_until())];
            let later = later.into_iter().flatten().filter(|at| *at > self.driven).min();
            [Some(until), asks, later].into_iter().flatten().min()
        });
        let may_start = self.catalog().is_none() && !self.started && self.session.origin.is_some();
        let starting = may_start.then(|| self.fetches.ready_at(&Purpose::Start));
        let all = lanes.chain(parts).chain(wanted).chain(self.session.deadline()).chain(starting);
        // What was due already and could not be done (no place for another request) is looked at again soon.
        let soon = self.driven + Duration::from_millis(OVERDUE_MS);
        all.map(|at| if at > self.driven { at } else { soon }).min()
    }

    /// When the next thing is to be done for a part that is open; `None` when it only has to arrive.
    fn next_mark(&self, id: RenditionId, rendition: &Rendition, number: u64) -> Option<Instant> {
        let part = rendition.part(number).filter(|part| part.pushed || part.wanted)?;
        if self.must_wait(rendition, part) {
            return None;
        }
        let whole = part.deadline.since(part.since);
        let stuck = self.stuck_at(rendition, number, part);
        let others = self.order.iter().filter(|edge| rendition.primary != Some(**edge));
        let late = (!part.late).then(|| part.since + whole / 2);
        let asks = self.can_be_asked(part, true, others).map(|_| stuck.max(part.since + whole / 2));
        let may_fetch = !part.fetching && !self.fetches.full() && self.session.origin.is_some();
        let fetches = may_fetch.then(|| {
            let purpose = Purpose::Pieces { rendition: id, number, first: 0, count: 0 };
            stuck.max(part.since + whole * 7 / 10).max(self.fetches.ready_at(&purpose))
        });
        [late, asks, fetches].into_iter().flatten().min()
    }

    /// From when on a part counts as stuck: at once when a later one came before it, else when none of those who are to
    /// bring it has brought anything for a while.
    fn stuck_at(&self, rendition: &Rendition, number: u64, part: &Part) -> Instant {
        if rendition.is_overtaken(number, part) {
            return Instant(0);
        }
        let pushing = rendition.primary.filter(|_| part.pushed);
        let bringing = pushing.iter().chain(&part.asked).filter_map(|edge| self.lanes.get(edge));
        let heard = |lane: &Lane| lane.owes.unwrap_or(lane.piece_at.max(part.asked_at));
        let heard = bringing.map(heard).max().unwrap_or_default();
        let piece_ms = u64::from(part.record.size) * 8_000 / self.estimate.rate().0.max(1);
        let silent = FLOW_SILENT_MS.saturating_add(2 * piece_ms).min(FLOW_SILENT_MS_MAX);
        heard.max(rendition.primary_since) + Duration::from_millis(silent)
    }

    /// The first of these edges that may have a part, was not asked for it, and, where it races another, bears to bring
    /// it in vain: nobody is paid for a copy that comes second, and an edge gives up who takes too many.
    fn can_be_asked<'a>(
        &self,
        part: &Part,
        races: bool,
        edges: impl Iterator<Item = &'a EdgeId>,
    ) -> Option<EdgeId> {
        if part.was_paid() {
            // It would be brought for nothing.
            return None;
        }
        let may = |edge: &EdgeId| {
            let ready = self.lanes.get(edge).filter(|lane| lane.ready());
            let new = !part.without.contains(edge) && !part.asked.contains(edge);
            let bytes = if races { part.missing_bytes() + self.at_stake(*edge) } else { 0 };
            new && ready.is_some_and(|lane| lane.bears(bytes))
        };
        edges.copied().find(may)
    }

    /// Bytes that an edge was asked for and that another may bring first.
    fn at_stake(&self, edge: EdgeId) -> u64 {
        let open = self
            .renditions
            .values()
            .flat_map(|rendition| rendition.open.iter().filter_map(|number| rendition.part(*number)));
        let hedged = open.filter(|part| part.hedged && part.asked.contains(&edge));
        hedged.map(Part::missing_bytes).sum()
    }

    /// Whether somebody is about to bring a part.
    fn is_coming(&self, rendition: &Rendition, part: &Part) -> bool {
        let may_have_it =
            |edge: &EdgeId| self.lanes.get(edge).is_some_and(Lane::ready) && !part.without.contains(edge);
        let is_pushed = part.pushed && rendition.primary.as_ref().is_some_and(may_have_it);
        is_pushed || part.asked.iter().any(may_have_it)
    }

    /// Whether a part that is late only waits: enough others are asked of two already.
    fn must_wait(&self, rendition: &Rendition, part: &Part) -> bool {
        let open = self
            .renditions
            .values()
            .flat_map(|rendition| rendition.open.iter().filter_map(|number| rendition.part(*number)));
        !part.hedged
            && self.is_coming(rendition, part)
            && open.filter(|part| part.hedged).count() >= RACES_MAX
    }

    /// Connects, gives up on what takes too long, pings, and signs vouchers that are due.
    pub(crate) fn tend_lanes(&mut self, now: Instant) {
        let edges: Vec<EdgeId> = self.lanes.keys().copied().collect();
        for edge in edges {
            let Some(lane) = self.lanes.get_mut(&edge) else { continue };
            match lane.phase {
                Phase::Idle(at) if at <= now => {
                    lane.phase = Phase::Connecting;
                    lane.since = now;
                    let address = lane.offer.address.clone();
                    self.push(Output::Connect { edge, address });
                }
                Phase::Connecting | Phase::Greeting if now.millis_since(lane.since) >= CONNECT_MS => {
                    self.push(Output::Disconnect { edge });
                    self.on_closed(edge, None, now);
                }
                Phase::Ready if now.millis_since(lane.heard) >= LANE_SILENT_MS => {
                    self.push(Output::Disconnect { edge });
                    self.on_closed(edge, Some(Reason::Silence), now);
                }
                Phase::Ready if now.millis_since(lane.pinged) >= PING_MS => {
                    lane.pinged = now;
                    self.send(edge, &Frame::Ping(now.0));
                }
                _ => {}
            }
            self.vouch(edge, false, now);
        }
    }

    /// Begins to sign a voucher when one is due.
    pub(crate) fn vouch(&mut self, edge: EdgeId, last: bool, now: Instant) {
        let Some((tracker, session)) = self.session.tracker.zip(self.session.id) else { return };
        let Some(lane) = self.lanes.get_mut(&edge) else { return };
        let Some(voucher) = lane.due_voucher(tracker, session, &self.config.stream, now, last) else {
            return;
        };
        let message = signing_input(&voucher, Context::None);
        lane.draft = Some(voucher);
        let sign = self.sign(Signing::Voucher(edge), message);
        if let Some(lane) = self.lanes.get_mut(&edge) {
            lane.signing = Some(sign);
        }
    }

    /// An edge is no rendition's primary any more; another takes over what is open.
    pub(crate) fn unseat(&mut self, edge: EdgeId, now: Instant) {
        self.vouch(edge, true, now);
        for rendition in self.renditions.values_mut() {
            if rendition.primary == Some(edge) {
                rendition.primary = None;
            }
        }
    }

    /// Everything that depends on time and on who is there.
    pub(crate) fn schedule(&mut self, now: Instant) {
        let ids: Vec<RenditionId> = self.renditions.keys().copied().collect();
        for id in ids {
            if let Some(rendition) = self.renditions.get_mut(&id) {
                rendition.settle(now);
            }
            self.rest(id, now);
            self.subscribe(id, now);
            self.ask_for_records(id, now);
            self.ask_for_parts(id, now);
        }
    }

    /// Nobody pushes to a player that stands with a full buffer: what was being pushed is not waited for.
    fn rest(&mut self, id: RenditionId, now: Instant) {
        let Some(rendition) = self.renditions.get(&id) else { return };
        if rendition.wants_media(now) {
            return;
        }
        for number in rendition.resting() {
            if let Some(part) = self.renditions.get_mut(&id).and_then(|r| r.part_mut(number)) {
                part.pushed = false;
            }
            self.close(id, number);
        }
    }

    /// Chooses a wanted rendition's primary and tells each edge what it is to us.
    fn subscribe(&mut self, id: RenditionId, now: Instant) {
        let ready: Vec<EdgeId> =
            self.order.iter().copied().filter(|edge| self.lanes.get(edge).is_some_and(Lane::ready)).collect();
        // One that has brought too much in vain already is asked, but does not push.
        let able: Vec<EdgeId> = ready
            .iter()
            .copied()
            .filter(|edge| self.lanes.get(edge).is_some_and(|lane| lane.bears(0)))
            .collect();
        // Two who push to one viewer get into each other's way.
        let first = able.iter().find(|edge| self.is_primary(**edge)).or(able.first()).copied();
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        let wanted = rendition.is_wanted(now);
        let pieces = rendition.wants_media(now);
        let silent = now.millis_since(rendition.primary_at) >= PRIMARY_SILENT_MS
            && rendition.record_at > rendition.primary_at;
        let lane = rendition.primary.and_then(|edge| self.lanes.get(&edge));
        let brings = lane.is_some_and(|lane| now.millis_since(lane.piece_at) < FLOW_SILENT_MS_MAX);
        let trial =
            if brings { PRIMARY_TRIAL_MS << rendition.trials.min(TRIALS_MAX) } else { FLOW_SILENT_MS_MAX };
        let on_trial = now.millis_since(rendition.primary_since) < trial;
        let unfit = rendition.late >= LATE_PARTS_MAX && !on_trial || silent;
        let current = rendition.primary.filter(|edge| wanted && able.contains(edge));
        let primary = match current {
            Some(edge) if !unfit => Some(edge),
            Some(edge) => able.iter().copied().find(|other| *other != edge).or(Some(edge)),
            None => first.filter(|_| wanted),
        };
        if primary != rendition.primary {
            rendition.primary = primary;
            rendition.late = 0;
            rendition.trials += u32::from(unfit);
            (rendition.primary_at, rendition.primary_since) = (now, now);
            if let Some(edge) = primary {
                self.event(Event::Primary { rendition: id, edge });
            }
        } else if unfit {
            // Nobody better: give it another chance before looking again.
            rendition.late = 0;
            rendition.primary_at = now;
        }
        let from = self.renditions.get(&id).map_or(0, |rendition| {
            let open = rendition.open.iter().find(|n| rendition.part(**n).is_some_and(|part| part.pushed));
            open.copied().unwrap_or_else(|| rendition.next())
        });
        for edge in ready {
            let want = match (wanted, primary == Some(edge)) {
                (false, _) => Subscription::Nothing,
                (true, true) if pieces => Subscription::Pieces,
                (true, _) => Subscription::Records,
            };
            if self.lanes.get_mut(&edge).is_some_and(|lane| lane.tell(id, want, from, now)) {
                self.send(edge, &Frame::Subscribe { rendition: id, want, from });
            }
        }
    }

    /// Asks the origin for records when no edge brings any, when one is left out, and for a segment to go over with.
    fn ask_for_records(&mut self, id: RenditionId, now: Instant) {
        let ended = self.catalog().is_some_and(|catalog| catalog.ended);
        let jitter = self.jitter(RECORDS_JITTER_MS);
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        if !rendition.is_wanted(now) || rendition.records_fetch.is_some() || ended {
            return;
        }
        let hole = rendition.hole();
        let silent = now.millis_since(rendition.record_at) >= rendition.patience(jitter);
        if hole.is_none() && !silent && !rendition.wants_segment() {
            return;
        }
        let from = hole.unwrap_or_else(|| rendition.next_record());
        let path = format!("{}?{}", Path::Records, query::feed(&rendition.name, from));
        let fetch = self.fetch(Purpose::Records { rendition: id }, &path, None, RECORDS_BYTES_MAX, now);
        if let Some(rendition) = self.renditions.get_mut(&id) {
            rendition.records_fetch = fetch;
            if fetch.is_some() {
                rendition.asked_for_segment();
            }
        }
    }

    fn ask_for_parts(&mut self, id: RenditionId, now: Instant) {
        let Some(rendition) = self.renditions.get(&id) else { return };
        let open: Vec<u64> = rendition.open.iter().copied().collect();
        for number in open {
            self.note_late(id, number, now);
            while let Some(step) = self.next_step(id, number, now) {
                let taken = match step {
                    Step::Ask(edge) => self.ask(id, number, edge, now),
                    Step::Fetch => self.fetch_pieces(id, number, now),
                };
                if !taken {
                    break;
                }
            }
        }
    }

    /// Counts against the primary that half of a part's time is over.
    fn note_late(&mut self, id: RenditionId, number: u64, now: Instant) {
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        let primary = rendition.primary;
        let Some(part) = rendition.part_mut(number).filter(|part| !part.late) else { return };
        let is_its = part.pushed || primary.is_some_and(|primary| part.asked.contains(&primary));
        part.late = is_its && now.since(part.since) >= part.deadline.since(part.since) / 2;
        rendition.late += u32::from(part.late);
    }

    /// The next thing to do for a part at this time; `None` when waiting is right.
    fn next_step(&self, id: RenditionId, number: u64, now: Instant) -> Option<Step> {
        let rendition = self.renditions.get(&id)?;
        let part = rendition.part(number)?;
        if !part.pushed && !part.wanted {
            return None;
        }
        let whole = part.deadline.since(part.since);
        let passed = now.since(part.since);

        if !part.pushed
            && part.asked.is_empty()
            && let Some(edge) = self.can_be_asked(part, false, rendition.primary.iter())
        {
            return Some(Step::Ask(edge));
        }
        if self.must_wait(rendition, part) {
            return None;
        }
        let is_coming = self.is_coming(rendition, part);
        let is_stuck = now >= self.stuck_at(rendition, number, part);
        if passed >= whole / 2 && is_stuck || !is_coming {
            let others = self.order.iter().filter(|edge| rendition.primary != Some(**edge));
            if let Some(edge) = self.can_be_asked(part, is_coming, others) {
                return Some(Step::Ask(edge));
            }
        }
        let late = passed >= whole * 7 / 10 && is_stuck || !is_coming;
        (late && !part.fetching).then_some(Step::Fetch)
    }

    fn ask(&mut self, id: RenditionId, number: u64, edge: EdgeId, now: Instant) -> bool {
        let Some(rendition) = self.renditions.get_mut(&id) else { return false };
        let primary = rendition.primary;
        let Some(part) = rendition.part_mut(number) else { return false };
        let primary_failed = part.pushed || primary.is_some_and(|primary| part.asked.contains(&primary));
        part.ask(edge, now);
        if let Some(lane) = self.lanes.get_mut(&edge) {
            lane.owes.get_or_insert(now);
        }
        let hedge = primary != Some(edge) && primary_failed && !part.hedged;
        part.hedged |= hedge;
        let holes = part.holes();
        for (first, count) in holes {
            self.send(edge, &Frame::Request(Span { rendition: id, number, first, count }));
        }
        true
    }

    fn fetch_pieces(&mut self, id: RenditionId, number: u64, now: Instant) -> bool {
        let Some(rendition) = self.renditions.get(&id) else { return false };
        let Some(part) = rendition.part(number) else { return false };
        let Some(&(first, count)) = part.holes().first() else { return false };
        let path = Path::Part { rendition: &rendition.name, number }.to_string();
        let size = part.record.size;
        let start = u64::from(first) * u64::from(PIECE_BYTES);
        let end = (start + u64::from(count) * u64::from(PIECE_BYTES)).min(u64::from(size));
        let all = start == 0 && end == u64::from(size);
        let range = (!all).then_some((start, end - 1));
        let bytes_max = usize::try_from(end - start).unwrap_or(usize::MAX);
        let purpose = Purpose::Pieces { rendition: id, number, first, count };
        if self.fetches.is_running(&purpose) {
            return false;
        }
        let begun = self.fetch(purpose, &path, range, bytes_max, now).is_some();
        if begun
            && let Some(rendition) = self.renditions.get_mut(&id)
            && let Some(part) = rendition.part_mut(number)
        {
            part.fetching = true;
            part.hedged |= part.pushed || !part.asked.is_empty();
        }
        begun
    }
}
