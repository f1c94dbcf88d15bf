//! What a swarm begins with, as the page says it: JSON.
//!
//! `{stream, key, ticket?, root?, origin?, wall, latency_ms, data_channels, seed, now}`: keys are base64url, `wall` is
//! milliseconds since 1970, `now` microseconds, `seed` a text of decimal digits (it has 64 bits, a JavaScript
//! number 53).

use millstream_model::{Instant, WallTime};
use millstream_swarm::{Config, Swarm};

use crate::json::Value;

/// The swarm that these bytes describe.
pub(crate) fn open(input: &[u8]) -> Option<Swarm> {
    let value = Value::read(input)?;
    let own = |value: &Value| value.text().map(Into::into);
    let config = Config {
        stream: value.get("stream")?.parsed()?,
        key: value.get("key")?.parsed()?,
        ticket: value.maybe("ticket", own)?,
        root: value.maybe("root", Value::parsed)?,
        origin: value.maybe("origin", own)?,
        wall: WallTime(value.get("wall")?.number()?),
        latency_ms: value.get("latency_ms")?.number()?,
        data_channels: value.get("data_channels")?.flag()?,
        seed: value.get("seed")?.parsed()?,
    };
    Some(Swarm::new(config, Instant(value.get("now")?.number()?)))
}
