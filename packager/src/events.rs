//! What happened to streams, told to whoever runs them: a line of the log each, and a signed HTTP request to every
//! webhook that wants it.
//!
//! ```text
//! stream::life, ingest, recordings ──tell──▶ line of the log
//!                                      └───▶ queue (pure, bounded) ──▶ courier ──HTTP──▶ receiver      one of each a hook
//! ```
//!
//! [`Herald::tell`] writes and returns: no stream ever waits for a receiver. `docs/operating/events.md` says what
//! receivers get and may rely on. What never belongs here: what has to be told (that is known where it happens), and
//! anything that a receiver could answer: nobody asks it for permission.

mod config;
mod courier;
mod event;
mod queue;
mod signature;
mod sums;
mod target;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream_model::{PublicKey, StreamId};
use millstream_service::{Tasks, Trust};
use prometheus::{IntCounterVec, Opts, Registry};
use tracing::{info, warn};

pub(crate) use self::sums::Sums;
pub use self::{
    config::{Config, Webhook},
    event::{Code, Complaints, Event, Kind, Rendition, What},
};
use self::{
    courier::{Clients, Hook},
    queue::Input,
    target::Target,
};
use crate::clock::Clock;

/// Bytes of the name under which this run's events are counted.
const RUN_BYTES: usize = 12;

/// Tells events. Clones share the hooks.
#[derive(Clone)]
pub struct Herald {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    packager: PublicKey,
    /// Makes this run's ids differ from every other's.
    run: String,
    count: AtomicU64,
    hooks: Vec<Arc<Hook>>,
    metrics: Metrics,
    /// The last refusals told, by stream and reason: an encoder that is refused tries again each second.
    refusals: Mutex<HashMap<(StreamId, String), millstream_model::Instant>>,
}

/// Sends to the hooks. Dropping it ends that at once.
#[derive(Debug)]
pub struct Couriers {
    tasks: Tasks,
    hooks: Vec<Arc<Hook>>,
}

/// What is counted of events.
#[derive(Debug, Clone)]
struct Metrics {
    events: IntCounterVec,
    attempts: IntCounterVec,
    missed: IntCounterVec,
}

/// A stream's refusals for one reason are told once in this long.
const REFUSAL_EVERY: Duration = Duration::from_secs(60);

/// Refusals remembered at most; more than that many streams with an encoder that is refused have other troubles.
const REFUSALS_MAX: usize = 1024;

impl fmt::Debug for Herald {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Herald").field("hooks", &self.shared.hooks.len()).finish_non_exhaustive()
    }
}

impl Herald {
    /// Checks the hooks and begins to serve them. Events name `packager`.
    ///
    /// # Errors
    /// When a hook cannot be used; the text says what would be right.
    pub fn load(
        config: &Config,
        trust: &Trust,
        packager: PublicKey,
        clock: Clock,
        registry: &Registry,
    ) -> anyhow::Result<(Self, Couriers)> {
        let mut run = [0; RUN_BYTES];
        getrandom::fill(&mut run).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let metrics = Metrics::register(registry)?;
        let clients = Clients::new(trust, Duration::from_millis(config.timeout_ms))?;
        let mut hooks = Vec::new();
        for (index, webhook) in config.webhooks.iter().enumerate() {
            let target = Target::of(index, webhook, config.plain_http)?;
            let seed = u64::from_le_bytes(std::array::from_fn(|at| run[at])).wrapping_add(index as u64);
            let bounds = queue::Bounds {
                waiting_max: config.waiting_max,
                keep: Duration::from_millis(config.keep_ms),
            };
            hooks.push(Arc::new(Hook::new(target, bounds, seed)));
        }
        let tasks = Tasks::new();
        for hook in &hooks {
            let work = courier::run(Arc::clone(hook), clients.clone(), clock, metrics.clone(), tasks.drain());
            tasks.spawn(format!("webhook {}", hook.name()), work);
        }
        let couriers = Couriers { tasks, hooks: hooks.clone() };
        let run = run.iter().map(|byte| format!("{byte:02x}")).collect();
        let shared = Shared {
            clock,
            packager,
            run,
            count: AtomicU64::new(0),
            hooks,
            metrics,
            refusals: Mutex::default(),
        };
        Ok((Self { shared: Arc::new(shared) }, couriers))
    }

    /// One that no hook listens to.
    #[cfg(test)]
    pub(crate) fn to_nobody(clock: Clock) -> anyhow::Result<Self> {
        let trust = Trust::system()?;
        let key = crate::show::root_key();
        Ok(Self::load(&Config::default(), &trust, key, clock, &Registry::new())?.0)
    }

    /// Tells what happened to `stream`. Never waits.
    pub fn tell(&self, stream: &StreamId, what: What) {
        let shared = &self.shared;
        let kind = what.kind();
        let event = Arc::new(Event {
            id: format!("evt_{}{:08x}", shared.run, shared.count.fetch_add(1, Relaxed)),
            time: shared.clock.wall(),
            packager: shared.packager,
            stream: stream.clone(),
            what,
        });
        shared.metrics.events.with_label_values(&[kind.name()]).inc();
        info!(target: "millstream_packager::events", "{}", event.body(0));
        let now = shared.clock.now();
        for hook in shared.hooks.iter().filter(|hook| hook.wants(kind)) {
            hook.handle(Input::Told(Arc::clone(&event)), now);
        }
    }

    /// Tells that a publisher of `stream` was refused, unless the same was told within a minute: an encoder tries
    /// again and again.
    pub fn refused(&self, stream: &StreamId, reason: &str) {
        let now = self.shared.clock.now();
        {
            let mut told = self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            told.retain(|_, at| now.since(*at) < REFUSAL_EVERY);
            let key = (stream.clone(), reason.to_owned());
            if told.contains_key(&key) || told.len() >= REFUSALS_MAX {
                return;
            }
            told.insert(key, now);
        }
        self.tell(stream, What::error(Code::Refused, reason));
    }
}

impl Couriers {
    /// Sends what waits, once, for up to `grace`. What is not taken then is lost, and the log says how much.
    pub async fn shutdown(self, grace: Duration) {
        self.tasks.shutdown(grace).await;
        for hook in &self.hooks {
            let left = hook.waiting();
            if left > 0 {
                warn!(hook = hook.name(), events = left, "a webhook did not take events before the end");
            }
        }
    }
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by = |name: &str, about: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counters =
                IntCounterVec::new(Opts::new(format!("millstream_packager_{name}"), about), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        Ok(Self {
            events: by("events_total", "Events told", &["kind"])?,
            attempts: by("webhook_attempts_total", "Requests to webhooks", &["hook", "result"])?,
            missed: by("webhook_missed_total", "Events that a webhook never took", &["hook"])?,
        })
    }
}
