//! The accept loop over real sockets: what it serves, what it bounds, how it ends.
#![cfg(test)]

mod bounds;
mod client;
mod drain;
mod serving;
mod tls;
