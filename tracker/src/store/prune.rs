//! What is not kept for ever, and how it goes: in bites, so that no commit waits long for it.
//!
//! Kept for good: accounts, fundings (an id counts once, however late it comes again), terms, and what each operator
//! earned in each epoch. All of these grow with the platform's customers and with time, not with its traffic.

use millstream_ledger::{Account, limits::EPOCH_MS};
use millstream_model::WallTime;
use sqlx::sqlite::SqliteConnection;

use super::{
    Error, Store,
    fields::{Fields, int},
    settings,
    writer::Change,
};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// How long the lanes and vouchers behind a payout are kept after their session's certificate expired: a quarter to
/// look into an earning. The hold, in which people object, is two days.
pub const DETAILS_KEPT_MS: u64 = 92 * DAY_MS;

/// How long refusals are kept: a month, for an operator who looks into what a bad day cost.
pub const REFUSALS_KEPT_MS: u64 = 31 * DAY_MS;

/// How long each transfer but a funding stands for itself. Older ones are summed up in one, which keeps every account
/// the sum of its entries. As long as the details that it can be compared with.
pub const TRANSFERS_KEPT_MS: u64 = DETAILS_KEPT_MS;

/// Rows of each kind that go at once: some ten milliseconds of the writer's time.
pub const BITE_ROWS: u32 = 500;

/// The transfer that stands for those that were summed up.
const CARRY: &str = "carry";

/// The setting that tells the first epoch all of whose vouchers are kept.
pub(super) const DETAILS_FROM: &str = "book.details_from";

impl Store {
    /// Lets a bite of what is too old go. `true` when there may be more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune(&self, now: WallTime) -> Result<bool, Error> {
        Ok(self.writer.write(Change::Prune { now }).await? >= u64::from(BITE_ROWS))
    }
}

/// The rows of the kind that had the most to let go.
pub(super) async fn bite(connection: &mut SqliteConnection, now: WallTime) -> Result<u64, Error> {
    let before = |kept: u64| int(now.0.saturating_sub(kept));
    let tickets = "DELETE FROM tickets WHERE (stream, jti) IN
         (SELECT stream, jti FROM tickets WHERE forget < $1 ORDER BY forget LIMIT $2)";
    let refusals = "DELETE FROM refusals WHERE (batch, line) IN
         (SELECT batch, line FROM refusals WHERE made < $1 ORDER BY made LIMIT $2)";
    let tickets = delete(connection, tickets, int(now.0)).await?;
    let refusals = delete(connection, refusals, before(REFUSALS_KEPT_MS)).await?;
    let details = details(connection, now.0.saturating_sub(DETAILS_KEPT_MS)).await?;
    let transfers = transfers(connection, before(TRANSFERS_KEPT_MS)).await?;
    Ok(tickets.max(refusals).max(details).max(transfers))
}

async fn delete(connection: &mut SqliteConnection, sql: &'static str, before: i64) -> Result<u64, Error> {
    let result = sqlx::query(sql).bind(before).bind(i64::from(BITE_ROWS)).execute(connection).await?;
    Ok(result.rows_affected())
}

/// Sessions that are over, with their lanes and vouchers. What their lanes were paid stays, by operator.
async fn details(connection: &mut SqliteConnection, before: u64) -> Result<u64, Error> {
    let any = "SELECT session FROM sessions WHERE ended AND expires < $1 ORDER BY expires LIMIT 1";
    if sqlx::query(any).bind(int(before)).fetch_optional(&mut *connection).await?.is_none() {
        return Ok(0);
    }
    // A session's last voucher is booked within an hour of its certificate's end.
    let whole_from = before / EPOCH_MS + 2;
    settings::put(connection, DETAILS_FROM, &whole_from.to_string()).await?;
    let steps = [
        "INSERT INTO pruned (operator, paid)
         SELECT operator, SUM(paid) FROM lanes WHERE session IN
             (SELECT session FROM sessions WHERE ended AND expires < $1 ORDER BY expires, session LIMIT $2)
         GROUP BY operator
         ON CONFLICT (operator) DO UPDATE SET paid = pruned.paid + excluded.paid",
        "DELETE FROM vouchers WHERE session IN
             (SELECT session FROM sessions WHERE ended AND expires < $1 ORDER BY expires, session LIMIT $2)",
        "DELETE FROM lanes WHERE session IN
             (SELECT session FROM sessions WHERE ended AND expires < $1 ORDER BY expires, session LIMIT $2)",
    ];
    for step in steps {
        delete(connection, step, int(before)).await?;
    }
    let sessions = "DELETE FROM sessions WHERE session IN
         (SELECT session FROM sessions WHERE ended AND expires < $1 ORDER BY expires, session LIMIT $2)";
    delete(connection, sessions, int(before)).await
}

/// Transfers, each into the one that carries their sums on.
async fn transfers(connection: &mut SqliteConnection, before: i64) -> Result<u64, Error> {
    let old = "SELECT e.account AS account, CAST(SUM(e.amount) AS BIGINT) AS amount
         FROM entries e WHERE e.transfer IN
             (SELECT transfer FROM transfers WHERE purpose NOT IN ('fund', 'carry') AND made < $1
              ORDER BY made, transfer LIMIT $2)
         GROUP BY e.account";
    let sums = sqlx::query(old).bind(before).bind(i64::from(BITE_ROWS)).fetch_all(&mut *connection).await?;
    if sums.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO transfers (transfer, purpose, batch, made) VALUES ($1, $1, 0, $2)
         ON CONFLICT (transfer) DO UPDATE SET made = excluded.made",
    )
    .bind(CARRY)
    .bind(before)
    .execute(&mut *connection)
    .await?;
    for row in &sums {
        let fields = Fields(row);
        carry(connection, &fields.text("account")?, fields.int("amount")?).await?;
    }
    let entries = "DELETE FROM entries WHERE transfer IN
         (SELECT transfer FROM transfers WHERE purpose NOT IN ('fund', 'carry') AND made < $1
          ORDER BY made, transfer LIMIT $2)";
    delete(connection, entries, before).await?;
    let transfers = "DELETE FROM transfers WHERE transfer IN
         (SELECT transfer FROM transfers WHERE purpose NOT IN ('fund', 'carry') AND made < $1
          ORDER BY made, transfer LIMIT $2)";
    let gone = delete(connection, transfers, before).await?;
    // An empty transfer would be a finding of the audit.
    let empty = "DELETE FROM transfers WHERE transfer = $1 AND NOT EXISTS
         (SELECT 1 FROM entries WHERE transfer = $1)";
    sqlx::query(empty).bind(CARRY).execute(connection).await?;
    Ok(gone)
}

/// Adds to an account's carried sum. No entry is zero.
async fn carry(connection: &mut SqliteConnection, account: &Account, amount: i64) -> Result<(), Error> {
    let account = account.to_string();
    let known = sqlx::query("SELECT amount FROM entries WHERE transfer = $1 AND account = $2")
        .bind(CARRY)
        .bind(&account)
        .fetch_optional(&mut *connection)
        .await?;
    let known = known.map(|row| Fields(&row).int("amount")).transpose()?.unwrap_or(0);
    let sum = known.checked_add(amount).ok_or(Error::Damaged { column: "amount", value: account.clone() })?;
    let query = if sum == 0 {
        sqlx::query("DELETE FROM entries WHERE transfer = $1 AND account = $2").bind(CARRY).bind(&account)
    } else {
        sqlx::query(
            "INSERT INTO entries (transfer, account, amount) VALUES ($1, $2, $3)
             ON CONFLICT (transfer, account) DO UPDATE SET amount = excluded.amount",
        )
        .bind(CARRY)
        .bind(&account)
        .bind(sum)
    };
    query.execute(connection).await?;
    Ok(())
}
