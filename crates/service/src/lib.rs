//! What every program has: configuration, telemetry, shutdown, ops listener.
