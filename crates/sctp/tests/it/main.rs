//! Associations in pairs, over paths in virtual time.
#![cfg(test)]

mod accidents;
mod flow;
mod forged;
mod goodput;
mod ledger;
mod life;
mod pair;
mod partial;
mod peers;
mod setup;
mod trace;
mod world;
