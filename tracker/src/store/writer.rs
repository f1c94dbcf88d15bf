//! The one task that writes: group commit.

use millstream_ledger::Batch;
use millstream_model::{StreamId, WallTime};
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::{Error, StreamRow, book, prune, streams, tickets};

/// Changes of one commit at most: bounds how long the first of them waits for the last.
const CHANGES_PER_COMMIT_MAX: usize = 256;

/// Changes waiting at most; whoever has one more waits for a place.
const QUEUE_MAX: usize = 1_024;

/// Something to be written, whole or not at all.
#[derive(Debug)]
pub(super) enum Change {
    Batch(Box<Batch>),
    NewStream(Box<StreamRow>),
    Stream(Box<StreamRow>),
    RemoveStream(StreamId),
    Ticket { stream: StreamId, jti: String, forget: WallTime },
    Prune { now: WallTime },
}

/// Hands changes to the writer.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Job>);

#[derive(Debug)]
struct Job {
    change: Change,
    /// Told how many rows it changed, after the disk has them.
    done: oneshot::Sender<Result<u64, Error>>,
}

impl Writer {
    /// Starts the task. It ends when the last handle is gone.
    pub(super) fn start(connection: SqliteConnection) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(connection, queue));
        Self(sender)
    }

    /// Writes `change`; returns when it is on disk, with the number of rows changed.
    pub(super) async fn write(&self, change: Change) -> Result<u64, Error> {
        let (done, told) = oneshot::channel();
        self.0.send(Job { change, done }).await.map_err(|_| Error::Closed)?;
        told.await.map_err(|_| Error::Closed)?
    }
}

async fn run(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(CHANGES_PER_COMMIT_MAX);
    while queue.recv_many(&mut jobs, CHANGES_PER_COMMIT_MAX).await > 0 {
        let mut written = Vec::with_capacity(jobs.len());
        let all = commit(&mut connection, jobs.drain(..), &mut written).await;
        if let Err(error) = all {
            // Nobody was told that anything of it is written. Whoever waits learns that the writer is gone, and the
            // program starts anew from what is on disk.
            tracing::error!(%error, "the database failed");
            return;
        }
        for (done, result) in written {
            let _ = done.send(result);
        }
    }
}

type Written = (oneshot::Sender<Result<u64, Error>>, Result<u64, Error>);

/// Writes all jobs in one transaction. One that is refused leaves no trace and harms no other.
async fn commit(
    connection: &mut SqliteConnection,
    jobs: impl Iterator<Item = Job>,
    written: &mut Vec<Written>,
) -> Result<(), Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for Job { change, done } in jobs {
        sqlx::query("SAVEPOINT change").execute(&mut *connection).await?;
        let result = apply(connection, change).await;
        if result.is_err() {
            sqlx::query("ROLLBACK TO SAVEPOINT change").execute(&mut *connection).await?;
        }
        sqlx::query("RELEASE SAVEPOINT change").execute(&mut *connection).await?;
        written.push((done, result));
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

async fn apply(connection: &mut SqliteConnection, change: Change) -> Result<u64, Error> {
    match change {
        Change::Batch(batch) => book::write(connection, &batch).await,
        Change::NewStream(row) => streams::insert(connection, &row).await,
        Change::Stream(row) => streams::update(connection, &row).await,
        Change::RemoveStream(stream) => streams::remove(connection, &stream).await,
        Change::Ticket { stream, jti, forget } => tickets::spend(connection, &stream, &jti, forget).await,
        Change::Prune { now } => prune::bite(connection, now).await,
    }
}
