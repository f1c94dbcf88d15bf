//! SCTP for data channels as a machine without socket, clock or chance.
#![forbid(unsafe_code)]

pub mod congestion;
