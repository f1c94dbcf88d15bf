//! The double-entry book: balances, and moves between two accounts that can only sum to zero.
//!
//! All moves of one kind within one batch become one transfer with one entry per account: a thousand vouchers cost
//! the disk what one does. Which lane earned what stands in the lanes' own rows.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    str::FromStr,
};

use millstream_model::{Micros, WallTime};
use thiserror::Error;

use crate::{
    account::Account,
    batch::BatchId,
    limits::{ACCOUNTS_MAX, FUNDING_ID_BYTES_MAX, FUNDINGS_REMEMBERED_MAX},
};

/// Why a move is refused. Nothing has moved then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nobody pays what he does not have.
    #[error("{account} holds {have}, which is less than {need}")]
    Short {
        /// Whose money it would be.
        account: Account,
        /// What is there.
        have: Micros,
        /// What is wanted.
        need: Micros,
    },
    /// Amounts go one way.
    #[error("an amount is above zero, not {0}")]
    Amount(Micros),
    /// A balance or a transfer would leave the range of 64 bits.
    #[error("the balance of {0} would leave the range of a balance")]
    Range(Account),
    /// [`ACCOUNTS_MAX`] is reached.
    #[error("the book is full: it holds {ACCOUNTS_MAX} accounts")]
    Full,
    /// Nothing can be booked at the moment.
    #[error("the book cannot be written at the moment")]
    Unavailable,
    /// This funding's id was used for another amount or account.
    #[error("the id {0} was used for another transfer")]
    IdTaken(FundingId),
}

/// Why a text is no funding id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a transfer id has 1 to {FUNDING_ID_BYTES_MAX} letters, digits, '.', ':', '-' or '_'")]
pub struct IdError;

/// The caller's own id of a funding: bringing the same again moves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FundingId(String);

impl FundingId {
    /// Checks the rules of ids.
    ///
    /// # Errors
    /// When `text` breaks one.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b".:-_".contains(&b);
        if text.is_empty() || text.len() > FUNDING_ID_BYTES_MAX || !text.bytes().all(sound) {
            return Err(IdError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FundingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FundingId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// What a transfer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Money comes in: external to broadcaster.
    Fund,
    /// A grant is given: broadcaster to reserve.
    Reserve,
    /// A voucher is booked: reserve to operator.
    Pay,
    /// A lane is over: what is left of its reserve goes back to the broadcaster.
    Release,
}

impl Purpose {
    /// Its name in ids and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fund => "fund",
            Self::Reserve => "reserve",
            Self::Pay => "pay",
            Self::Release => "release",
        }
    }
}

/// A set of entries that sums to zero, with an id that is never used twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// `fund/{the caller's id}`, or `{purpose}/{batch}`.
    pub id: String,
    /// What for.
    pub purpose: Purpose,
    /// When.
    pub at: WallTime,
    /// One per account, none of them zero.
    pub entries: Vec<(Account, Micros)>,
}

/// Balances, and what has moved since the last batch.
#[derive(Debug, Clone, Default)]
pub struct Book {
    balances: BTreeMap<Account, Micros>,
    changed: BTreeSet<Account>,
    moved: BTreeMap<(Purpose, Account), Micros>,
    funded: Vec<Transfer>,
    fundings: BTreeMap<FundingId, (Account, Micros)>,
    fundings_by_age: VecDeque<FundingId>,
}

impl Book {
    /// A book that holds these balances.
    pub(crate) fn with_balances(balances: BTreeMap<Account, Micros>) -> Self {
        Self { balances, ..Self::default() }
    }

    /// What `account` holds; zero when it was never used.
    #[must_use]
    pub fn balance(&self, account: &Account) -> Micros {
        self.balances.get(account).copied().unwrap_or_default()
    }

    /// All accounts that were ever used, with their balances.
    pub fn balances(&self) -> impl Iterator<Item = (&Account, Micros)> {
        self.balances.iter().map(|(account, balance)| (account, *balance))
    }

    /// Moves `amount` (zero moves nothing) from one account to another.
    pub(crate) fn shift(
        &mut self,
        purpose: Purpose,
        from: &Account,
        to: &Account,
        amount: Micros,
    ) -> Result<(), Refused> {
        if amount == Micros::ZERO {
            return Ok(());
        }
        let (from_balance, to_balance) = self.weigh(from, to, amount)?;
        let out = self.net(purpose, from).checked_sub(amount).ok_or_else(|| Refused::Range(from.clone()))?;
        let into = self.net(purpose, to).checked_add(amount).ok_or_else(|| Refused::Range(to.clone()))?;
        self.moved.insert((purpose, from.clone()), out);
        self.moved.insert((purpose, to.clone()), into);
        self.set(from, from_balance);
        self.set(to, to_balance);
        Ok(())
    }

    /// Brings money in, once per id. `false` when it was brought before.
    pub(crate) fn fund(
        &mut self,
        to: &Account,
        amount: Micros,
        id: FundingId,
        now: WallTime,
    ) -> Result<bool, Refused> {
        if let Some((account, funded)) = self.fundings.get(&id) {
            let same = account == to && *funded == amount;
            return if same { Ok(false) } else { Err(Refused::IdTaken(id)) };
        }
        if amount <= Micros::ZERO {
            return Err(Refused::Amount(amount));
        }
        let (external, balance) = self.weigh(&Account::External, to, amount)?;
        self.set(&Account::External, external);
        self.set(to, balance);
        self.funded.push(Transfer {
            id: format!("{}/{id}", Purpose::Fund.as_str()),
            purpose: Purpose::Fund,
            at: now,
            entries: vec![(Account::External, Micros(-amount.0)), (to.clone(), amount)],
        });
        self.remember(id, to.clone(), amount);
        Ok(true)
    }

    /// Takes note of a funding of the past.
    pub(crate) fn remember(&mut self, id: FundingId, account: Account, amount: Micros) {
        self.fundings_by_age.push_back(id.clone());
        self.fundings.insert(id, (account, amount));
        while self.fundings_by_age.len() > FUNDINGS_REMEMBERED_MAX {
            if let Some(oldest) = self.fundings_by_age.pop_front() {
                self.fundings.remove(&oldest);
            }
        }
    }

    /// Drops an empty account from memory; in the store it stays, with its zero.
    pub(crate) fn forget(&mut self, account: &Account) {
        if self.balance(account) == Micros::ZERO {
            self.balances.remove(account);
        }
    }

    /// True when something moved since the last batch.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What moved since the last batch, as transfers and the balances that they lead to.
    pub(crate) fn take(&mut self, batch: BatchId, now: WallTime) -> (Vec<Transfer>, Vec<(Account, Micros)>) {
        let mut transfers = std::mem::take(&mut self.funded);
        let mut by_purpose = BTreeMap::<Purpose, Vec<(Account, Micros)>>::new();
        for ((purpose, account), amount) in std::mem::take(&mut self.moved) {
            if amount != Micros::ZERO {
                by_purpose.entry(purpose).or_default().push((account, amount));
            }
        }
        transfers.extend(by_purpose.into_iter().map(|(purpose, entries)| Transfer {
            id: format!("{}/{batch}", purpose.as_str()),
            purpose,
            at: now,
            entries,
        }));
        let balances = std::mem::take(&mut self.changed)
            .into_iter()
            .map(|account| {
                let balance = self.balance(&account);
                (account, balance)
            })
            .collect();
        (transfers, balances)
    }

    /// The two balances after a move, if it may be made.
    fn weigh(&self, from: &Account, to: &Account, amount: Micros) -> Result<(Micros, Micros), Refused> {
        if amount <= Micros::ZERO {
            return Err(Refused::Amount(amount));
        }
        let fresh = [from, to].iter().filter(|account| !self.balances.contains_key(account)).count();
        if self.balances.len() + fresh > ACCOUNTS_MAX {
            return Err(Refused::Full);
        }
        let have = self.balance(from);
        let left = have.checked_sub(amount).ok_or_else(|| Refused::Range(from.clone()))?;
        if left < Micros::ZERO && *from != Account::External {
            return Err(Refused::Short { account: from.clone(), have, need: amount });
        }
        let grown = self.balance(to).checked_add(amount).ok_or_else(|| Refused::Range(to.clone()))?;
        Ok((left, grown))
    }

    fn net(&self, purpose: Purpose, account: &Account) -> Micros {
        self.moved.get(&(purpose, account.clone())).copied().unwrap_or_default()
    }

    fn set(&mut self, account: &Account, balance: Micros) {
        self.balances.insert(account.clone(), balance);
        self.changed.insert(account.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Name;

    fn acme() -> Account {
        Account::Broadcaster(Name::new("acme").unwrap())
    }

    fn id(text: &str) -> FundingId {
        FundingId::new(text).unwrap()
    }

    #[test]
    fn money_comes_in_once_per_id() {
        let mut book = Book::default();
        assert_eq!(book.fund(&acme(), Micros(5), id("a"), WallTime(0)), Ok(true));
        assert_eq!(book.fund(&acme(), Micros(5), id("a"), WallTime(1)), Ok(false));
        assert_eq!(book.fund(&acme(), Micros(6), id("a"), WallTime(1)), Err(Refused::IdTaken(id("a"))));
        assert_eq!(book.balance(&acme()), Micros(5));
        assert_eq!(book.balance(&Account::External), Micros(-5));
    }

    #[test]
    fn a_refused_move_leaves_no_trace() {
        let mut book = Book::default();
        let bob = Account::Operator(Name::new("bob").unwrap());
        book.fund(&acme(), Micros(5), id("a"), WallTime(0)).unwrap();
        book.take(BatchId(1), WallTime(0));
        let refused = book.shift(Purpose::Pay, &acme(), &bob, Micros(6)).unwrap_err();
        assert_eq!(refused.to_string(), "broadcaster/acme holds 0.000005, which is less than 0.000006");
        assert!(book.shift(Purpose::Pay, &acme(), &bob, Micros(-1)).is_err());
        assert!(!book.has_changed());
        assert_eq!(book.balances().count(), 2);
    }

    #[test]
    fn a_balance_never_wraps() {
        let mut book = Book::default();
        book.fund(&acme(), Micros(i64::MAX), id("a"), WallTime(0)).unwrap();
        assert!(matches!(book.fund(&acme(), Micros(1), id("b"), WallTime(0)), Err(Refused::Range(_))));
        let other = Account::Broadcaster(Name::new("other").unwrap());
        assert_eq!(
            book.fund(&other, Micros(1), id("c"), WallTime(0)),
            Ok(true),
            "external may reach i64::MIN"
        );
        assert!(matches!(book.fund(&other, Micros(1), id("d"), WallTime(0)), Err(Refused::Range(_))));
    }

    #[test]
    fn the_moves_of_a_batch_are_one_transfer_per_purpose() {
        let mut book = Book::default();
        let reserve = Account::Reserve("demo".parse().unwrap());
        book.fund(&acme(), Micros(100), id("a"), WallTime(0)).unwrap();
        for _ in 0..3 {
            book.shift(Purpose::Reserve, &acme(), &reserve, Micros(10)).unwrap();
        }
        book.shift(Purpose::Release, &reserve, &acme(), Micros(7)).unwrap();
        let (transfers, balances) = book.take(BatchId(4), WallTime(9));
        let ids: Vec<_> = transfers.iter().map(|transfer| transfer.id.as_str()).collect();
        assert_eq!(ids, ["fund/a", "reserve/4", "release/4"]);
        assert_eq!(transfers[1].entries, [(acme(), Micros(-30)), (reserve.clone(), Micros(30))]);
        assert_eq!(
            balances,
            [(Account::External, Micros(-100)), (acme(), Micros(77)), (reserve, Micros(23))]
        );
        assert_eq!(book.take(BatchId(5), WallTime(9)), (vec![], vec![]));
    }
}
