//! Streams with a ladder: real encoders push by RTMP, and every rendition has the same parts at the same times.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
mod aligned;
#[cfg(test)]
#[allow(dead_code, reason = "the segmenter's own tests use the rest")]
#[path = "../../../crates/segmenter/tests/kit/flv.rs"]
mod flv;
#[cfg(test)]
mod made;
#[cfg(test)]
#[allow(dead_code, reason = "the pushing tests use the rest")]
#[path = "../push/world.rs"]
mod world;
