//! The task that carries batches from the ledger to the disk.

use std::{sync::Arc, time::Duration};

use millstream_service::tasks::Drain;

use super::{Progress, Shared};

/// While the program drains, the book stays open for what is in hand until nothing has come for this long.
const DRAIN_QUIET: Duration = Duration::from_millis(500);

/// Writes batch after batch. Ends when a write fails, or when the program drains and nothing comes any more.
pub(super) async fn run(shared: Arc<Shared>, drain: Drain) {
    // However it ends, also by being cut off: whoever waits must not wait for ever.
    let _end = End(Arc::clone(&shared));
    loop {
        let batch = shared.ledger().take_batch(shared.now());
        let Some(batch) = batch else {
            if !more(&shared, &drain).await {
                return;
            }
            continue;
        };
        let id = batch.id;
        if let Err(error) = shared.store.commit(batch).await {
            tracing::error!(%error, batch = id.0, "the book cannot be written; ending, for what is in memory is not on disk");
            return;
        }
        shared.ledger().committed(id);
        shared.durable.send_modify(|progress| progress.durable = id);
    }
}

/// Waits until something has changed; `false` when the program drains and nothing has for a while.
async fn more(shared: &Shared, drain: &Drain) -> bool {
    if drain.has_begun() {
        return tokio::time::timeout(DRAIN_QUIET, shared.changed.notified()).await.is_ok();
    }
    tokio::select! {
        () = shared.changed.notified() => {}
        () = drain.begun() => {}
    }
    true
}

/// Tells everybody who waits that there is no more to wait for.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.durable.send_modify(|progress: &mut Progress| progress.failed = true);
    }
}
