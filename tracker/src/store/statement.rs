//! What people ask of the book: earnings, and what stands behind them. From an operator's epoch to its lanes to the
//! vouchers that prove them.

use bytes::Bytes;
use millstream_ledger::{Epoch, Name, epoch::Earned};
use millstream_model::{EdgeId, SessionId, StreamId, WallTime};

use super::{
    Error, Store,
    fields::{Fields, int},
};

/// Lines of one answer at most. The next page begins where it ends.
pub const LINES_MAX: u32 = 1_000;

/// What a lane earned in an epoch, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneLine {
    /// The session.
    pub session: SessionId,
    /// The edge.
    pub edge: EdgeId,
    /// The stream.
    pub stream: StreamId,
    /// Cumulative payable bytes of the voucher.
    pub payable: u64,
    /// What was earned in this epoch.
    pub earned: Earned,
    /// When the voucher was booked.
    pub at: WallTime,
    /// The newest voucher of the lane in this epoch, as the viewer signed it.
    pub voucher: Bytes,
}

/// A voucher that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalLine {
    /// The session.
    pub session: SessionId,
    /// What it claimed.
    pub payable: u64,
    /// When.
    pub at: WallTime,
    /// A short name.
    pub code: String,
    /// Why, for people.
    pub reason: String,
}

impl Store {
    /// What `operator` earned, newest epoch first, before `before` (or from the newest on).
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn epochs(
        &self,
        operator: &Name,
        before: Option<Epoch>,
    ) -> Result<Vec<(Epoch, Earned)>, Error> {
        let rows = sqlx::query(
            "SELECT epoch, micros, bytes, segments FROM epochs
             WHERE operator = $1 AND epoch < $2 ORDER BY epoch DESC LIMIT $3",
        )
        .bind(operator.as_str())
        .bind(before.map_or(i64::MAX, |epoch| int(epoch.0)))
        .bind(i64::from(LINES_MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((Epoch(Fields(row).uint("epoch")?), Fields(row).earned()?))).collect()
    }

    /// The lanes behind what `operator` earned in `epoch`, after `after` (a lane of the page before).
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn lanes_of(
        &self,
        operator: &Name,
        epoch: Epoch,
        after: Option<(SessionId, EdgeId)>,
    ) -> Result<Vec<LaneLine>, Error> {
        let (session, edge) =
            after.map_or_else(Default::default, |(session, edge)| (session.to_string(), edge.to_string()));
        let rows = sqlx::query(
            "SELECT * FROM vouchers
             WHERE operator = $1 AND epoch = $2 AND (session > $3 OR (session = $3 AND edge > $4))
             ORDER BY session, edge LIMIT $5",
        )
        .bind(operator.as_str())
        .bind(int(epoch.0))
        .bind(session)
        .bind(edge)
        .bind(i64::from(LINES_MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let fields = Fields(row);
                Ok(LaneLine {
                    session: fields.text("session")?,
                    edge: fields.text("edge")?,
                    stream: fields.text("stream")?,
                    payable: fields.uint("payable")?,
                    earned: fields.earned()?,
                    at: WallTime(fields.uint("booked")?),
                    voucher: fields.blob("voucher")?.into(),
                })
            })
            .collect()
    }

    /// The newest refusals of vouchers of `edge`, newest first, before `before` (or from the newest on).
    ///
    /// # Errors
    /// When the database does not answer or is damaged.
    pub async fn refusals(&self, edge: EdgeId, before: Option<WallTime>) -> Result<Vec<RefusalLine>, Error> {
        let rows = sqlx::query(
            "SELECT session, payable, made, code, reason FROM refusals
             WHERE edge = $1 AND made < $2 ORDER BY made DESC, batch DESC, line DESC LIMIT $3",
        )
        .bind(edge.to_string())
        .bind(before.map_or(i64::MAX, |before| int(before.0)))
        .bind(i64::from(LINES_MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let fields = Fields(row);
                Ok(RefusalLine {
                    session: fields.text("session")?,
                    payable: fields.uint("payable")?,
                    at: WallTime(fields.uint("made")?),
                    code: fields.string("code")?,
                    reason: fields.string("reason")?,
                })
            })
            .collect()
    }
}
