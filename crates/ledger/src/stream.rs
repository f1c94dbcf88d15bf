//! A stream's money: its price, its budget, and what of it was published.

use millstream_model::{BitRate, Micros, Price, StreamId, WallTime};
use millstream_wire::tracker::Published;
use thiserror::Error;

use crate::{
    account::{Account, Name},
    book,
    ledger::Ledger,
    limits::{
        DAY_MS, LIVE_SLACK_PERCENT, PUBLISHED_STORE_MS, RECORDED_AHEAD_MS, RECORDED_SLACK_PERCENT,
        STREAMS_MAX, WINDOW_MS_MAX,
    },
    published,
    session::Session,
};

/// Why a stream's terms are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// No such stream.
    #[error("there is no stream {0}")]
    Unknown(StreamId),
    /// A stream's money stays with the one who made it.
    #[error("the stream {stream} belongs to {owner}")]
    Taken {
        /// The stream.
        stream: StreamId,
        /// Who has it.
        owner: Name,
    },
    /// The window's bound keeps the history small.
    #[error("a live window has at most {WINDOW_MS_MAX} ms, not {0}")]
    Window(u64),
    /// Nobody spends less than nothing.
    #[error("a budget is not below zero")]
    Budget,
    /// It has sessions that are not over: stop it first, and wait.
    #[error("the stream {0} still has sessions that are not settled")]
    InUse(StreamId),
    /// Nothing can be booked at the moment.
    #[error("the book cannot be written at the moment")]
    Unavailable,
    /// [`STREAMS_MAX`] is reached.
    #[error("the book is full: it holds {STREAMS_MAX} streams")]
    Full,
}

/// How it is bounded what somebody can honestly have watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By what was published while he watched, and in the window before.
    Live {
        /// How far back of live a viewer can begin.
        window_ms: u64,
    },
    /// By the time he watched.
    Recorded {
        /// The highest rate, all groups together.
        rate: BitRate,
    },
}

/// What a broadcaster sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Per GiB delivered. A change counts for new lanes only.
    pub price: Price,
    /// What the stream may spend and promise in a day (UTC).
    pub budget_day: Micros,
    /// The hard stop: no grant is given or renewed. What is granted already is honoured; it is over in two minutes.
    pub stopped: bool,
    /// Live or recorded.
    pub kind: Kind,
}

/// A stream as the book knows it, and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The stream.
    pub stream: StreamId,
    /// Whose funds pay.
    pub owner: Name,
    /// What the owner set.
    pub terms: Terms,
    /// The day that `spent` is of, counted from 1970-01-01.
    pub day: u64,
    /// What was paid on that day.
    pub spent: Micros,
    /// What was published.
    pub published: published::Stored,
    /// It is gone: nothing is granted or booked on it any more.
    pub removed: bool,
}

/// A stream's terms and the state of its budget.
#[derive(Debug, Clone)]
pub struct Stream {
    pub(crate) owner: Name,
    pub(crate) terms: Terms,
    day: u64,
    spent: Micros,
    pub(crate) history: published::History,
    /// When its packager was last heard of.
    pub(crate) reported: WallTime,
    /// Sessions that are not over.
    pub(crate) sessions: usize,
    stored_at: WallTime,
}

impl Stream {
    pub(crate) fn restored(row: Row) -> Self {
        Self {
            owner: row.owner,
            terms: row.terms,
            day: row.day,
            spent: row.spent,
            history: published::History::restored(row.published),
            reported: WallTime(0),
            sessions: 0,
            stored_at: WallTime(0),
        }
    }

    pub(crate) fn row(&self, stream: &StreamId) -> Row {
        Row {
            stream: stream.clone(),
            owner: self.owner.clone(),
            terms: self.terms,
            day: self.day,
            spent: self.spent,
            published: self.history.stored().clone(),
            removed: false,
        }
    }

    /// Whose funds pay.
    #[must_use]
    pub const fn owner(&self) -> &Name {
        &self.owner
    }

    /// What the owner set.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// What was paid on the day of `now`.
    #[must_use]
    pub fn spent_today(&self, now: WallTime) -> Micros {
        if now.0 / DAY_MS > self.day { Micros::ZERO } else { self.spent }
    }

    /// Bytes published since the stream began.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.history.total()
    }

    /// Counts what was paid. A wall clock that was set back stays in the later day.
    pub(crate) fn spend(&mut self, amount: Micros, now: WallTime) {
        let day = now.0 / DAY_MS;
        if day > self.day {
            self.day = day;
            self.spent = Micros::ZERO;
        }
        self.spent = Micros(self.spent.0.saturating_add(amount.0));
    }

    /// What a session that joins now counts its honest bound from.
    pub(crate) fn base(&self, joined: WallTime) -> u64 {
        match self.terms.kind {
            Kind::Live { window_ms } => self.history.base(joined, window_ms),
            Kind::Recorded { .. } => 0,
        }
    }

    /// The most bytes that a session can honestly have watched.
    pub(crate) fn honest_bytes(&self, base: u64, joined: WallTime, now: WallTime) -> u64 {
        match self.terms.kind {
            Kind::Live { .. } => with_slack(self.history.total().saturating_sub(base), LIVE_SLACK_PERCENT),
            Kind::Recorded { rate } => {
                let watched_ms = now.millis_since(joined).saturating_add(RECORDED_AHEAD_MS);
                with_slack(rate.bytes_in_ms(watched_ms), RECORDED_SLACK_PERCENT)
            }
        }
    }
}

fn with_slack(bytes: u64, percent: u64) -> u64 {
    let wide = u128::from(bytes) * u128::from(100 + percent) / 100;
    u64::try_from(wide).unwrap_or(u64::MAX)
}

impl Ledger {
    /// The most that a session that is not closed can honestly have watched.
    pub(crate) fn honest_bytes(&self, session: &Session, now: WallTime) -> u64 {
        let stream = self.streams.get(&session.stream);
        stream.map_or(0, |stream| stream.honest_bytes(session.base, session.joined, now))
    }

    /// Makes a stream's terms, or changes them.
    ///
    /// # Errors
    /// When they make no sense or the stream is somebody else's.
    pub fn set_stream(&mut self, stream: &StreamId, owner: &Name, terms: Terms) -> Result<(), Refused> {
        if let Kind::Live { window_ms } = terms.kind
            && window_ms > WINDOW_MS_MAX
        {
            return Err(Refused::Window(window_ms));
        }
        if terms.budget_day < Micros::ZERO {
            return Err(Refused::Budget);
        }
        let full = self.streams.len() >= STREAMS_MAX;
        match self.streams.get_mut(stream) {
            Some(known) if known.owner != *owner => {
                return Err(Refused::Taken { stream: stream.clone(), owner: known.owner.clone() });
            }
            Some(known) => known.terms = terms,
            None if full => return Err(Refused::Full),
            None => {
                let row = Row {
                    stream: stream.clone(),
                    owner: owner.clone(),
                    terms,
                    day: 0,
                    spent: Micros::ZERO,
                    published: published::Stored::default(),
                    removed: false,
                };
                self.streams.insert(stream.clone(), Stream::restored(row));
            }
        }
        self.pending.streams.insert(stream.clone());
        Ok(())
    }

    /// Forgets a stream that has no sessions left. Its transfers, lanes and vouchers stay in the store.
    ///
    /// # Errors
    /// [`Refused::Unknown`] and [`Refused::InUse`].
    pub fn remove_stream(&mut self, stream: &StreamId) -> Result<(), Refused> {
        let known = self.streams.get(stream).ok_or_else(|| Refused::Unknown(stream.clone()))?;
        if known.sessions > 0 {
            return Err(Refused::InUse(stream.clone()));
        }
        self.pending.removed.push(Row { removed: true, ..known.row(stream) });
        self.pending.streams.remove(stream);
        self.streams.remove(stream);
        self.book.forget(&Account::Reserve(stream.clone()));
        Ok(())
    }

    /// Takes a packager's report of what it published.
    ///
    /// # Errors
    /// [`Refused::Unknown`].
    pub fn published(
        &mut self,
        stream: &StreamId,
        published: Published,
        now: WallTime,
    ) -> Result<(), Refused> {
        let known = self.streams.get_mut(stream).ok_or_else(|| Refused::Unknown(stream.clone()))?;
        let at_once = known.history.report(published, now);
        known.reported = now;
        if at_once || now.millis_since(known.stored_at) >= PUBLISHED_STORE_MS {
            known.stored_at = now;
            self.pending.streams.insert(stream.clone());
        }
        Ok(())
    }

    /// What can still be promised to lanes of `stream`: the owner's free funds, within what is left of the day's
    /// budget.
    pub(crate) fn available(&self, stream: &StreamId, now: WallTime) -> Option<Available> {
        let known = self.streams.get(stream)?;
        let funds = self.book.balance(&Account::Broadcaster(known.owner.clone()));
        let reserved = self.book.balance(&Account::Reserve(stream.clone()));
        let used = known.spent_today(now).0.saturating_add(reserved.0);
        let budget = Micros(known.terms.budget_day.0.saturating_sub(used).max(0));
        Some(Available { funds, budget })
    }

    /// Moves from reserve to operator what a voucher earned.
    pub(crate) fn pay(
        &mut self,
        stream: &StreamId,
        operator: &Name,
        amount: Micros,
        now: WallTime,
    ) -> Result<(), book::Refused> {
        let reserve = Account::Reserve(stream.clone());
        let earnings = Account::Operator(operator.clone());
        self.book.shift(book::Purpose::Pay, &reserve, &earnings, amount)?;
        if let Some(known) = self.streams.get_mut(stream) {
            known.spend(amount, now);
            self.pending.streams.insert(stream.clone());
        }
        Ok(())
    }
}

/// What bounds a new promise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Available {
    pub(crate) funds: Micros,
    pub(crate) budget: Micros,
}

impl Available {
    pub(crate) fn least(self) -> Micros {
        self.funds.min(self.budget)
    }
}
