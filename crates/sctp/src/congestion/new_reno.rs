//! The reference: slow start and congestion avoidance of RFC 9260 §7.2.
