//! One continuity of a stream with a ladder: from the first picture until the last part of the last rung.
//!
//! ```text
//! Opening ──every rung is described, or that took too long──▶ Open ──close──▶ Closing ──every rung is over──▶ Done
//! ```
//!
//! While it opens, the publisher's own parts wait too: a catalog names all renditions at once where it can. A rung
//! that is described later joins later. After that nobody waits for a rung but itself.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use millstream_pipeline::ladder::{self, Event, Source};
use millstream_segmenter::{
    Follow, Follower, Media, Output, Part, Picture, Track, TrackConfig, TrackKind, VIDEO, describe,
};
use tokio::sync::Notify;

use super::plan::Planned;

/// Milliseconds of media that wait for encoders to begin, or for those of the continuity before to be done.
const WAIT_MS_MAX: u64 = 1_500;

const TICKS_PER_MS: u64 = 90;

/// What happened to a run's encoders since it was last looked at. Rungs are named by their lines.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) dropped: u64,
    /// And by how many milliseconds.
    pub(super) slow: Vec<(u32, u64)>,
    pub(super) given_up: Vec<u32>,
    pub(super) failed: Option<String>,
}

/// A continuity.
pub(super) struct Run {
    discontinuity: u32,
    leader: Vec<Track>,
    ladder: Option<ladder::Ladder>,
    failed: Option<String>,
    rungs: Vec<Rung>,
    state: State,
    /// When the newest picture is shown.
    newest: Option<u64>,
    /// When that was when this was looked at first: a continuity may begin with seconds at once.
    looked: Option<u64>,
    /// The publisher's own, until it is open.
    held: VecDeque<Output>,
    /// What comes after everything else.
    last: VecDeque<Output>,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Closing,
    Done,
}

struct Rung {
    planned: Planned,
    follower: Follower,
    track: Option<Track>,
    /// Nothing more comes of it.
    over: bool,
}

impl Rung {
    fn is_there(&self) -> bool {
        self.track.is_some()
    }

    fn gone(&mut self) {
        self.over = true;
        self.track = None;
        self.follower = Follower::new(self.planned.rendition);
    }
}

impl Run {
    /// Begins; without rungs, or where they cannot be made, with the publisher's own alone.
    pub(super) fn start(
        discontinuity: u32,
        leader: Vec<Track>,
        source: Option<TrackConfig>,
        planned: &[Planned],
        wake: &Arc<Notify>,
    ) -> Self {
        let mut run = Self {
            discontinuity,
            leader,
            ladder: None,
            failed: None,
            rungs: Vec::new(),
            state: State::Opening,
            newest: None,
            looked: None,
            held: VecDeque::new(),
            last: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        let (Some(config), false) = (source, planned.is_empty()) else { return run };
        let frame_rate_milli = match run.video().map(|track| track.media) {
            Some(Media::Video { frame_rate_milli, .. }) => frame_rate_milli,
            _ => 0,
        };
        let rungs: Vec<ladder::Rung> = planned.iter().map(|planned| planned.rung).collect();
        let wake = Arc::clone(wake);
        let source = Source { config, frame_rate_milli };
        match ladder::Ladder::start(&source, &rungs, move || wake.notify_one()) {
            Ok(ladder) => {
                run.ladder = Some(ladder);
                run.rungs = planned
                    .iter()
                    .map(|planned| Rung {
                        planned: *planned,
                        follower: Follower::new(planned.rendition),
                        track: None,
                        over: false,
                    })
                    .collect();
            }
            Err(error) => run.failed = Some(error.to_string()),
        }
        run
    }

    pub(super) const fn discontinuity(&self) -> u32 {
        self.discontinuity
    }

    pub(super) const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether its media has waited as long as it may.
    pub(super) fn has_waited(&self) -> bool {
        let (Some(looked), Some(newest)) = (self.looked, self.newest) else { return false };
        newest.saturating_sub(looked) > WAIT_MS_MAX * TICKS_PER_MS
    }

    pub(super) fn picture(&mut self, picture: &Picture) {
        self.newest = self.newest.max(Some(picture.shown.0));
        if let Some(ladder) = &mut self.ladder {
            ladder.push(picture);
        }
        for rung in self.rungs.iter_mut().filter(|rung| !rung.over) {
            rung.follower.handle(Follow::Picture(picture));
        }
    }

    pub(super) fn part(&mut self, part: Part) {
        if part.rendition == VIDEO {
            for rung in self.rungs.iter_mut().filter(|rung| !rung.over) {
                rung.follower.handle(Follow::Part(&part));
            }
        }
        self.held.push_back(Output::Part(part));
    }

    /// Takes what comes after everything of this continuity.
    pub(super) fn pass(&mut self, output: Output) {
        self.last.push_back(output);
    }

    /// Nothing more comes of the publisher.
    pub(super) fn close(&mut self) {
        if matches!(self.state, State::Opening | State::Open) {
            if let Some(ladder) = &mut self.ladder {
                ladder.finish();
            }
            self.state = State::Closing;
        }
    }

    /// Does without what has not come yet.
    pub(super) fn force(&mut self) {
        self.close();
        for rung in self.rungs.iter_mut().filter(|rung| !rung.over) {
            rung.follower.handle(Follow::Finish);
            rung.over = true;
        }
    }

    /// Looks what encoders have.
    pub(super) fn look(&mut self) -> Counts {
        self.looked = self.looked.or(self.newest);
        let mut counts = Counts { failed: self.failed.take(), ..Counts::default() };
        while let Some(event) = self.ladder.as_mut().and_then(ladder::Ladder::poll) {
            self.event(event, &mut counts);
        }
        counts.dropped = self.ladder.as_ref().map_or(0, ladder::Ladder::dropped);
        for rung in self.rungs.iter_mut().filter(|rung| !rung.over && rung.follower.is_lost()) {
            counts.given_up.push(rung.planned.lines);
            rung.gone();
        }
        let all = self.rungs.iter().all(|rung| rung.over || rung.is_there());
        if self.state == State::Opening && (all || self.has_waited()) {
            self.state = State::Open;
        }
        if self.state == State::Closing && self.rungs.iter().all(|rung| rung.over) {
            self.state = State::Done;
        }
        counts
    }

    fn event(&mut self, event: Event, counts: &mut Counts) {
        match event {
            Event::Described { rung, record } => self.described(rung, record, counts),
            Event::Coded { rung, coded } => self.follow(rung, Follow::Coded(coded)),
            Event::Finished { rung } => {
                self.follow(rung, Follow::Finish);
                if let Some(rung) = self.rungs.get_mut(rung) {
                    rung.over = true;
                }
            }
            Event::Slow { rung, late_ms } => {
                counts.slow.extend(self.rungs.get(rung).map(|rung| (rung.planned.lines, late_ms)));
            }
            Event::GivenUp { rung } => {
                if let Some(rung) = self.rungs.get_mut(rung) {
                    counts.given_up.push(rung.planned.lines);
                    rung.gone();
                }
            }
            Event::Failed { reason } => {
                counts.failed = Some(reason);
                self.rungs.iter_mut().for_each(Rung::gone);
                self.ladder = None;
            }
        }
    }

    fn described(&mut self, rung: usize, record: Bytes, counts: &mut Counts) {
        let Some(leader) = self.video().cloned() else { return };
        let Some(rung) = self.rungs.get_mut(rung).filter(|rung| !rung.over) else { return };
        match describe(rung.planned.rendition, record, &leader) {
            Ok(track) => rung.track = Some(track),
            Err(error) => {
                counts.failed = Some(format!("the encoder's own configuration cannot be read: {error}"));
                rung.gone();
            }
        }
    }

    fn follow(&mut self, rung: usize, follow: Follow<'_>) {
        if let Some(rung) = self.rungs.get_mut(rung).filter(|rung| !rung.over) {
            rung.follower.handle(follow);
        }
    }

    /// All renditions as they are now; `None` while it opens.
    pub(super) fn tracks(&self) -> Option<Vec<Track>> {
        if self.state == State::Opening || self.leader.is_empty() {
            return None;
        }
        let own = |kind| self.leader.iter().filter(move |track| track.kind() == kind).cloned();
        let rungs = self.rungs.iter().filter_map(|rung| rung.track.clone());
        Some(own(TrackKind::Video).chain(rungs).chain(own(TrackKind::Audio)).collect())
    }

    /// What can come out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Output> + '_ {
        if self.state != State::Opening {
            self.outputs.append(&mut self.held);
            for rung in self.rungs.iter_mut().filter(|rung| rung.is_there()) {
                self.outputs.extend(std::iter::from_fn(|| rung.follower.poll()));
            }
        }
        if self.state == State::Done {
            self.outputs.append(&mut self.last);
        }
        self.outputs.drain(..)
    }

    fn video(&self) -> Option<&Track> {
        self.leader.iter().find(|track| track.kind() == TrackKind::Video)
    }
}
