//! The sending half: what waits, what is in flight, when it is lost, and how fast it may go.

pub(crate) mod flight;
pub(crate) mod pacer;
pub(crate) mod queue;
pub(crate) mod rtt;
