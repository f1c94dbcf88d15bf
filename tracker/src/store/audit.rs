//! The proof that the book is whole: everything that is summed up somewhere is summed up again from its parts.

use millstream_model::Micros;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use super::{Error, Store, fields::Fields};

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// True when there is no finding.
    pub sound: bool,
    /// Accounts.
    pub accounts: u64,
    /// Transfers.
    pub transfers: u64,
    /// Lanes that are kept, those that are over included.
    pub lanes: u64,
    /// All accounts together. Zero.
    pub sum: Micros,
    /// What operators have earned, all together.
    pub earned: Micros,
    /// What is wrong, for people; at most [`FINDINGS_MAX`].
    pub findings: Vec<String>,
}

/// Findings of one kind that an audit tells at most.
pub const FINDINGS_MAX: u32 = 20;

/// What must never be found: (what it would mean, a query that names it).
const RULES: [(&str, &str); 9] = [
    (
        "a transfer's entries do not sum to zero",
        "SELECT transfer AS finding FROM entries GROUP BY transfer HAVING SUM(amount) <> 0",
    ),
    ("a transfer has no entries", "SELECT transfer AS finding FROM transfers WHERE transfer NOT IN (SELECT transfer FROM entries)"),
    (
        "a balance is not the sum of its entries",
        "SELECT a.account AS finding FROM accounts a LEFT JOIN entries e ON e.account = a.account
         GROUP BY a.account, a.balance HAVING a.balance <> COALESCE(SUM(e.amount), 0)",
    ),
    (
        "a lane is not paid floor(payable × price ÷ 2³⁰)",
        "SELECT session || ' ' || edge AS finding FROM lanes
         WHERE paid <> (payable / 1073741824) * price + (payable % 1073741824) * price / 1073741824",
    ),
    (
        "an operator's account is not the sum of its lanes",
        "SELECT a.account AS finding FROM accounts a
         LEFT JOIN (SELECT 'operator/' || operator AS account, SUM(paid) AS paid FROM lanes GROUP BY operator) l
             ON l.account = a.account
         LEFT JOIN pruned p ON 'operator/' || p.operator = a.account
         WHERE a.account LIKE 'operator/%' AND a.balance <> COALESCE(l.paid, 0) + COALESCE(p.paid, 0)",
    ),
    (
        "an epoch is not the sum of its vouchers",
        "SELECT e.operator || ' ' || e.epoch AS finding FROM epochs e
         LEFT JOIN (SELECT operator, epoch, SUM(micros) AS micros FROM vouchers GROUP BY operator, epoch) v
             ON v.operator = e.operator AND v.epoch = e.epoch
         WHERE e.micros <> COALESCE(v.micros, 0) AND e.epoch >= COALESCE(
             (SELECT CAST(value AS BIGINT) FROM settings WHERE name = 'book.details_from'), 0)",
    ),
    (
        "a lane is not the sum of its vouchers",
        "SELECT l.session || ' ' || l.edge AS finding FROM lanes l
         LEFT JOIN (SELECT session, edge, SUM(micros) AS micros FROM vouchers GROUP BY session, edge) v
             ON v.session = l.session AND v.edge = l.edge
         WHERE l.paid <> COALESCE(v.micros, 0)",
    ),
    (
        "a session is not the sum of its lanes",
        "SELECT s.session AS finding FROM sessions s
         LEFT JOIN (SELECT session, SUM(payable) AS payable FROM lanes GROUP BY session) l
             ON l.session = s.session
         WHERE s.payable <> COALESCE(l.payable, 0)",
    ),
    (
        "a reserve is not the sum of its lanes",
        "SELECT a.account AS finding FROM accounts a
         LEFT JOIN (SELECT 'reserve/' || s.stream AS account, SUM(l.reserved) AS reserved
                    FROM lanes l JOIN sessions s ON s.session = l.session GROUP BY s.stream) r
             ON r.account = a.account
         WHERE a.account LIKE 'reserve/%' AND a.balance <> COALESCE(r.reserved, 0)",
    ),
];

impl Store {
    /// Goes through the whole book, as of one moment. Takes time with the size of the book; nobody waits for it.
    ///
    /// # Errors
    /// When the database does not answer. What is wrong with the book is in [`Audit::findings`].
    pub async fn audit(&self) -> Result<Audit, Error> {
        let mut moment = self.readers.begin().await?;
        let mut findings = Vec::new();
        for (rule, query) in RULES {
            findings.extend(broken(&mut moment, rule, query).await?);
        }
        let sums = "SELECT COUNT(*) AS accounts, CAST(COALESCE(SUM(balance), 0) AS BIGINT) AS sum,
                 CAST(COALESCE(SUM(CASE WHEN account LIKE 'operator/%' THEN balance ELSE 0 END), 0) AS BIGINT)
                     AS earned
             FROM accounts";
        let sums = sqlx::query(sums).fetch_one(&mut *moment).await?;
        let counts =
            "SELECT (SELECT COUNT(*) FROM transfers) AS transfers, (SELECT COUNT(*) FROM lanes) AS lanes";
        let counts = sqlx::query(counts).fetch_one(&mut *moment).await?;
        let sum = Micros(Fields(&sums).int("sum")?);
        if sum != Micros::ZERO {
            findings.push(format!("the accounts sum to {sum}, not to zero"));
        }
        Ok(Audit {
            sound: findings.is_empty(),
            accounts: Fields(&sums).uint("accounts")?,
            transfers: Fields(&counts).uint("transfers")?,
            lanes: Fields(&counts).uint("lanes")?,
            sum,
            earned: Micros(Fields(&sums).int("earned")?),
            findings,
        })
    }
}

async fn broken(
    moment: &mut SqliteConnection,
    rule: &str,
    query: &'static str,
) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for row in sqlx::query(query).fetch_all(moment).await?.iter().take(FINDINGS_MAX as usize) {
        findings.push(format!("{rule}: {}", Fields(row).string("finding")?));
    }
    Ok(findings)
}
