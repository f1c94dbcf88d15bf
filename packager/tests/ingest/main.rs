//! RTMP ingest from outside: real encoders, refusals, limits and hostile peers.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
#[path = "../../../crates/rtmp/tests/it/client.rs"]
mod client;
#[cfg(test)]
mod encoders;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod world;
