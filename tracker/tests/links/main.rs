//! The tracker over real sockets: what viewers, edges, packagers and operators say to it, and what it answers.
#![cfg(test)]

mod api;
mod edges;
mod limits;
mod packagers;
mod viewers;
mod world;
