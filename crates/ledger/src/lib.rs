//! The money's mind: grants, vouchers, accounts, epochs. Integer double entry, nothing else.
//!
//! For the tracker, which wraps it in a store and sockets; and for tests, which run years of it in a second. What
//! never belongs here: a clock, a database, a socket, a secret key. `docs/protocol/money.md` is the normative text.
//!
//! ```text
//! fund, set_stream, open, grant, bring, published, close, tick       change memory; what they answer is Promised
//! take_batch                                                         everything changed since the last, as rows
//! (the store writes the rows, all or none, and syncs)
//! committed(batch)                                                   now the promises up to it may be released
//! ```
//!
//! The rule of the house: nobody is told of anything that a crash could still undo. So an answer that binds (a
//! grant, a receipt) comes wrapped in [`Promised`], which opens only for somebody who can name a committed batch.
//! A ledger whose batch could not be written is thrown away and [restored](Ledger::restore) from the rows.
//!
//! - [`account`], [`book`]: who owns what, and moves that sum to zero
//! - [`stream`], [`published`]: price, budget, and what could honestly be watched
//! - [`session`], [`grant`], [`voucher`]: lanes, their reserve, their pay
//! - [`epoch`]: hours of earnings; [`batch`], [`rows`]: what is stored
#![forbid(unsafe_code)]

pub mod account;
pub mod batch;
pub mod book;
pub mod epoch;
pub mod grant;
mod ledger;
pub mod limits;
pub mod published;
pub mod rows;
pub mod session;
mod settle;
pub mod stream;
mod unsettled;
pub mod voucher;

pub use account::{Account, Name};
pub use batch::{Batch, BatchId, Promised};
pub use epoch::Epoch;
pub use ledger::Ledger;
pub use rows::Rows;
pub use stream::{Kind, Terms};
