//! One stream's life: a publisher's events through pipeline and signer into the window.
//!
//! ```text
//! publisher ─▶ Live ──gone──▶ Away ──nobody came back──▶ Ended ──after the window's span──▶ forgotten
//!               ▲              │                           │
//!               └──comes back──┘                           └── somebody publishes: a new generation
//! ```
//!
//! A publisher that comes back goes on in the same generation; the segmenter marks the discontinuity. When the program
//! stops, the stream is not ended: its publisher will come back to the next one.

mod changes;
mod news;

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use millstream_model::{BitRate, Instant};
use millstream_segmenter::{self as segmenter, Input, Media, NextSegment, Output};
use millstream_service::{
    data::{self, Folder},
    tasks::Drain,
};
use millstream_wire::{
    media::Catalog,
    sign::{SecretKey, Signed},
    tracker::State,
};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use self::{
    changes::{CHANGES_MAX, CHANGES_WITHIN, Changes},
    news::{Left, News},
};
use super::Stream;
use crate::{
    clock::Clock,
    events::Herald,
    gate::{Gate, Permission},
    ingest::{Event, Events, Gone, Metadata, Refusal, Source},
    metrics::Metrics,
    pipeline::{Pipeline, Pipelines, Remark},
    policy::{Breach, Limits, Policies},
    sequence::{Generations, Numbers, Sequence},
    signer::{Rates, Signer},
};

/// How often it is looked whether the delegation must be renewed: far more often than one can expire.
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// Complaints about one publisher that are logged; the others are counted alone.
const COMPLAINTS_LOGGED: u32 = 20;

/// Highest rate believed of what an encoder says: a gigabit.
const RATE_KBPS_MAX: f64 = 1_000_000.0;

/// How long encoders have for what is in them when a publisher is gone: they need a few pictures' time.
const SETTLE: Duration = Duration::from_secs(1);

/// What all lives share.
pub(crate) struct Means {
    pub(crate) key: SecretKey,
    pub(crate) clock: Clock,
    pub(crate) gate: Arc<Gate>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) herald: Herald,
    pub(crate) pipelines: Arc<dyn Pipelines>,
    pub(crate) drain: Drain,
    pub(crate) policies: Arc<Policies>,
    /// How long an ended stream stays.
    pub(crate) linger: Duration,
}

/// A publisher and what it may do.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) source: Source,
    pub(crate) events: Events,
    pub(crate) permission: Permission,
}

/// What follows a show.
enum After {
    /// The stream ended; somebody may publish again.
    Ended,
    /// The program stops.
    Stopped,
}

pub(crate) struct Life {
    stream: Arc<Stream>,
    means: Arc<Means>,
    inbox: mpsc::Receiver<Arrival>,
    sequence: Sequence,
    /// The first numbers that this process did not use.
    next: Numbers,
    /// The last show's. While the tracker is away, a new show may have to go on in its generation.
    signer: Option<Signer>,
}

/// What one show is made with.
struct Work {
    pipeline: Box<dyn Pipeline>,
    signer: Signer,
    news: News,
    limits: Limits,
    /// The newest tracks are more than the stream takes, and nobody was told of them.
    oversize: Option<Breach>,
    /// What the publisher went over.
    breach: Option<Breach>,
    /// Who comes in the publisher's place.
    successor: Option<Arrival>,
    complaints: u32,
    changes: Changes,
    /// Why the publisher has to go, if it has.
    refusal: Option<String>,
}

impl Life {
    /// Lives until the stream has ended and nobody published again, or the program stops.
    pub(crate) async fn run(stream: Arc<Stream>, means: Arc<Means>, inbox: mpsc::Receiver<Arrival>) {
        let sequence = match Sequence::open(Arc::clone(&means.folder), stream.id()).await {
            Ok(sequence) => sequence,
            Err(error) => {
                error!(%error, "the stream's numbers cannot be read, so it cannot be signed");
                return;
            }
        };
        let next = sequence.start();
        let mut life = Self { stream, means, inbox, sequence, next, signer: None };
        let mut arrival = life.inbox.recv().await;
        while let Some(first) = arrival {
            arrival = match life.show(first).await {
                After::Ended => life.arrival_within(life.means.linger).await,
                After::Stopped => None,
            };
        }
        life.means.gate.forget(life.stream.id());
    }

    async fn arrival_within(&mut self, patience: Duration) -> Option<Arrival> {
        tokio::select! {
            arrival = timeout(patience, self.inbox.recv()) => arrival.ok().flatten(),
            () = self.means.drain.begun() => None,
        }
    }

    /// From the first publisher until none comes back.
    async fn show(&mut self, first: Arrival) -> After {
        let Arrival { mut source, mut events, permission } = first;
        let policy = self.means.policies.of(self.stream.id());
        let mut work = match self.begin(permission).await {
            Ok(work) => work,
            Err(error) => {
                error!(%error, "no generation can be noted, so nothing can be signed");
                return After::Ended;
            }
        };
        loop {
            let now = self.means.clock.now();
            work.news.publishes(source, now);
            (work.limits, work.breach) = (Limits::new(policy, work.news.began(), now), None);
            let served = self.publisher(&mut work, &mut events).await;
            drop(events);
            let now = self.means.clock.now();
            match served {
                Ok(left) => {
                    work.news.left(&left, now);
                    if matches!(left, Left::Over(breach) if breach.ends_show()) {
                        break;
                    }
                }
                Err(error) => {
                    error!(%error, "numbers cannot be kept on disk, so nothing more can be signed");
                    let reason = String::from("the packager cannot write to its data folder");
                    work.news.left(&Left::Dismissed(reason), now);
                    break;
                }
            }
            if self.means.drain.has_begun() {
                return After::Stopped;
            }
            if self.stream.look(|inner| inner.gone) {
                break;
            }
            let arrival = if let Some(successor) = work.successor.take() {
                successor
            } else {
                self.stream.change(|inner| inner.state = State::Away);
                info!(wait_ms = policy.away.as_millis(), "waiting for the publisher to come back");
                let Some(arrival) = self.arrival_within(policy.away).await else { break };
                info!("the publisher is back");
                arrival
            };
            if let Err(error) = self.resume(&mut work, arrival.permission).await {
                error!(%error, "no generation can be noted, so nothing more can be signed");
                break;
            }
            (source, events) = (arrival.source, arrival.events);
        }
        if self.means.drain.has_begun() {
            return After::Stopped;
        }
        self.end(&mut work).await;
        self.signer = Some(work.signer);
        After::Ended
    }

    async fn begin(&mut self, permission: Permission) -> Result<Work, data::Error> {
        let generation = permission.delegation.unverified().generation;
        self.means.generations.note(generation).await?;
        let segment = self.next.segment;
        let numbers = segmenter::Config {
            next_segment: NextSegment { video: segment, audio: segment },
            next_discontinuity: self.next.discontinuity,
            media_start_ms: self.next.media_ms,
        };
        let pipeline = self.means.pipelines.begin(self.stream.id(), numbers);
        let signer = match self.signer.take() {
            // Another signer would give out the generation's catalog versions a second time.
            Some(signer) if signer.generation() == generation => signer,
            _ => Signer::new(self.stream.id().clone(), self.means.key.clone(), generation, self.next),
        };
        self.stream.begin(permission);
        info!(generation, "stream begins");
        let news = News::new(self.means.herald.clone(), Arc::clone(&self.stream), self.means.clock.now());
        let now = self.means.clock.now();
        Ok(Work {
            pipeline,
            signer,
            news,
            limits: Limits::new(self.means.policies.of(self.stream.id()), now, now),
            oversize: None,
            breach: None,
            successor: None,
            complaints: 0,
            changes: Changes::default(),
            refusal: None,
        })
    }

    /// Serves one publisher until it is gone.
    async fn publisher(&mut self, work: &mut Work, events: &mut Events) -> Result<Left, data::Error> {
        let left = self.events(work, events).await?;
        if let Left::Over(breach) = &left {
            self.means.metrics.limits.with_label_values(&[breach.limit()]).inc();
        }
        if matches!(left, Left::Over(_) | Left::Dismissed(_)) {
            info!(reason = %left, "the publisher is sent away");
            events.dismiss(left.to_string());
        }
        self.process(work, Input::Gone).await?;
        Ok(left)
    }

    /// Takes its events; says why there are no more.
    async fn events(&mut self, work: &mut Work, events: &mut Events) -> Result<Left, data::Error> {
        let mut look = tokio::time::interval(RENEW_EVERY);
        let mut renewal: Option<BoxFuture<'static, Result<Permission, Refusal>>> = None;
        let stream = Arc::clone(&self.stream);
        let gone = stream.wait(|inner| inner.gone.then_some(()));
        tokio::pin!(gone);
        let wake = work.pipeline.wake();
        loop {
            if let Some(reason) = work.refusal.take() {
                warn!(reason, "the publisher is ended");
                return Ok(Left::Dismissed(reason));
            }
            if work.changes.are_too_many() {
                warn!(
                    max = CHANGES_MAX,
                    within_s = CHANGES_WITHIN.as_secs(),
                    "the publisher is ended, for it changes its codecs all the time"
                );
                return Ok(Left::Dismissed("the codecs change all the time".to_owned()));
            }
            if let Some(breach) = work.breach {
                return Ok(Left::Over(breach));
            }
            let clock = self.means.clock;
            let until = async |at: Option<Instant>| match at {
                Some(at) => tokio::time::sleep(at.since(clock.now())).await,
                None => std::future::pending().await,
            };
            let (news, over) = (until(work.news.due()), until(work.limits.ends()));
            let asking = renewal.is_some();
            let renewed = OptionFuture::from(renewal.as_mut());
            tokio::select! {
                event = events.recv() => match event {
                    Some(Event::Config(config)) => self.process(work, Input::Config(config)).await?,
                    Some(Event::Sample(sample)) => {
                        work.breach = work.limits.sample(sample.data.len(), clock.now()).err();
                        self.process(work, Input::Sample(sample)).await?;
                    }
                    Some(Event::Metadata(metadata)) => {
                        work.breach = work.limits.announced(&metadata).err();
                        work.signer.expect(rates(&metadata));
                    }
                    Some(Event::Gone { reason: Gone::Stopped }) if work.successor.is_some() => {
                        info!("another publisher takes over");
                        return Ok(Left::Replaced);
                    }
                    Some(Event::Gone { reason }) => {
                        info!(%reason, "publisher gone");
                        return Ok(Left::Gone(reason));
                    }
                    None => return Ok(Left::Gone(Gone::Stopped)),
                },
                () = &mut gone => {
                    return Ok(Left::Dismissed("the stream was removed at the tracker".to_owned()));
                }
                () = news => work.news.look(clock.now(), false),
                () = over => work.breach = work.limits.time(clock.now()).err(),
                // Who was let in while another publishes was let in to replace it. What that one sent is not lost.
                Some(arrival) = self.inbox.recv(), if work.successor.is_none() => {
                    events.dismiss(Left::Replaced.to_string());
                    work.successor = Some(arrival);
                }
                () = woken(wake.as_deref()) => self.drain(work).await?,
                _ = look.tick(), if !asking => {
                    if self.renewal_is_due() {
                        let (gate, id) = (Arc::clone(&self.means.gate), self.stream.id().clone());
                        renewal = Some(async move { gate.renew(&id).await }.boxed());
                    }
                }
                Some(renewed) = renewed => {
                    renewal = None;
                    match renewed {
                        Ok(permission) => self.renew(work, permission).await?,
                        Err(error) => warn!(%error, "the delegation is not renewed; trying again"),
                    }
                }
            }
        }
    }

    fn renewal_is_due(&self) -> bool {
        self.means.gate.time() >= self.stream.look(|inner| inner.permission.renew_at())
    }

    /// A publisher came back with a permission of its own. What is in force stays so, as long as it can.
    async fn resume(&mut self, work: &mut Work, permission: Permission) -> Result<(), data::Error> {
        let goes_on = self
            .stream
            .look(|inner| inner.permission.root == permission.root && permission.follows(inner.given));
        if !goes_on || self.renewal_is_due() {
            self.renew(work, permission).await?;
        } else {
            self.stream.change(|inner| {
                inner.given = permission.generation();
                inner.permission.public = permission.public;
                inner.permission.tracker = permission.tracker;
            });
        }
        self.stream.change(|inner| inner.state = State::Live);
        Ok(())
    }

    /// Takes a new delegation. One of the same generation only lasts longer; another begins a chain of its own, and
    /// that needs a cut through all renditions, as when a publisher comes back.
    async fn renew(&mut self, work: &mut Work, permission: Permission) -> Result<(), data::Error> {
        let generation = permission.delegation.unverified().generation;
        if generation == work.signer.generation() {
            self.stream.renew(permission, None);
            return Ok(());
        }
        self.means.generations.note(generation).await?;
        self.process(work, Input::Gone).await?;
        let catalog = work.signer.delegate(generation, self.means.clock.wall());
        info!(generation, "the stream goes on under a new delegation");
        self.stream.change(|inner| inner.given = generation);
        self.stream.renew(permission, catalog);
        Ok(())
    }

    async fn end(&mut self, work: &mut Work) {
        if let Err(error) = self.process(work, Input::End).await {
            warn!(%error, "the last parts could not be signed");
        }
        let catalog = work.signer.end(self.means.clock.wall());
        self.stream.end(catalog);
        info!("stream ended");
        work.news.ended(self.means.clock.now());
    }

    async fn process(&mut self, work: &mut Work, input: Input) -> Result<(), data::Error> {
        let ends = matches!(input, Input::Gone | Input::End);
        work.pipeline.handle(input, self.means.clock.wall());
        self.drain(work).await?;
        if ends { self.settle(work).await } else { Ok(()) }
    }

    /// Waits for what a pipeline has in hand of a publisher that is gone.
    async fn settle(&mut self, work: &mut Work) -> Result<(), data::Error> {
        let wake = work.pipeline.wake();
        let late = tokio::time::sleep(SETTLE);
        tokio::pin!(late);
        while work.pipeline.is_settling() {
            tokio::select! {
                () = woken(wake.as_deref()) => {}
                () = &mut late => {
                    warn!("encoders are not done in time; what they still have is left out");
                    work.pipeline.settle();
                    self.drain(work).await?;
                    break;
                }
            }
            self.drain(work).await?;
        }
        Ok(())
    }

    /// Takes what comes of the pipeline.
    async fn drain(&mut self, work: &mut Work) -> Result<(), data::Error> {
        while let Some(output) = work.pipeline.poll() {
            match output {
                Output::Tracks(tracks) => {
                    work.oversize = tracks.iter().find_map(|track| match track.media {
                        Media::Video { width, height, .. } => {
                            work.limits.picture(width.into(), height.into()).err()
                        }
                        Media::Audio { .. } => None,
                    });
                    if work.oversize.is_some() {
                        work.breach = work.oversize;
                        continue;
                    }
                    for rendition in tracks.iter().map(|track| track.rendition) {
                        if let Some(rate) = work.pipeline.rate(rendition) {
                            work.signer.made_for(rendition, rate);
                        }
                    }
                    let catalog = work.signer.tracks(&tracks, self.means.clock.wall());
                    if catalog.is_some() {
                        work.changes.note(self.means.clock.now());
                    }
                    self.announce(catalog);
                }
                // Of tracks that nobody was told of.
                Output::Part(_) if work.oversize.is_some() => work.breach = work.oversize,
                Output::Part(part) => self.part(work, part).await?,
                Output::Complaint(complaint) => {
                    self.means.metrics.complaints.with_label_values(&[complaint.kind()]).inc();
                    work.news.complaint(&complaint, self.means.clock.now());
                    work.complaints = work.complaints.saturating_add(1);
                    if work.complaints <= COMPLAINTS_LOGGED {
                        info!(%complaint, "the publisher's media is not as it should be");
                    } else {
                        debug!(%complaint, "the publisher's media is not as it should be");
                    }
                }
                Output::Ended | Output::Picture(_) => {}
            }
        }
        while let Some(remark) = work.pipeline.remark() {
            match remark {
                Remark::Lack { message, advice } => work.news.lacks(message, advice),
                Remark::Refuse { reason } => work.refusal = Some(reason),
            }
        }
        Ok(())
    }

    fn announce(&self, catalog: Option<Signed<Catalog>>) {
        let Some(catalog) = catalog else { return };
        let told = catalog.unverified();
        let renditions: Vec<String> = told
            .renditions
            .iter()
            .map(|rendition| format!("{} ({}, {})", rendition.name, rendition.codecs, rendition.bandwidth))
            .collect();
        info!(version = told.version, renditions = renditions.join(", "), "catalog");
        self.stream.catalog(catalog);
    }

    async fn part(&mut self, work: &mut Work, part: segmenter::Part) -> Result<(), data::Error> {
        let record = match work.signer.part(&part) {
            Ok(record) => record,
            Err(reason) => {
                warn!(rendition = %part.rendition, %reason, "a part is not signed");
                self.means.metrics.unsigned.inc();
                return Ok(());
            }
        };
        let timescale = work.signer.timescale(part.rendition);
        let end = millstream_model::MediaTime(part.media_time.0.saturating_add(u64::from(part.duration)));
        let next = Numbers {
            discontinuity: part.discontinuity.saturating_add(1),
            media_ms: end.micros(timescale) / 1_000 + 1,
            ..work.signer.next()
        };
        let next = next.max(self.next);
        self.sequence.cover(next).await?;
        self.next = next;
        self.means.metrics.parts.inc();
        self.means.metrics.part_bytes.inc_by(part.data.len() as u64);
        let (first, clock) = (part.first, self.means.clock);
        self.stream.part(record, part.data, clock.now());
        work.news.part();
        if first {
            self.announce(work.signer.correct(clock.wall()));
        }
        Ok(())
    }
}

async fn woken(wake: Option<&Notify>) {
    match wake {
        Some(wake) => wake.notified().await,
        None => std::future::pending().await,
    }
}

fn rates(metadata: &Metadata) -> Rates {
    Rates { video: metadata.video_kbps.and_then(rate), audio: metadata.audio_kbps.and_then(rate) }
}

fn rate(kbps: f64) -> Option<BitRate> {
    if !(1.0..=RATE_KBPS_MAX).contains(&kbps) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a million")]
    let kbps = kbps as u64;
    Some(BitRate(kbps * 1_000))
}
