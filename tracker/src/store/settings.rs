//! Small facts by name: how far the book is, what of it is kept whole.

use sqlx::sqlite::SqliteConnection;

use super::Error;

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
