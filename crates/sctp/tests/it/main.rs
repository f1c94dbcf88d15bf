//! Associations in pairs, over paths in virtual time.
#![cfg(test)]

mod accidents;
mod flow;
mod goodput;
mod ledger;
mod life;
mod pair;
mod partial;
mod trace;
mod world;
