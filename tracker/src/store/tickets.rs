//! Tickets that were used: each opens one session.

use millstream_model::{StreamId, WallTime};
use sqlx::sqlite::SqliteConnection;

use super::{Error, Store, fields::int, writer::Change};

impl Store {
    /// Uses a ticket up: `true` the first time, on disk when it returns; `false` when it was used before. It is
    /// remembered until after `forget`, when it would be refused for its age.
    ///
    /// # Errors
    /// When the database refuses; the ticket is not used then.
    pub async fn spend_ticket(&self, stream: &StreamId, jti: &str, forget: WallTime) -> Result<bool, Error> {
        let change = Change::Ticket { stream: stream.clone(), jti: jti.to_owned(), forget };
        Ok(self.writer.write(change).await? > 0)
    }
}

pub(super) async fn spend(
    connection: &mut SqliteConnection,
    stream: &StreamId,
    jti: &str,
    forget: WallTime,
) -> Result<u64, Error> {
    let result = sqlx::query(
        "INSERT INTO tickets (stream, jti, forget) VALUES ($1, $2, $3) ON CONFLICT (stream, jti) DO NOTHING",
    )
    .bind(stream.as_str())
    .bind(jti)
    .bind(int(forget.0))
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}
