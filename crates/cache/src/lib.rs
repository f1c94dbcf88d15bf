//! The edge's memory: admission, eviction, single flight.
