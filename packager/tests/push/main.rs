//! Real encoders push by RTMP, and what comes out of the origin is checked: by the RFC's rules, by ffprobe, by a
//! receiver that believes nothing.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
mod comeback;
#[cfg(test)]
mod playback;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod tracker;
#[cfg(test)]
mod world;
