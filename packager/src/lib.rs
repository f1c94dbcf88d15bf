//! RTMP in, signed low-latency HLS out.

pub mod ingest;
