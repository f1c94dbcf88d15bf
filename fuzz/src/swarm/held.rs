//! Counts bytes that were handed in and are still held by somebody.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

#[derive(Clone, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

struct Counted {
    data: Vec<u8>,
    held: Held,
}

impl Held {
    /// A copy of `data` that is counted as long as anybody has any of it.
    pub(super) fn hold(&self, data: &[u8]) -> Bytes {
        self.0.fetch_add(data.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { data: data.to_vec(), held: self.clone() })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}
