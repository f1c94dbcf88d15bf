//! The pipeline of streams with a ladder: the segmenter's parts go through at once, and rungs follow them.
//!
//! What the segmenter puts out belongs to a continuity, and each has a [`Run`] of its own. Runs stand in line: what a
//! later one has waits until the one before it is done, for everything of a continuity comes before everything of
//! the next. That takes as long as encoders need for what is in them, and has a bound.

use std::{collections::VecDeque, sync::Arc};

use millstream_model::{BitRate, RenditionId, StreamId, WallTime};
use millstream_segmenter::{Config, Input, Media, Output, Segmenter, Track, TrackKind};
use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{
    Budget, Load, Renditions,
    budget::Lease,
    config::{self, Excess},
    plan::{Coding, Plan, Planned, Size},
    run::{Counts, Run},
};
use crate::pipeline::{Pipeline, Pipelines, Remark, Straight};

/// Continuities in line at most; a publisher that breaks its clock faster than encoders are done gets no more of
/// what is in the oldest.
const RUNS_MAX: usize = 3;

/// Of the machine's cores, what ladders may take when nothing is set: the rest is for everything else.
const SHARE_PERCENT: u64 = 75;

/// Begins pipelines with ladders, where the settings want them; others cut what they get.
pub struct Ladders {
    config: config::Config,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Ladders {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ladders").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// What ladders count.
#[derive(Debug)]
pub(super) struct Metrics {
    rungs: IntGauge,
    cores: IntGauge,
    cores_max: IntGauge,
    pub(super) dropped: IntCounter,
    pub(super) slow: IntCounter,
    pub(super) given_up: IntCounter,
    trimmed: IntCounter,
    refused: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let name = |name: &str| format!("millstream_packager_ladder_{name}");
        let counter = |short: &str, about: &str| IntCounter::new(name(short), about);
        let gauge = |short: &str, about: &str| IntGauge::new(name(short), about);
        Ok(Self {
            rungs: gauge("rungs", "Renditions that are being encoded")?,
            cores: gauge("milli_cores", "Thousandths of a core that ladders were reckoned to take")?,
            cores_max: gauge("milli_cores_max", "Thousandths of a core that ladders may take")?,
            dropped: counter("pictures_dropped_total", "Pictures left out because an encoder was too slow")?,
            slow: counter("slow_total", "Times an encoder fell behind")?,
            given_up: counter(
                "rungs_given_up_total",
                "Renditions given up because the machine was too slow",
            )?,
            trimmed: counter("rungs_trimmed_total", "Renditions left out because no cores were left")?,
            refused: counter("refused_total", "Publishers sent away because no cores were left")?,
            failed: counter("failed_total", "Ladders that failed")?,
        })
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        for gauge in [&self.rungs, &self.cores, &self.cores_max] {
            registry.register(Box::new(gauge.clone()))?;
        }
        let counters =
            [&self.dropped, &self.slow, &self.given_up, &self.trimmed, &self.refused, &self.failed];
        counters.into_iter().try_for_each(|counter| registry.register(Box::new(counter.clone())))
    }
}

impl Ladders {
    /// What `config` wants. Starts GStreamer if any stream may have a ladder, and only then.
    ///
    /// # Errors
    /// When a ladder could not be made, or a setting is out of range.
    pub fn new(config: config::Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (0.0..=1_024.0).contains(&config.cpu_cores_max),
            "renditions.cpu_cores_max: 0 to 1024 cores, not {}",
            config.cpu_cores_max
        );
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let usual = u64::try_from(cores).unwrap_or(1) * 1_000 * SHARE_PERCENT / 100;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
        let set = (config.cpu_cores_max * 1_000.0) as u64;
        let max = Load(if set == 0 { usual } else { set });
        if config.has_ladders() {
            millstream_pipeline::init()?;
            info!(%max, "ladders may be made");
        }
        let metrics = Arc::new(Metrics::new()?);
        metrics.cores_max.set(i64::try_from(max.0).unwrap_or(i64::MAX));
        Ok(Self { config, budget: Budget::new(max), metrics })
    }
}

impl Pipelines for Ladders {
    fn begin(&self, stream: &StreamId, config: Config) -> Box<dyn Pipeline> {
        let renditions = self.config.of(stream);
        if renditions.steps().is_empty() {
            return Straight.begin(stream, config);
        }
        Box::new(Ladder {
            segmenter: Segmenter::new(config).with_pictures(),
            renditions: renditions.clone(),
            preset: self.config.preset.0,
            excess: self.config.excess,
            budget: Arc::clone(&self.budget),
            metrics: Arc::clone(&self.metrics),
            wake: Arc::new(Notify::new()),
            leader: Vec::new(),
            announced: Vec::new(),
            plan: None,
            told: None,
            runs: VecDeque::new(),
            outputs: VecDeque::new(),
            remarks: VecDeque::new(),
        })
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        self.metrics.register(registry)
    }
}

/// One show's.
struct Ladder {
    segmenter: Segmenter,
    renditions: Renditions,
    preset: millstream_pipeline::ladder::Preset,
    excess: Excess,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    wake: Arc<Notify>,
    /// The publisher's own tracks.
    leader: Vec<Track>,
    /// What was announced last: those, and the rungs.
    announced: Vec<Track>,
    plan: Option<Leased>,
    /// What was remarked on already.
    told: Option<Remark>,
    runs: VecDeque<Run>,
    outputs: VecDeque<Output>,
    remarks: VecDeque<Remark>,
}

/// A plan and the cores for it.
struct Leased {
    plan: Plan,
    /// As it was wanted.
    wanted: Plan,
    metrics: Arc<Metrics>,
    lease: Lease,
}

impl Leased {
    fn count(&self, sign: i64) {
        self.metrics.rungs.add(sign * i64::try_from(self.plan.rungs.len()).unwrap_or(0));
        self.metrics.cores.add(sign * i64::try_from(self.lease.load().0).unwrap_or(0));
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.count(-1);
    }
}

impl Pipeline for Ladder {
    fn handle(&mut self, input: Input, now: WallTime) {
        let gone = matches!(input, Input::Gone | Input::End);
        self.segmenter.handle(input, now);
        while let Some(output) = self.segmenter.poll() {
            self.take(output);
        }
        if gone && let Some(run) = self.runs.back_mut() {
            run.close();
        }
        self.advance();
    }

    fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.advance();
        }
        self.outputs.pop_front()
    }

    fn wake(&self) -> Option<Arc<Notify>> {
        Some(Arc::clone(&self.wake))
    }

    fn is_settling(&self) -> bool {
        self.runs.iter().any(Run::is_closing)
    }

    fn settle(&mut self) {
        self.runs.iter_mut().filter(|run| run.is_closing()).for_each(Run::force);
        self.advance();
    }

    fn remark(&mut self) -> Option<Remark> {
        self.remarks.pop_front()
    }

    fn rate(&self, rendition: RenditionId) -> Option<BitRate> {
        let mut rungs = self.plan.iter().flat_map(|leased| &leased.plan.rungs);
        let rung = rungs.find(|planned| planned.rendition == rendition)?;
        Some(BitRate(u64::from(rung.rung.bitrate_kbps) * 1_000))
    }
}

impl Ladder {
    /// Puts an output of the segmenter where it belongs.
    fn take(&mut self, output: Output) {
        match output {
            Output::Tracks(tracks) => self.leader = tracks,
            Output::Picture(picture) => {
                let run = self.run(picture.discontinuity);
                run.picture(&picture);
            }
            Output::Part(part) => self.run(part.discontinuity).part(part),
            Output::Ended => match self.runs.back_mut() {
                Some(run) => run.pass(output),
                None => self.outputs.push_back(output),
            },
            Output::Complaint(_) => self.outputs.push_back(output),
        }
    }

    /// The continuity with this number, which is the newest, or begins.
    fn run(&mut self, discontinuity: u32) -> &mut Run {
        if self.runs.back().is_none_or(|run| run.discontinuity() != discontinuity) {
            if let Some(before) = self.runs.back_mut() {
                before.close();
            }
            if self.runs.len() >= RUNS_MAX
                && let Some(oldest) = self.runs.front_mut()
            {
                oldest.force();
            }
            let rungs = self.rungs();
            let source = self.segmenter.video_config();
            let run = Run::start(discontinuity, self.leader.clone(), source, &rungs, &self.wake);
            self.runs.push_back(run);
        }
        let last = self.runs.len() - 1;
        &mut self.runs[last]
    }

    /// The rungs that the continuity about to begin will have.
    fn rungs(&mut self) -> Vec<Planned> {
        let Some(track) = self.leader.iter().find(|track| track.kind() == TrackKind::Video) else {
            return Vec::new();
        };
        let Media::Video { width, height, frame_rate_milli } = track.media else { return Vec::new() };
        let coding = self.segmenter.video_config().as_ref().and_then(Coding::of).unwrap_or(Coding::H264);
        let source = Size { width: width.into(), height: height.into(), frame_rate_milli, coding };
        let wanted = Plan::new(source, self.renditions.steps(), self.preset);
        if self.plan.as_ref().is_some_and(|leased| leased.wanted == wanted && leased.plan == wanted) {
            return wanted.rungs;
        }
        // What it had is free for what it gets.
        self.plan = None;
        let mut plan = wanted.clone();
        let (lease, trimmed) = self.budget.lease(&mut plan);
        if !plan.too_large.is_empty() {
            info!(lines = ?plan.too_large, width, height, "renditions larger than the source are left out");
        }
        if !trimmed.is_empty() {
            self.lacks_cores(&wanted, &trimmed);
        }
        info!(rungs = plan.rungs.len(), load = %lease.load(), used = %self.budget.used(), "ladder");
        let rungs = plan.rungs.clone();
        let leased = Leased { plan, wanted, metrics: Arc::clone(&self.metrics), lease };
        leased.count(1);
        self.plan = Some(leased);
        rungs
    }

    /// Says that there are no cores for these lines.
    fn lacks_cores(&mut self, wanted: &Plan, trimmed: &[u32]) {
        let names: Vec<String> = trimmed.iter().map(|lines| format!("{lines}p")).collect();
        let message = format!(
            "no cores are left for {}: the ladder takes {}, and {} of {} are taken",
            names.join(", "),
            Load::of(wanted),
            self.budget.used(),
            self.budget.max()
        );
        let advice = "set fewer or smaller renditions or a faster preset, raise renditions.cpu_cores_max if the \
                      machine has more, or publish to another packager";
        match self.excess {
            Excess::Trim => {
                self.metrics.trimmed.inc_by(u64::try_from(trimmed.len()).unwrap_or(0));
                warn!(message, "a ladder is trimmed");
                self.tell(Remark::Lack { message, advice: advice.to_owned() });
            }
            Excess::Refuse => {
                self.metrics.refused.inc();
                self.remarks.push_back(Remark::Refuse { reason: format!("{message}; {advice}") });
            }
        }
    }

    /// Tells of a lack, unless that was the last thing that was told.
    fn tell(&mut self, remark: Remark) {
        if self.told.as_ref() != Some(&remark) {
            self.told = Some(remark.clone());
            self.remarks.push_back(remark);
        }
    }

    /// Brings out what can come out, in order.
    fn advance(&mut self) {
        while let Some(run) = self.runs.front_mut() {
            let counts = run.look();
            let tracks = run.tracks();
            if let Some(tracks) = tracks.filter(|tracks| *tracks != self.announced) {
                self.announced.clone_from(&tracks);
                self.outputs.push_back(Output::Tracks(tracks));
            }
            self.outputs.extend(run.drain());
            let done = run.is_done();
            self.count(counts);
            if !done {
                break;
            }
            self.runs.pop_front();
        }
        let later: Vec<Counts> = self.runs.iter_mut().skip(1).map(Run::look).collect();
        later.into_iter().for_each(|counts| self.count(counts));
        self.bound();
    }

    /// A later run does not wait longer than its media is worth.
    fn bound(&mut self) {
        let waits = self.runs.iter().skip(1).any(Run::has_waited);
        if waits
            && let Some(front) = self.runs.front_mut()
            && front.is_closing()
        {
            front.force();
        }
    }

    fn count(&mut self, counts: Counts) {
        self.metrics.dropped.inc_by(counts.dropped);
        for (rung, late_ms) in counts.slow {
            self.metrics.slow.inc();
            warn!(rung, late_ms, "an encoder does not keep up; pictures of this rendition are left out");
        }
        for rung in counts.given_up {
            self.metrics.given_up.inc();
            warn!(rung, "a rendition is given up, for the machine does not keep up");
            let message =
                format!("the machine does not keep up: {rung}p is given up until the publisher comes again");
            let advice = "set fewer or smaller renditions or a faster preset, or lower renditions.cpu_cores_max, so \
                          that fewer ladders begin";
            self.tell(Remark::Lack { message, advice: advice.to_owned() });
        }
        if let Some(reason) = counts.failed {
            self.metrics.failed.inc();
            warn!(reason, "a ladder has failed; the stream goes on without it");
            let message = format!("no renditions are made: {reason}");
            let advice = "look at what the encoder sends; H.264 of 8 bits, progressive, is always understood";
            self.tell(Remark::Lack { message, advice: advice.to_owned() });
        }
    }
}
