//! The book on disk.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use millstream_service::data::Folder;

use crate::{
    book::Book,
    clock::Clock,
    metrics::{Metrics, gauge},
};

/// How often the book is written when it has changed. What a crash loses in between, the viewers bring themselves.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// The file's length at most: 16,384 lanes of 800 bytes, and the earnings.
const FILE_BYTES_MAX: usize = 32 << 20;

const NAME: &str = "book.json";

/// The book, and where it is kept.
pub(crate) struct Ledger {
    book: Mutex<Book>,
    folder: Arc<Folder>,
    clock: Arc<Clock>,
}

impl Ledger {
    pub(crate) fn open(folder: Arc<Folder>, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let book = match folder.read(NAME, FILE_BYTES_MAX)? {
            Some(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{}: is not a book of this program", folder.path().join(NAME).display())
            })?,
            None => Book::default(),
        };
        Ok(Self { book: Mutex::new(book), folder, clock })
    }

    /// Looks into the book. Keep it short.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the book whenever it has changed.
    pub(crate) async fn keep(self: Arc<Self>, metrics: Metrics) {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        loop {
            ticks.tick().await;
            {
                let book = self.book();
                metrics.vouchers_open.set(gauge(book.open().0));
                metrics.earned.set(book.earnings().earned.0);
            }
            let ledger = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || ledger.write()).await;
            if let Ok(Err(error)) = written {
                tracing::error!("the vouchers cannot be kept on disk: {error:#}");
            }
        }
    }

    /// Writes the book if it has changed.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let bytes = {
            let mut book = self.book();
            book.prune(self.clock.wall());
            if !book.take_changed() {
                return Ok(());
            }
            serde_json::to_vec(&*book)?
        };
        let written = self.folder.write(NAME, &bytes);
        if written.is_err() {
            self.book().keep_changed();
        }
        Ok(written?)
    }
}
