//! Owned tasks: each has a name and an owner, so that a program ends when it says it ends.
//!
//! [`Tasks`] owns; [`Spawner`] is what the rest of the program holds. On [`Tasks::shutdown`] the [`Drain`] begins:
//! tasks finish what they have in hand, and what is not done after the grace is cut off, by name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{sync::watch, task::AbortHandle};

/// A task that was aborted ends at its next await; one that computes on is left behind after this long.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// A task's name: says what it does, e.g. `rtmp accept`. Names need not be unique.
pub type Name = Cow<'static, str>;

/// A task that a program cannot live without ended before the drain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} ended by itself, and nothing works without it; the log says why")]
pub struct Lost(pub Name);

/// Owns tasks. Dropping it ends them all at once; [`shutdown`](Self::shutdown) lets them finish first.
#[derive(Debug)]
pub struct Tasks {
    spawner: Spawner,
}

/// Spawns into a [`Tasks`]; cheap to clone. After the owner is gone, what is spawned is dropped.
#[derive(Debug, Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
    /// Whether its tasks outlive the drain.
    to_the_end: bool,
}

/// Tells a task that the program is ending: take nothing new, finish what is in hand.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<bool>);

/// One task of a [`Tasks`] that also ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the task"]
pub struct Owned {
    abort: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    live: Mutex<Live>,
    /// How many tasks live that the drain waits for.
    count: watch::Sender<usize>,
    drain: watch::Sender<bool>,
    /// The drain is over.
    end: watch::Sender<bool>,
    /// The first vital task that ended before the drain.
    lost: watch::Sender<Option<Name>>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    closed: bool,
    tasks: HashMap<u64, Task>,
    /// How many of them the drain waits for.
    waited_for: usize,
}

#[derive(Debug)]
struct Task {
    name: Name,
    waited_for: bool,
    /// Unset between registration and spawn.
    abort: Option<AbortHandle>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty set. Tasks run on the runtime that [`Spawner::spawn`] is called on.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            live: Mutex::default(),
            count: watch::Sender::new(0),
            drain: watch::Sender::new(false),
            end: watch::Sender::new(false),
            lost: watch::Sender::new(None),
        };
        Self { spawner: Spawner { shared: Arc::new(shared), to_the_end: false } }
    }

    /// What the rest of the program holds.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Begins the drain and returns at once.
    pub fn begin_drain(&self) {
        self.spawner.shared.drain.send_replace(true);
    }

    /// Waits until a vital task has ended although no drain has begun; says which.
    pub async fn lost(&self) -> Lost {
        let mut lost = self.spawner.shared.lost.subscribe();
        match lost.wait_for(Option::is_some).await.map(|name| name.clone()) {
            Ok(Some(name)) => Lost(name),
            // The sender lives as long as `self`.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Begins the drain, waits up to `grace` for all tasks, then ends what is left. Gives the names of those that
    /// were cut off, with their numbers, and warns of them.
    pub async fn shutdown(self, grace: Duration) -> Vec<String> {
        self.begin_drain();
        let shared = &self.spawner.shared;
        let mut count = shared.count.subscribe();
        if tokio::time::timeout(grace, count.wait_for(|live| *live == 0)).await.is_ok() {
            shared.close();
            return Vec::new();
        }
        let cut_off = shared.names();
        if !cut_off.is_empty() {
            tracing::warn!(grace_ms = grace.as_millis(), tasks = cut_off.join(", "), "tasks cut off");
        }
        shared.close();
        let _ = tokio::time::timeout(ABORT_WAIT, count.wait_for(|live| *live == 0)).await;
        cut_off
    }
}

impl std::ops::Deref for Tasks {
    type Target = Spawner;

    fn deref(&self) -> &Spawner {
        &self.spawner
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.spawner.shared.close();
    }
}

impl Spawner {
    /// Runs `work` until it is done. It is waited for in the drain, so work that would go on for ever watches
    /// [`drain`](Self::drain), or is spawned with [`spawn_until_drain`](Self::spawn_until_drain).
    ///
    /// A panic inside ends this task alone, with an ERROR in the log.
    pub fn spawn(&self, name: impl Into<Name>, work: impl Future<Output = ()> + Send + 'static) {
        self.start(name.into(), work);
    }

    /// Runs `work` until it is done or the drain begins: for what holds nothing that must be finished.
    pub fn spawn_until_drain(&self, name: impl Into<Name>, work: impl Future<Output = ()> + Send + 'static) {
        let drain = self.drain();
        self.start(name.into(), async move {
            tokio::select! {
                () = drain.begun() => {}
                () = work => {}
            }
        });
    }

    /// Runs `work` that the program cannot live without: when it ends before the drain, [`Tasks::lost`] tells, and
    /// the program ends.
    pub fn spawn_vital(&self, name: impl Into<Name>, work: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        let loss = Loss { name: name.clone(), shared: Arc::clone(&self.shared) };
        self.start(name, async move {
            let _loss = loss;
            work.await;
        });
    }

    /// Runs `work` until it is done or the returned handle is dropped: for what belongs to one connection or session.
    pub fn spawn_owned(
        &self,
        name: impl Into<Name>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Owned {
        Owned { abort: self.start(name.into(), work) }
    }

    /// The same set, for tasks that are not waited for in the drain and go on until it is over: what tells
    /// operators how it goes. Their [`drain`](Self::drain) is that end.
    #[must_use]
    pub fn to_the_end(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), to_the_end: true }
    }

    /// Tells when the program begins to end.
    #[must_use]
    pub fn drain(&self) -> Drain {
        let begin = if self.to_the_end { &self.shared.end } else { &self.shared.drain };
        Drain(begin.subscribe())
    }

    /// How many tasks live that the drain waits for.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    fn start(&self, name: Name, work: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let Some(place) = self.shared.register(name.clone(), !self.to_the_end) else {
            tracing::debug!(task = %name, "not started: the program is ending");
            return None;
        };
        let id = place.id;
        let task = tokio::spawn(async move {
            let _place = place;
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                tracing::error!(task = %name, reason = reason(&*panic), "a task panicked");
            }
        });
        let abort = task.abort_handle();
        if !self.shared.keep(id, abort.clone()) {
            abort.abort();
        }
        Some(abort)
    }
}

impl Drain {
    /// Whether the program is ending.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the program begins to end.
    pub async fn begun(&self) {
        // An error means that the owner is gone, and then this task is about to be.
        let _ = self.0.clone().wait_for(|begun| *begun).await;
    }
}

impl Owned {
    /// Whether the task has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.abort.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }
}

/// HTTP/2 runs each request as a task of its own; so these have an owner, too.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, work: F) {
        self.spawn("http request", work);
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing under this lock can panic half-way through a change.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(self: &Arc<Self>, name: Name, waited_for: bool) -> Option<Registered> {
        let mut live = self.live();
        if live.closed {
            return None;
        }
        let id = live.next;
        live.next += 1;
        live.tasks.insert(id, Task { name, waited_for, abort: None });
        live.waited_for += usize::from(waited_for);
        self.count.send_replace(live.waited_for);
        Some(Registered { id, shared: Arc::clone(self) })
    }

    /// Whether the task may go on: it may have ended, or the set may have been closed, since it was registered.
    fn keep(&self, id: u64, abort: AbortHandle) -> bool {
        let mut live = self.live();
        if let Some(task) = live.tasks.get_mut(&id) {
            task.abort = Some(abort);
        }
        !live.closed
    }

    fn forget(&self, id: u64) {
        let mut live = self.live();
        if live.tasks.remove(&id).is_some_and(|task| task.waited_for) {
            live.waited_for -= 1;
            self.count.send_replace(live.waited_for);
        }
    }

    fn close(&self) {
        self.drain.send_replace(true);
        self.end.send_replace(true);
        let aborts: Vec<AbortHandle> = {
            let mut live = self.live();
            live.closed = true;
            live.tasks.values().filter_map(|task| task.abort.clone()).collect()
        };
        for abort in aborts {
            abort.abort();
        }
    }

    fn names(&self) -> Vec<String> {
        let mut counts = BTreeMap::<Name, usize>::new();
        for task in self.live().tasks.values().filter(|task| task.waited_for) {
            *counts.entry(task.name.clone()).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|(name, count)| if count == 1 { name.into_owned() } else { format!("{name} ({count})") })
            .collect()
    }
}

/// A task's place in the set; given up however the task ends.
struct Registered {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

/// Reports a vital task that ends, however it ends.
struct Loss {
    name: Name,
    shared: Arc<Shared>,
}

impl Drop for Loss {
    fn drop(&mut self) {
        if !*self.shared.drain.borrow() {
            tracing::error!(task = %self.name, "a task the program cannot live without has ended");
            self.shared.lost.send_if_modified(|lost| {
                let first = lost.is_none();
                if first {
                    *lost = Some(self.name.clone());
                }
                first
            });
        }
    }
}

fn reason(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests;
