//! Streams: whose they are, their keys, who may watch.

use millstream_ledger::Name;
use millstream_model::{Hash, PublicKey, StreamId, WallTime};
use millstream_service::Secret;
use sqlx::sqlite::SqliteConnection;

use super::{
    Error, Store,
    fields::{Fields, int},
    writer::Change,
};

/// A stream as it is stored. Its price and budget stand with the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// The stream.
    pub id: StreamId,
    /// Whose funds pay.
    pub account: Name,
    /// [`hash_key`] of the stream key, which itself is stored nowhere.
    pub key_hash: Hash,
    /// What the root key grows from.
    pub root_seed: Secret<[u8; 32]>,
    /// Anybody may watch.
    pub public: bool,
    /// Who signs its tickets.
    pub ticket_key: Option<PublicKey>,
    /// The highest that was delegated.
    pub generation: u32,
    /// Whom it was delegated to.
    pub packager: Option<PublicKey>,
    /// When it was made.
    pub created: WallTime,
}

/// What a stream key is stored as.
///
/// A stream key has 160 random bits, so nobody finds it from its hash by trying, however fast: neither salt nor a
/// slow hash would add anything but time to each publish. The tag keeps it from being the hash of anything else.
#[must_use]
pub fn hash_key(stream_key: &str) -> Hash {
    let tagged = [b"millstream stream key v1\0", stream_key.as_bytes()].concat();
    millstream_wire::sign::sha256(&tagged)
}

impl Store {
    /// All streams.
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn streams(&self) -> Result<Vec<StreamRow>, Error> {
        let rows = sqlx::query("SELECT * FROM streams ORDER BY stream").fetch_all(&self.readers).await?;
        rows.iter().map(|row| read(&Fields(row))).collect()
    }

    /// Adds a stream; returns when it is on disk.
    ///
    /// # Errors
    /// [`Error::Exists`] when its name or its key is taken.
    pub async fn add_stream(&self, row: StreamRow) -> Result<(), Error> {
        self.writer.write(Change::NewStream(Box::new(row))).await.map(|_| ())
    }

    /// Stores what may change of a stream: who may watch, and its generation, which only goes up. Returns when it is
    /// on disk.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put_stream(&self, row: StreamRow) -> Result<(), Error> {
        self.writer.write(Change::Stream(Box::new(row))).await.map(|_| ())
    }

    /// Removes a stream with its keys; returns when that is on disk. `false` when there was none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn remove_stream(&self, stream: &StreamId) -> Result<bool, Error> {
        Ok(self.writer.write(Change::RemoveStream(stream.clone())).await? > 0)
    }
}

fn read(fields: &Fields<'_>) -> Result<StreamRow, Error> {
    let seed = fields.blob("root_seed")?;
    let seed = <[u8; 32]>::try_from(seed.as_slice())
        .map_err(|_| Error::Damaged { column: "root_seed", value: format!("{} bytes", seed.len()) })?;
    Ok(StreamRow {
        id: fields.text("stream")?,
        account: fields.text("account")?,
        key_hash: fields.text("key_hash")?,
        root_seed: Secret::new(seed),
        public: fields.flag("public")?,
        ticket_key: fields.text_or_none("ticket_key")?,
        generation: fields.narrow("generation")?,
        packager: fields.text_or_none("packager")?,
        created: WallTime(fields.uint("created")?),
    })
}

pub(super) async fn insert(connection: &mut SqliteConnection, row: &StreamRow) -> Result<u64, Error> {
    let result = sqlx::query(
        "INSERT INTO streams (stream, account, key_hash, root_seed, public, ticket_key, generation, created, packager)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.id.as_str())
    .bind(row.account.as_str())
    .bind(row.key_hash.to_string())
    .bind(row.root_seed.expose().as_slice())
    .bind(row.public)
    .bind(row.ticket_key.map(|key| key.to_string()))
    .bind(i64::from(row.generation))
    .bind(int(row.created.0))
    .bind(row.packager.map(|key| key.to_string()))
    .execute(connection)
    .await;
    match result {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(Error::Exists),
        other => Ok(other?.rows_affected()),
    }
}

pub(super) async fn update(connection: &mut SqliteConnection, row: &StreamRow) -> Result<u64, Error> {
    let result = sqlx::query(
        "UPDATE streams SET public = $2, ticket_key = $3,
         packager = CASE WHEN generation <= $4 THEN $5 ELSE packager END,
         generation = CASE WHEN generation < $4 THEN $4 ELSE generation END
         WHERE stream = $1",
    )
    .bind(row.id.as_str())
    .bind(row.public)
    .bind(row.ticket_key.map(|key| key.to_string()))
    .bind(i64::from(row.generation))
    .bind(row.packager.map(|key| key.to_string()))
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}

pub(super) async fn remove(connection: &mut SqliteConnection, stream: &StreamId) -> Result<u64, Error> {
    let result = sqlx::query("DELETE FROM streams WHERE stream = $1")
        .bind(stream.as_str())
        .execute(connection)
        .await?;
    Ok(result.rows_affected())
}
