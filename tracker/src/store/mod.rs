//! The database: SQLite on the tracker's disk, behind one writer.
//!
//! For [`money`](crate::money), which keeps the book in it, and for whoever keeps streams and tickets. What never
//! belongs here: a decision about money; SQL that PostgreSQL would not read.
//!
//! Everything that changes goes through one [writer] task: it takes what has come in while the disk was busy with the
//! last commit, writes it as one transaction, waits until the disk has it, and then answers all of it. Reads go
//! beside it, on connections of their own, and see whole transactions.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions as _, SqlSafeStr as _};
use sqlx::{
    SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    },
};
use thiserror::Error;

pub mod audit;
mod book;
mod fields;
pub mod prune;
mod settings;
pub mod statement;
mod streams;
#[cfg(test)]
mod tests;
mod tickets;
mod writer;

pub use audit::Audit;
pub use streams::{StreamRow, hash_key};

/// The database's file in the data folder.
pub const FILE: &str = "tracker.db";

/// Readers at a time: API calls and the start page; each holds 2 MB of cache.
const READERS_MAX: u32 = 4;

/// How long one waits for the other's lock. Readers never take one, so only a second program on the file would.
const BUSY: Duration = Duration::from_secs(5);

/// The database. Cheap to clone; the writer ends with the last clone.
#[derive(Debug, Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: writer::Writer,
}

/// Why the database did not do what was wanted.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be made or its permissions cannot be set.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database refused.
    #[error("the database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The tables are of another version of this program.
    #[error("the database's tables: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A stored value makes no sense.
    #[error("the database is damaged: {column} cannot be `{value}`")]
    Damaged {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// Two of a kind that there is one of: a stream, a stream key.
    #[error("it exists already")]
    Exists,
    /// The writer is gone: a write failed in a way that leaves no choice but to start anew.
    #[error("the database takes no writes any more")]
    Closed,
}

impl Store {
    /// Opens the database in `folder`, makes it (0600) when absent, and brings its tables up to date.
    ///
    /// # Errors
    /// When that fails; nothing is lost then.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        keep_private(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode, NORMAL would lose the last commits in a power cut. What we answer must not get lost.
            .synchronous(SqliteSynchronous::Full);
        let mut connection: SqliteConnection = options.connect().await?;
        migrations().run_direct(None, &mut connection, false).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { readers, writer: writer::Writer::start(connection) })
    }
}

#[cfg(test)]
impl Store {
    /// Changes the database as nothing in the program does.
    pub(crate) async fn sabotage(&self, sql: &'static str) {
        let options = self.readers.connect_options().as_ref().clone().read_only(false).foreign_keys(false);
        let mut connection = options.connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
}

/// The tables, version by version. A version that was released is never changed.
fn migrations() -> Migrator {
    let versions = [
        ("book", include_str!("../../migrations/0001_book.sql")),
        ("bounds", include_str!("../../migrations/0002_bounds.sql")),
        ("runs", include_str!("../../migrations/0003_runs.sql")),
    ];
    let migration = |(version, (name, sql)): (i64, (&'static str, &'static str))| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(versions).map(migration).collect())
}

/// Makes the file readable for its owner alone before SQLite opens it; its journal inherits that.
fn keep_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
