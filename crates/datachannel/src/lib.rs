//! The one place that knows WebRTC: data channels over one UDP port.
