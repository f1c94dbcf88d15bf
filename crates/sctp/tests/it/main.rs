//! Associations in pairs, over paths in virtual time.
#![cfg(test)]

mod goodput;
mod ledger;
mod life;
mod pair;
mod trace;
mod world;
