//! Associations in pairs, over paths in virtual time.

mod goodput;
mod life;
mod world;
