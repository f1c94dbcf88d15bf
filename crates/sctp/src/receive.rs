//! The receiving half: which TSNs have come, what they make when they are put together, when to say so.

pub(crate) mod arrived;
pub(crate) mod assembly;
