//! What happened, as the page says it: `now u64`, a kind's byte, then its fields. Numbers are little-endian.
//!
//! | kind | what | fields |
//! | --- | --- | --- |
//! | 0, 1 | the tracker's WebSocket is open, closed | |
//! | 2 | the tracker says | its message, JSON |
//! | 3 | an edge's data channels are open | edge `[32]`, own fingerprint `[32]` |
//! | 4 | they are closed | edge `[32]` |
//! | 5 | an edge says | edge `[32]`, a frame |
//! | 6 | an HTTP response came | id `u32`, its body |
//! | 7 | an HTTP request failed | id `u32`, status `u16` (0: none) |
//! | 8 | a signature is made | id `u32`, `[64]` |
//! | 9 | the player wants | id `u32`, a URL's path and query, text |
//! | 10 | it does not want any more | id `u32` |
//! | 11 | where the player is | program date time `u64`, buffer in ms `u32`, stalls `u32`, ms stalled `u32` |
//! | 12 | the viewer goes | |

use bytes::Bytes;
use millstream_model::{EdgeId, Fingerprint, Instant, PublicKey, WallTime};
use millstream_swarm::{FetchId, Input, Resource, SignId, WantId};

use crate::message;

/// When and what; `None` when the bytes are neither.
pub(crate) fn read(bytes: Bytes) -> Option<(Instant, Input)> {
    let mut fields = Fields(bytes);
    let now = Instant(fields.u64()?);
    let [kind] = fields.take()?;
    let input = match kind {
        0 => Input::TrackerOpen,
        1 => Input::TrackerClosed,
        2 => Input::Tracker(message::read(&fields.rest())?),
        3 => Input::EdgeOpen { edge: fields.edge()?, fingerprint: Fingerprint(fields.take()?) },
        4 => Input::EdgeClosed { edge: fields.edge()? },
        5 => Input::EdgeMessage { edge: fields.edge()?, message: fields.rest() },
        6 => Input::Fetched { fetch: FetchId(fields.u32()?), body: fields.rest() },
        7 => {
            let (fetch, status) = (FetchId(fields.u32()?), u16::from_le_bytes(fields.take()?));
            Input::FetchFailed { fetch, status: (status != 0).then_some(status) }
        }
        8 => Input::Signed { sign: SignId(fields.u32()?), signature: fields.take()? },
        9 => {
            let want = WantId(fields.u32()?);
            Input::Want { want, resource: Resource::of_url(core::str::from_utf8(&fields.rest()).ok()?)? }
        }
        10 => Input::Unwant { want: WantId(fields.u32()?) },
        11 => Input::Playhead {
            at: WallTime(fields.u64()?),
            buffer_ms: fields.u32()?,
            stalls: fields.u32()?,
            stalled_ms: fields.u32()?,
        },
        12 => Input::Leave,
        _ => return None,
    };
    fields.0.is_empty().then_some((now, input))
}

/// What is left to read.
struct Fields(Bytes);

impl Fields {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = *self.0.first_chunk::<N>()?;
        let _ = self.0.split_to(N);
        Some(field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn edge(&mut self) -> Option<EdgeId> {
        self.take().map(PublicKey)
    }

    fn rest(&mut self) -> Bytes {
        core::mem::take(&mut self.0)
    }
}
