//! The book's rows: what a ledger's batch writes, and what a ledger comes back from.
//!
//! What each table does with a batch is what [`Rows::absorb`] does: transfers and refusals are added, everything else
//! is put in the place of what was there.

use millstream_ledger::{
    Account, Batch, BatchId, Epoch, Kind, Rows, Terms, batch::EpochRow, book::FundingId, epoch::Earned,
    limits, published::Stored, session, stream, voucher,
};
use millstream_model::{BitRate, Micros, Price, StreamId, WallTime};
use millstream_wire::tracker::Published;
use sqlx::sqlite::SqliteConnection;

use super::{
    Error, Store,
    fields::{Fields, int},
    settings,
};

/// The setting that holds the newest batch's id.
const BATCH: &str = "book.batch";

/// Fundings that a start reads: as many as a ledger remembers.
const FUNDINGS_READ_MAX: usize = limits::FUNDINGS_REMEMBERED_MAX;

impl Store {
    /// Writes a ledger's batch; returns when it is on disk.
    ///
    /// # Errors
    /// When the database refuses. The ledger that made the batch must not be used any more then.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.writer.write(super::writer::Change::Batch(Box::new(batch))).await.map(|_| ())
    }

    /// Reads what a ledger comes back from at `now`.
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn book(&self, now: WallTime) -> Result<Rows, Error> {
        let mut connection = self.readers.begin().await?;
        let connection = &mut *connection;
        let batch = match sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(BATCH)
            .fetch_optional(&mut *connection)
            .await?
        {
            Some(row) => BatchId(Fields(&row).text("value")?),
            None => BatchId(0),
        };
        let mut rows = Rows { batch, epochs_from: Epoch::oldest_unsealed(now), ..Rows::default() };
        for row in
            sqlx::query("SELECT * FROM accounts WHERE balance <> 0").fetch_all(&mut *connection).await?
        {
            let fields = Fields(&row);
            rows.balances.insert(fields.text("account")?, Micros(fields.int("balance")?));
        }
        for row in sqlx::query("SELECT * FROM terms WHERE NOT removed").fetch_all(&mut *connection).await? {
            let row = read_terms(&Fields(&row))?;
            rows.streams.insert(row.stream.clone(), row);
        }
        for row in sqlx::query("SELECT * FROM sessions WHERE NOT ended").fetch_all(&mut *connection).await? {
            let row = read_session(&Fields(&row))?;
            rows.sessions.insert(row.session, row);
        }
        let lanes = "SELECT * FROM lanes WHERE session IN (SELECT session FROM sessions WHERE NOT ended)";
        for row in sqlx::query(lanes).fetch_all(&mut *connection).await? {
            let row = read_lane(&Fields(&row))?;
            rows.lanes.insert((row.session, row.edge), row);
        }
        let epochs = sqlx::query("SELECT * FROM epochs WHERE epoch >= $1").bind(int(rows.epochs_from.0));
        for row in epochs.fetch_all(&mut *connection).await? {
            let fields = Fields(&row);
            rows.epochs.insert((Epoch(fields.uint("epoch")?), fields.text("operator")?), fields.earned()?);
        }
        rows.fundings = fundings(connection).await?;
        Ok(rows)
    }

    /// Whether this funding is in the book, however old; then its account and amount.
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn funding(&self, id: &FundingId) -> Result<Option<(Account, Micros)>, Error> {
        let row = sqlx::query("SELECT account, amount FROM entries WHERE transfer = $1 AND amount > 0")
            .bind(format!("fund/{id}"))
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| Ok((Fields(&row).text("account")?, Micros(Fields(&row).int("amount")?)))).transpose()
    }
}

async fn fundings(connection: &mut SqliteConnection) -> Result<Vec<(FundingId, Account, Micros)>, Error> {
    let newest = sqlx::query(
        "SELECT t.transfer AS transfer, e.account AS account, e.amount AS amount
         FROM transfers t JOIN entries e ON e.transfer = t.transfer
         WHERE t.purpose = 'fund' AND e.amount > 0 ORDER BY t.batch DESC LIMIT $1",
    )
    .bind(int(FUNDINGS_READ_MAX as u64));
    let mut fundings = Vec::new();
    for row in newest.fetch_all(connection).await? {
        let fields = Fields(&row);
        let transfer = fields.string("transfer")?;
        let id = transfer.strip_prefix("fund/").and_then(|id| FundingId::new(id).ok());
        let id = id.ok_or(Error::Damaged { column: "transfer", value: transfer })?;
        fundings.push((id, fields.text("account")?, Micros(fields.int("amount")?)));
    }
    fundings.reverse();
    Ok(fundings)
}

pub(super) async fn write(connection: &mut SqliteConnection, batch: &Batch) -> Result<u64, Error> {
    for (account, balance) in &batch.balances {
        write_balance(connection, account, *balance).await?;
    }
    for transfer in &batch.transfers {
        sqlx::query("INSERT INTO transfers (transfer, purpose, batch, made) VALUES ($1, $2, $3, $4)")
            .bind(&transfer.id)
            .bind(transfer.purpose.as_str())
            .bind(int(batch.id.0))
            .bind(int(transfer.at.0))
            .execute(&mut *connection)
            .await?;
        for (account, amount) in &transfer.entries {
            sqlx::query("INSERT INTO entries (transfer, account, amount) VALUES ($1, $2, $3)")
                .bind(&transfer.id)
                .bind(account.to_string())
                .bind(amount.0)
                .execute(&mut *connection)
                .await?;
        }
    }
    for row in &batch.streams {
        write_terms(connection, row).await?;
    }
    for row in &batch.sessions {
        write_session(connection, row).await?;
    }
    for row in &batch.lanes {
        write_lane(connection, row).await?;
    }
    for row in &batch.vouchers {
        write_voucher(connection, row).await?;
    }
    for row in &batch.epochs {
        write_epoch(connection, row).await?;
    }
    for (line, refusal) in (0_i64..).zip(&batch.refusals) {
        write_refusal(connection, batch.id, line, refusal).await?;
    }
    settings::put(connection, BATCH, &batch.id.to_string()).await
}

async fn write_balance(
    connection: &mut SqliteConnection,
    account: &Account,
    balance: Micros,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO accounts (account, balance) VALUES ($1, $2)
         ON CONFLICT (account) DO UPDATE SET balance = excluded.balance",
    )
    .bind(account.to_string())
    .bind(balance.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_terms(connection: &mut SqliteConnection, row: &stream::Row) -> Result<(), Error> {
    let (recorded, extent) = match row.terms.kind {
        Kind::Live { window_ms } => (false, window_ms),
        Kind::Recorded { rate } => (true, rate.0),
    };
    sqlx::query(
        "INSERT INTO terms (stream, owner, price, budget_day, stopped, recorded, extent, spent_day, spent,
             published_before_runs, published_runs, published_before_window, removed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (stream) DO UPDATE SET
             owner = excluded.owner, price = excluded.price, budget_day = excluded.budget_day,
             stopped = excluded.stopped, recorded = excluded.recorded, extent = excluded.extent,
             spent_day = excluded.spent_day, spent = excluded.spent,
             published_before_runs = excluded.published_before_runs, published_runs = excluded.published_runs,
             published_before_window = excluded.published_before_window, removed = excluded.removed",
    )
    .bind(row.stream.as_str())
    .bind(row.owner.as_str())
    .bind(i64::from(row.terms.price.0))
    .bind(row.terms.budget_day.0)
    .bind(row.terms.stopped)
    .bind(recorded)
    .bind(int(extent))
    .bind(int(row.day))
    .bind(row.spent.0)
    .bind(int(row.published.offset))
    .bind(write_runs(&row.published.runs))
    .bind(int(row.published.before))
    .bind(row.removed)
    .execute(connection)
    .await?;
    Ok(())
}

fn read_terms(fields: &Fields<'_>) -> Result<stream::Row, Error> {
    let extent = fields.uint("extent")?;
    let kind = if fields.flag("recorded")? {
        Kind::Recorded { rate: BitRate(extent) }
    } else {
        Kind::Live { window_ms: extent }
    };
    Ok(stream::Row {
        stream: fields.text::<StreamId>("stream")?,
        owner: fields.text("owner")?,
        terms: Terms {
            price: Price(fields.narrow("price")?),
            budget_day: Micros(fields.int("budget_day")?),
            stopped: fields.flag("stopped")?,
            kind,
        },
        day: fields.uint("spent_day")?,
        spent: Micros(fields.int("spent")?),
        published: Stored {
            offset: fields.uint("published_before_runs")?,
            runs: read_runs(&fields.string("published_runs")?)?,
            before: fields.uint("published_before_window")?,
        },
        removed: fields.flag("removed")?,
    })
}

/// A stream's counters in one text, `name:bytes` each: they are few, and read and written together.
fn write_runs(runs: &[Published]) -> String {
    let runs: Vec<String> = runs.iter().map(|run| format!("{}:{}", run.run, run.bytes)).collect();
    runs.join(" ")
}

fn read_runs(text: &str) -> Result<Vec<Published>, Error> {
    let damaged = || Error::Damaged { column: "published_runs", value: text.to_owned() };
    let read = |run: &str| {
        let (run, bytes) = run.split_once(':')?;
        Some(Published { run: run.parse().ok()?, bytes: bytes.parse().ok()? })
    };
    text.split_ascii_whitespace().map(|run| read(run).ok_or_else(damaged)).collect()
}

async fn write_session(connection: &mut SqliteConnection, row: &session::Row) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO sessions (session, session_key, stream, joined, expires, closed, ended, base, payable,
             bound)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (session) DO UPDATE SET
             expires = excluded.expires, closed = excluded.closed, ended = excluded.ended,
             payable = excluded.payable, bound = excluded.bound",
    )
    .bind(row.session.to_string())
    .bind(row.key.to_string())
    .bind(row.stream.as_str())
    .bind(int(row.joined.0))
    .bind(int(row.expires.0))
    .bind(row.closed)
    .bind(row.over)
    .bind(int(row.base))
    .bind(int(row.payable))
    .bind(row.bound.map(int))
    .execute(connection)
    .await?;
    Ok(())
}

fn read_session(fields: &Fields<'_>) -> Result<session::Row, Error> {
    Ok(session::Row {
        session: fields.text("session")?,
        key: fields.text("session_key")?,
        stream: fields.text("stream")?,
        joined: WallTime(fields.uint("joined")?),
        expires: WallTime(fields.uint("expires")?),
        closed: fields.flag("closed")?,
        over: fields.flag("ended")?,
        base: fields.uint("base")?,
        payable: fields.uint("payable")?,
        bound: fields.uint_or_none("bound")?,
    })
}

async fn write_lane(connection: &mut SqliteConnection, row: &session::LaneRow) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO lanes (session, edge, operator, price, cap_bytes, headroom, serial, issued, expires, payable,
             received, segments, paid, reserved, settled, epoch, epoch_micros, epoch_bytes, epoch_segments, booked,
             digest, refused)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
         ON CONFLICT (session, edge) DO UPDATE SET
             cap_bytes = excluded.cap_bytes, headroom = excluded.headroom, serial = excluded.serial,
             issued = excluded.issued, expires = excluded.expires, payable = excluded.payable,
             received = excluded.received, segments = excluded.segments, paid = excluded.paid,
             reserved = excluded.reserved, settled = excluded.settled, epoch = excluded.epoch,
             epoch_micros = excluded.epoch_micros, epoch_bytes = excluded.epoch_bytes,
             epoch_segments = excluded.epoch_segments, booked = excluded.booked, digest = excluded.digest,
             refused = excluded.refused",
    )
    .bind(row.session.to_string())
    .bind(row.edge.to_string())
    .bind(row.operator.as_str())
    .bind(i64::from(row.price.0))
    .bind(int(row.cap_bytes))
    .bind(int(row.headroom))
    .bind(i64::from(row.serial))
    .bind(int(row.issued.0))
    .bind(int(row.expires.0))
    .bind(int(row.payable))
    .bind(int(row.received))
    .bind(int(row.segments))
    .bind(row.paid.0)
    .bind(row.reserved.0)
    .bind(row.settled)
    .bind(int(row.epoch.0))
    .bind(row.in_epoch.micros.0)
    .bind(int(row.in_epoch.bytes))
    .bind(int(row.in_epoch.segments))
    .bind(int(row.booked_at.0))
    .bind(row.digest.to_string())
    .bind(i64::from(row.refused))
    .execute(connection)
    .await?;
    Ok(())
}

fn read_lane(fields: &Fields<'_>) -> Result<session::LaneRow, Error> {
    Ok(session::LaneRow {
        session: fields.text("session")?,
        edge: fields.text("edge")?,
        operator: fields.text("operator")?,
        price: Price(fields.narrow("price")?),
        cap_bytes: fields.uint("cap_bytes")?,
        headroom: fields.uint("headroom")?,
        serial: fields.narrow("serial")?,
        issued: WallTime(fields.uint("issued")?),
        expires: WallTime(fields.uint("expires")?),
        payable: fields.uint("payable")?,
        received: fields.uint("received")?,
        segments: fields.uint("segments")?,
        paid: Micros(fields.int("paid")?),
        reserved: Micros(fields.int("reserved")?),
        settled: fields.flag("settled")?,
        epoch: Epoch(fields.uint("epoch")?),
        in_epoch: Earned {
            micros: Micros(fields.int("epoch_micros")?),
            bytes: fields.uint("epoch_bytes")?,
            segments: fields.uint("epoch_segments")?,
        },
        booked_at: WallTime(fields.uint("booked")?),
        digest: fields.text("digest")?,
        refused: fields.narrow("refused")?,
    })
}

async fn write_voucher(connection: &mut SqliteConnection, row: &voucher::Row) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO vouchers (session, edge, epoch, operator, stream, payable, micros, bytes, segments, booked,
             voucher)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (session, edge, epoch) DO UPDATE SET
             payable = excluded.payable, micros = excluded.micros, bytes = excluded.bytes,
             segments = excluded.segments, booked = excluded.booked, voucher = excluded.voucher",
    )
    .bind(row.session.to_string())
    .bind(row.edge.to_string())
    .bind(int(row.epoch.0))
    .bind(row.operator.as_str())
    .bind(row.stream.as_str())
    .bind(int(row.payable))
    .bind(row.earned.micros.0)
    .bind(int(row.earned.bytes))
    .bind(int(row.earned.segments))
    .bind(int(row.at.0))
    .bind(row.voucher.as_ref())
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_epoch(connection: &mut SqliteConnection, row: &EpochRow) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO epochs (epoch, operator, micros, bytes, segments) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (epoch, operator) DO UPDATE SET
             micros = excluded.micros, bytes = excluded.bytes, segments = excluded.segments",
    )
    .bind(int(row.epoch.0))
    .bind(row.operator.as_str())
    .bind(row.earned.micros.0)
    .bind(int(row.earned.bytes))
    .bind(int(row.earned.segments))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_refusal(
    connection: &mut SqliteConnection,
    batch: BatchId,
    line: i64,
    refusal: &voucher::Refusal,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO refusals (batch, line, session, edge, payable, made, code, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(int(batch.0))
    .bind(line)
    .bind(refusal.session.to_string())
    .bind(refusal.edge.to_string())
    .bind(int(refusal.payable))
    .bind(int(refusal.at.0))
    .bind(refusal.reason.code())
    .bind(refusal.reason.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
