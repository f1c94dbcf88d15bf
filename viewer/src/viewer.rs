//! One viewer: the mind, the playhead and the sockets, joined by one loop that decides nothing.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use bytes::Bytes;
use millstream_model::{Instant, RenditionId, WallTime};
use millstream_playlist::path::Path;
use millstream_swarm::{Content, Event, Input, Output, Resource, Stats, Swarm, WantId};
use millstream_wire::{
    media::{Catalog, Media, Record, Rendition},
    sign::{SessionSecret, Signer as _},
};
use tracing::Instrument as _;

use crate::{
    delays::Delays,
    dump::Dump,
    net::{Means, Net},
    player::{Player, Slot, Stall},
    run::Config,
    ticket,
};

/// Milliseconds between telling the mind where the playhead is.
const PLAYHEAD_MS: u64 = 250;

/// Time for the last voucher to be signed and sent.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long nothing is asked after an answer with which nothing can be played: a part's length.
const REST: Duration = Duration::from_millis(250);

/// How it went for one viewer.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) startup_ms: Option<u64>,
    pub(crate) latency_ms: Option<u64>,
    pub(crate) stalls: u64,
    pub(crate) stalled_ms: u64,
    pub(crate) stats: Stats,
    pub(crate) delays: Delays,
}

/// Watches for the configured time, and counts how late parts come in the part of it that `counts` names.
pub(crate) async fn watch(
    config: &Config,
    means: Means,
    counts: Range<Duration>,
    first: bool,
) -> anyhow::Result<Outcome> {
    let span = tracing::info_span!("viewer", stream = %config.stream);
    let dump = config.dump.as_deref().filter(|_| first).map(Dump::new);
    let secret = session_secret()?;
    let ticket = match &config.ticket_url {
        Some(url) => Some(ticket::fetch(&means.http, url, &config.stream, secret.public()).await?),
        None => None,
    };
    let mut viewer = Viewer::new(config, means, counts, dump, secret, ticket)?;
    viewer.run(config.duration).instrument(span).await
}

/// What is being fetched of one rendition.
struct Track {
    id: RenditionId,
    name: String,
    /// The catalog whose init segment was written last.
    init: Option<u32>,
    next: Option<u64>,
    want: Option<WantId>,
    /// Nothing is wanted before: the last answer brought no place to begin.
    rests_until: Option<Instant>,
}

struct Viewer {
    swarm: Swarm,
    net: Option<Net>,
    inputs: tokio::sync::mpsc::Receiver<Input>,
    secret: SessionSecret,
    player: Option<Player>,
    tracks: Vec<Track>,
    dump: Option<Dump>,
    latency_ms: u32,
    epoch: tokio::time::Instant,
    next_want: u32,
    playhead_at: u64,
    /// The newest standstill that was logged.
    last_stall: Option<Stall>,
    /// When delays count, since the start.
    counts: Range<Duration>,
    delays: Delays,
}

impl Viewer {
    fn new(
        config: &Config,
        means: Means,
        counts: Range<Duration>,
        dump: Option<Dump>,
        secret: SessionSecret,
        ticket: Option<String>,
    ) -> anyhow::Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).context("no randomness")?;
        let (net, inputs) = Net::new(&config.tracker, means)?;
        let swarm = Swarm::new(
            millstream_swarm::Config {
                stream: config.stream.clone(),
                key: secret.public(),
                ticket,
                root: config.root,
                origin: None,
                wall: WallTime(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
                latency_ms: config.latency_ms,
                data_channels: config.data_channels,
                seed: u64::from_be_bytes(seed),
            },
            Instant(0),
        );
        Ok(Self {
            swarm,
            net: Some(net),
            inputs,
            secret,
            player: None,
            tracks: Vec::new(),
            dump,
            latency_ms: config.latency_ms,
            epoch: tokio::time::Instant::now(),
            next_want: 0,
            playhead_at: 0,
            last_stall: None,
            counts,
            delays: Delays::default(),
        })
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    async fn run(&mut self, duration: Duration) -> anyhow::Result<Outcome> {
        let end = self.epoch + duration;
        loop {
            self.work_off()?;
            let wake = self.wake().map_or(end, |at| (self.epoch + Duration::from_micros(at.0)).min(end));
            tokio::select! {
                input = self.inputs.recv() => {
                    let Some(input) = input else { break };
                    let now = self.now();
                    self.swarm.handle(input, now);
                }
                () = tokio::time::sleep_until(wake) => {
                    if wake >= end {
                        break;
                    }
                    self.swarm.handle_timeout(self.now());
                }
            }
        }
        let outcome = self.outcome();
        self.farewell().await?;
        Ok(Outcome { stats: self.swarm.stats(), ..outcome })
    }

    fn outcome(&mut self) -> Outcome {
        let now = self.now();
        if let Some(player) = &mut self.player {
            player.tick(now);
        }
        let playhead = self.player.as_ref().and_then(|player| player.playhead(now));
        let (stalls, stalled_ms) = self.player.as_ref().map_or((0, 0), |player| player.stalled(now));
        Outcome {
            startup_ms: self.player.as_ref().and_then(Player::started).map(|at| at.0 / 1_000),
            latency_ms: playhead.map(|at| self.swarm.wall(now).millis_since(at)),
            stalls,
            stalled_ms,
            stats: self.swarm.stats(),
            delays: std::mem::take(&mut self.delays),
        }
    }

    /// Lets the last vouchers be signed and booked, then closes everything.
    async fn farewell(&mut self) -> anyhow::Result<()> {
        self.swarm.handle(Input::Leave, self.now());
        self.work_off()?;
        let until = tokio::time::Instant::now() + FAREWELL;
        while let Ok(Some(input)) = tokio::time::timeout_at(until, self.inputs.recv()).await {
            let now = self.now();
            self.swarm.handle(input, now);
            self.work_off()?;
        }
        if let Some(net) = self.net.take() {
            self.inputs.close();
            net.close(FAREWELL).await;
        }
        Ok(())
    }

    fn wake(&self) -> Option<Instant> {
        let dry = self.player.as_ref().and_then(Player::runs_dry);
        let playhead = self.player.as_ref().map(|_| Instant::from_millis(self.playhead_at + PLAYHEAD_MS));
        let now = self.now();
        let rested = self.tracks.iter().filter_map(|track| track.rests_until).filter(|at| *at > now).min();
        [self.swarm.deadline(), dry, playhead, rested].into_iter().flatten().min()
    }

    /// Carries out everything the mind wants, and lets the player want in turn, until both are quiet.
    fn work_off(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        loop {
            self.play(now);
            let Some(output) = self.swarm.poll() else { return Ok(()) };
            self.carry_out(output, now)?;
        }
    }

    fn carry_out(&mut self, output: Output, now: Instant) -> anyhow::Result<()> {
        match output {
            Output::Sign { sign, message } => {
                let signature = self.secret.sign(&message);
                self.swarm.handle(Input::Signed { sign, signature }, now);
            }
            Output::Deliver { want, content } => self.deliver(want, content, now)?,
            Output::Refuse { want, status } => {
                tracing::debug!(status, "the player's request failed");
                if let Some(track) = self.tracks.iter_mut().find(|track| track.want == Some(want)) {
                    // Begin anew where the playlist is now.
                    (track.want, track.next) = (None, None);
                    track.rests_until = Some(now + REST);
                }
            }
            Output::Event(event) => {
                note(&event);
                if let Event::Part { rendition, number, .. } = event {
                    self.part_whole(rendition, number);
                }
            }
            other => {
                if let Some(net) = &mut self.net {
                    carry_out_on(net, other);
                }
            }
        }
        Ok(())
    }

    /// Moves the playhead, and wants the next part of each track.
    fn play(&mut self, now: Instant) {
        if self.tracks.is_empty() {
            let Some(catalog) = self.swarm.catalog() else { return };
            self.tracks = choose(catalog);
            self.player = Some(Player::new(self.tracks.len()));
        }
        for index in 0..self.tracks.len() {
            let track = &self.tracks[index];
            if track.want.is_some() || track.rests_until.is_some_and(|until| now < until) {
                continue;
            }
            self.next_want = self.next_want.wrapping_add(1);
            let want = WantId(self.next_want);
            let track = &mut self.tracks[index];
            track.want = Some(want);
            let rendition = track.name.clone();
            let resource = match track.next {
                None => Resource::Playlist { rendition, at: None },
                Some(number) => Resource::Part { rendition, number },
            };
            self.swarm.handle(Input::Want { want, resource }, now);
        }
        let Some(player) = &mut self.player else { return };
        player.tick(now);
        if player.last_stall() != self.last_stall
            && let Some(stall) = player.last_stall()
        {
            self.last_stall = Some(stall);
            tracing::info!(stalled_ms = stall.ms, at = self.swarm.wall(stall.until).0, "plays again");
        }
        if now.0 / 1_000 >= self.playhead_at + PLAYHEAD_MS
            && let Some(at) = player.playhead(now)
        {
            self.playhead_at = now.0 / 1_000;
            let (stalls, stalled_ms) = player.stalled(now);
            let clip = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
            let buffer_ms = clip(player.buffer_ms(now));
            let input = Input::Playhead { at, buffer_ms, stalls: clip(stalls), stalled_ms: clip(stalled_ms) };
            self.swarm.handle(input, now);
        }
    }

    fn deliver(&mut self, want: WantId, content: Content, now: Instant) -> anyhow::Result<()> {
        let Some(index) = self.tracks.iter().position(|track| track.want == Some(want)) else {
            return Ok(());
        };
        self.tracks[index].want = None;
        match content {
            Content::Playlist(text) => {
                let id = self.tracks[index].id;
                let next = self.first_part(id, &text);
                let track = &mut self.tracks[index];
                track.next = next;
                // Between two distant keyframes there may be no place to begin; asked at once, the same would come.
                track.rests_until = next.is_none().then(|| now + REST);
                Ok(())
            }
            Content::Media(bytes) => self.part_arrived(index, &bytes, now),
        }
    }

    /// The newest listed part where a decoder can start and which is no nearer to live than the wanted latency; else
    /// the oldest where one can.
    fn first_part(&self, id: RenditionId, playlist: &str) -> Option<u64> {
        let listed = playlist.split(['"', '\n']).filter_map(|uri| match Path::parse(uri)? {
            Path::Part { number, .. } => Some(number),
            _ => None,
        });
        let records: Vec<_> = listed.filter_map(|number| self.swarm.record(id, number)).collect();
        let live = records.iter().map(|record| record.program_date_time.0).max()?;
        let starts = || records.iter().filter(|record| record.independent);
        let behind = |at: u64| at + u64::from(self.latency_ms) <= live;
        starts()
            .rfind(|record| behind(record.program_date_time.0))
            .or_else(|| starts().next())
            .map(|record| record.number)
    }

    /// Notes how long after its last frame a part is whole: of the pictures, where there are any.
    fn part_whole(&mut self, id: RenditionId, number: u64) {
        let is_shown = self.tracks.first().is_some_and(|track| track.id == id);
        if !is_shown || !self.counts.contains(&self.epoch.elapsed()) {
            return;
        }
        let Some(record) = self.swarm.record(id, number) else { return };
        let Some(rendition) = self.swarm.catalog().and_then(|catalog| catalog.rendition(id)) else { return };
        let ended = record.program_date_time.0 + duration_ms(record, rendition);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let millis = |time: u128| i64::try_from(time).unwrap_or(i64::MAX);
        self.delays.add(millis(now).saturating_sub(millis(ended.into())));
    }

    fn part_arrived(&mut self, index: usize, bytes: &Bytes, now: Instant) -> anyhow::Result<()> {
        let track = &mut self.tracks[index];
        let Some(number) = track.next else { return Ok(()) };
        let Some(record) = self.swarm.record(track.id, number) else { return Ok(()) };
        let Some(rendition) = self.swarm.catalog().and_then(|catalog| catalog.rendition(track.id)) else {
            return Ok(());
        };
        if let Some(dump) = &mut self.dump {
            if track.init != Some(record.catalog) {
                dump.write(&track.name, &rendition.init).context("writing the dump")?;
                track.init = Some(record.catalog);
            }
            dump.write(&track.name, bytes).context("writing the dump")?;
        }
        track.next = Some(number + 1);
        let slot = Slot { at: record.program_date_time, duration_ms: duration_ms(record, rendition) };
        if let Some(player) = &mut self.player {
            player.add(index, slot, now);
        }
        Ok(())
    }
}

/// One video rendition and one audio rendition: the first of each kind.
fn choose(catalog: &Catalog) -> Vec<Track> {
    let kind = |media: &Media| matches!(media, Media::Video { .. });
    let first = |video: bool| catalog.renditions.iter().find(|rendition| kind(&rendition.media) == video);
    [first(true), first(false)]
        .into_iter()
        .flatten()
        .map(|rendition| Track {
            id: rendition.id,
            name: rendition.name.clone(),
            init: None,
            next: None,
            want: None,
            rests_until: None,
        })
        .collect()
}

fn duration_ms(record: &Record, rendition: &Rendition) -> u64 {
    u64::from(record.duration) * 1_000 / u64::from(rendition.timescale)
}

fn carry_out_on(net: &mut Net, output: Output) {
    match output {
        Output::Tracker(message) => net.tell_tracker(message),
        Output::Connect { edge, address } => net.connect(edge, &address),
        Output::Disconnect { edge } => net.disconnect(edge),
        Output::Send { edge, message } => net.send(edge, message),
        Output::Fetch { fetch, url, range, token, bytes_max } => {
            net.fetch(fetch, &url, range, token, bytes_max);
        }
        Output::Abort { fetch } => net.abort(fetch),
        Output::Sign { .. } | Output::Deliver { .. } | Output::Refuse { .. } | Output::Event(_) => {}
    }
}

fn note(event: &Event) {
    match event {
        Event::Part { .. } | Event::Paid { .. } => tracing::trace!(?event),
        Event::BadPiece { .. } | Event::Refused { .. } | Event::Unpaid { .. } | Event::Fault { .. } => {
            tracing::info!(?event);
        }
        _ => tracing::debug!(?event),
    }
}

fn session_secret() -> anyhow::Result<SessionSecret> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("no randomness")?;
        // All but one in 2³² draws are a key at once.
        if let Some(secret) = SessionSecret::from_bytes(&bytes) {
            return Ok(secret);
        }
    }
}
