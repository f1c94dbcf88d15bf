//! Real encoders push by RTMP, and what comes out of the origin is checked: by the RFC's rules, by ffprobe, by a
//! receiver that believes nothing.

// `cfg(test)` tells clippy that these are tests, beyond the functions marked so.
#[cfg(test)]
mod camera;
#[cfg(test)]
mod codecs;
#[cfg(test)]
mod comeback;
#[cfg(test)]
#[path = "../../src/ingest/whip/cryptography.rs"]
mod cryptography;
#[cfg(test)]
mod events;
#[cfg(test)]
mod obs;
#[cfg(test)]
mod playback;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod publisher;
#[cfg(test)]
#[path = "../events/receiver.rs"]
#[expect(dead_code, reason = "receivers in these stories are well")]
mod receiver;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rtmps;
#[cfg(test)]
mod rtsp;
#[cfg(test)]
mod srt;
#[cfg(test)]
mod step;
#[cfg(test)]
mod tracker;
#[cfg(test)]
mod whip;
#[cfg(test)]
mod world;
