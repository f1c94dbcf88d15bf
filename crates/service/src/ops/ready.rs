//! Readiness: named gates, each open or closed for a reason a person can read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Gates = BTreeMap<String, Option<String>>;

/// All gates of a program.
#[derive(Debug, Clone, Default)]
pub(super) struct Readiness(Arc<Mutex<Gates>>);

/// One condition for being ready. It keeps its last state when dropped.
#[derive(Debug, Clone)]
pub struct Gate {
    name: String,
    all: Readiness,
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.all.lock().insert(self.name.clone(), None);
    }

    /// The condition does not hold, for `reason`.
    pub fn close(&self, reason: impl Into<String>) {
        self.all.lock().insert(self.name.clone(), Some(reason.into()));
    }
}

impl Readiness {
    pub(super) fn gate(&self, name: String, reason: String) -> Gate {
        let gate = Gate { name, all: self.clone() };
        gate.close(reason);
        gate
    }

    /// `name: reason` of each closed gate, by name.
    pub(super) fn reasons(&self) -> Vec<String> {
        let gates = self.lock();
        gates
            .iter()
            .filter_map(|(name, reason)| reason.as_ref().map(|reason| format!("{name}: {reason}")))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Gates> {
        // An insert into a map cannot leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
