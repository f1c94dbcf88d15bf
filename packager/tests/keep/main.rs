//! Recordings and the DVR window: real publishers, real stores, and what happens when one of them is gone.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
mod bucket;
#[cfg(test)]
mod dvr;
#[cfg(test)]
mod full;
#[cfg(test)]
mod recordings;
#[cfg(test)]
mod seaweed;
#[cfg(test)]
mod world;
