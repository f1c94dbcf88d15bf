//! The server side of RTMP from outside: stories of one connection, and hostile ones.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
mod client;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod session;
