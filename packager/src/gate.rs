//! Who may publish, and with whose word: asks the tracker, or in its place a list in the configuration.
//!
//! [`Gate`] is what the ingest asks about a stream key. What it learns with a yes, the [`Permission`], waits here until
//! the publisher is taken up. Keys are kept in memory while their stream is on, to renew a delegation and to let a
//! publisher come back while the tracker is out of reach.

mod local;
mod tracker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_model::{Instant, PublicKey, StreamId, TrackerId, WallTime};
use millstream_service::Secret;
use millstream_wire::{
    media::Delegation,
    sign::{Context, Signed},
    tracker::next_generation,
};

pub use self::{
    local::{Local, LocalStream},
    tracker::{Config as TrackerConfig, Tracker, Unreported},
};
use crate::{
    clock::Clock,
    events::Herald,
    ingest::{self, Refusal, StreamKey},
    policy::{Policies, Takeover},
};

/// Everything a stream is served and signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The stream.
    pub stream: StreamId,
    /// The root's word for this packager.
    pub delegation: Signed<Delegation>,
    /// The root's key.
    pub root: PublicKey,
    /// Whose tokens count; none without a tracker.
    pub tracker: Option<TrackerId>,
    /// Anybody may watch.
    pub public: bool,
    /// The highest generation that this packager had used when it asked for this one.
    pub above: u32,
}

impl Permission {
    /// Refuses what the root did not sign, and what is for another packager or stream or time.
    fn check(self, packager: &PublicKey, now: WallTime) -> Result<Self, Refusal> {
        let refusal = |what: &str| Refusal::new(format!("the tracker's delegation is not usable: {what}"));
        let delegation =
            self.delegation.verify(&self.root, Context::None).map_err(|error| refusal(&error.to_string()))?;
        if delegation.packager != *packager || delegation.stream != self.stream {
            return Err(refusal("it is for another packager or stream"));
        }
        if delegation.expires <= now {
            return Err(refusal("it has expired"));
        }
        Ok(self)
    }

    /// The delegation's generation.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.delegation.unverified().generation
    }

    /// Whether nobody else was given the stream since this packager was given `generation` of it. Where somebody was,
    /// receivers believe nothing of that generation any more.
    #[must_use]
    pub fn follows(&self, generation: u32) -> bool {
        next_generation(generation, self.above).is_none_or(|next| self.generation() <= next)
    }

    /// When to ask for another delegation: when three quarters of its time are over.
    #[must_use]
    pub fn renew_at(&self) -> WallTime {
        let delegation = self.delegation.unverified();
        let lasts = delegation.expires.millis_since(delegation.not_before);
        delegation.not_before.plus_millis(lasts / 4 * 3)
    }
}

/// Who decides.
#[derive(Debug)]
pub enum Judge {
    /// The tracker.
    Tracker(Tracker),
    /// The configuration.
    Local(Local),
}

/// Asks the judge, and keeps what it said.
#[derive(Debug)]
pub struct Gate {
    judge: Judge,
    packager: PublicKey,
    clock: Clock,
    streams_max: usize,
    herald: Option<Herald>,
    policies: Option<Arc<Policies>>,
    known: Mutex<HashMap<StreamId, Known>>,
}

#[derive(Debug)]
struct Known {
    key: Secret<String>,
    permission: Permission,
    at: Instant,
}

/// From a yes until the stream is on: a publisher that was let in and left at once must not keep a place for ever.
const UNUSED: Duration = Duration::from_secs(60);

impl Gate {
    /// A gate for `packager`, for at most `streams_max` streams.
    #[must_use]
    pub fn new(judge: Judge, packager: PublicKey, clock: Clock, streams_max: usize) -> Self {
        Self { judge, packager, clock, streams_max, herald: None, policies: None, known: Mutex::default() }
    }

    /// The same, which also tells of those with a good key whom it refuses.
    #[must_use]
    pub fn telling(self, herald: Herald) -> Self {
        Self { herald: Some(herald), ..self }
    }

    /// The same, where streams have policies of their own.
    #[must_use]
    pub fn under(self, policies: Arc<Policies>) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// What the last yes for `stream` brought.
    #[must_use]
    pub fn permission(&self, stream: &StreamId) -> Option<Permission> {
        self.known().get(stream).map(|known| known.permission.clone())
    }

    /// Asks again for a stream that is on: a delegation that lasts longer.
    ///
    /// # Errors
    /// When the judge says no or cannot be reached; what is in force stays so.
    pub async fn renew(&self, stream: &StreamId) -> Result<Permission, Refusal> {
        let key = self.known().get(stream).map(|known| known.key.clone());
        let key = key.ok_or_else(|| Refusal::new("its stream key is not known any more"))?;
        self.ask(&key).await
    }

    /// Forgets what was allowed and never came on.
    pub fn forget_unused(&self, now: Instant, is_on: impl Fn(&StreamId) -> bool) {
        self.known().retain(|stream, known| now.since(known.at) < UNUSED || is_on(stream));
    }

    /// A stream is over: its key is forgotten.
    pub fn forget(&self, stream: &StreamId) {
        self.known().remove(stream);
    }

    /// The tracker's clock; the wall's where there is no tracker.
    #[must_use]
    pub fn time(&self) -> WallTime {
        match &self.judge {
            Judge::Tracker(tracker) => tracker.time(self.clock.wall()),
            Judge::Local(_) => self.clock.wall(),
        }
    }

    /// The tracker, if there is one.
    #[must_use]
    pub const fn tracker(&self) -> Option<&Tracker> {
        match &self.judge {
            Judge::Tracker(tracker) => Some(tracker),
            Judge::Local(_) => None,
        }
    }

    async fn ask(&self, key: &Secret<String>) -> Result<Permission, Refusal> {
        let answer = match &self.judge {
            Judge::Tracker(tracker) => tracker.admit(key, &self.packager, self.clock).await,
            Judge::Local(local) => {
                local.admit(key, &self.packager, self.clock.wall()).await.map_err(No::Refused)
            }
        };
        let permission = match answer {
            Ok(permission) => permission.check(&self.packager, self.time())?,
            Err(No::Refused(refusal)) => return Err(refusal),
            Err(No::Unreachable(refusal)) => self.remembered(key).ok_or(refusal)?,
        };
        let mut known = self.known();
        if known.len() >= self.streams_max && !known.contains_key(&permission.stream) {
            let refusal = Refusal::new(format!("this packager carries {} streams already", known.len()));
            self.tell_refused(&permission.stream, &refusal);
            return Err(refusal);
        }
        let fresh = Known { key: key.clone(), permission: permission.clone(), at: self.clock.now() };
        known.insert(permission.stream.clone(), fresh);
        Ok(permission)
    }

    fn tell_refused(&self, stream: &StreamId, refusal: &Refusal) {
        if let Some(herald) = &self.herald {
            herald.refused(stream, &refusal.reason);
        }
    }

    /// The tracker may be away; whoever published before may come back.
    fn remembered(&self, key: &Secret<String>) -> Option<Permission> {
        let known = self.known();
        let mut same = known.values().filter(|known| known.key.matches(key.expose().as_bytes()));
        let permission = same.next().map(|known| known.permission.clone())?;
        if permission.delegation.unverified().expires <= self.time() {
            return None;
        }
        tracing::warn!(stream = %permission.stream, "the tracker is out of reach; a known publisher may go on");
        Some(permission)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<StreamId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ingest::Gate for Arc<Gate> {
    async fn admit(&self, key: &StreamKey) -> Result<ingest::Admitted, Refusal> {
        let permission = self.ask(&Secret::new(key.expose().to_owned())).await?;
        Ok(ingest::Admitted { stream: permission.stream })
    }

    fn takeover(&self, stream: &StreamId) -> Takeover {
        self.policies.as_ref().map_or(Takeover::Refuse, |policies| policies.of(stream).takeover)
    }

    fn refused(&self, stream: &StreamId, refusal: &Refusal) {
        self.tell_refused(stream, refusal);
    }
}

/// Why there is no permission.
enum No {
    /// The judge said so.
    Refused(Refusal),
    /// The judge could not be asked.
    Unreachable(Refusal),
}

#[cfg(test)]
mod tests;
