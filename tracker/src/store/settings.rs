//! Small facts by name.

use sqlx::{Row as _, sqlite::SqliteConnection};

use super::{Error, Store, writer::Change};

impl Store {
    /// The value kept under `name`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn setting(&self, name: &'static str) -> Result<Option<String>, Error> {
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.readers);
        Ok(row.await?.map(|row| row.try_get("value")).transpose()?)
    }

    /// Keeps `value` under `name`; returns when it is on disk.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put_setting(&self, name: &'static str, value: String) -> Result<(), Error> {
        self.writer.write(Change::Setting { name, value }).await.map(|_| ())
    }
}

pub(super) async fn put(
    connection: &mut SqliteConnection,
    name: &'static str,
    value: &str,
) -> Result<u64, Error> {
    let result = sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(connection)
    .await?;
    Ok(result.rows_affected())
}
