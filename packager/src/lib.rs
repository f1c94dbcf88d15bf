//! RTMP in, signed low-latency HLS out.
