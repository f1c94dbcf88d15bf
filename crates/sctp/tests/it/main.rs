//! Associations in pairs, over paths in virtual time.
#![cfg(test)]

mod accidents;
mod flow;
mod forged;
mod goodput;
mod hostile;
mod idle;
mod ledger;
mod life;
mod memory;
mod pair;
mod partial;
mod peers;
mod resets;
mod setup;
mod trace;
mod world;
