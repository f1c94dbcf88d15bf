//! What the page shall do: a kind's byte, then its fields. Numbers are little-endian.
//!
//! | kind | what | fields |
//! | --- | --- | --- |
//! | 0 | say to the tracker | the message, JSON |
//! | 1 | connect to an edge, where the tracker said that it is | edge `[32]` |
//! | 2 | disconnect | edge `[32]` |
//! | 3 | send on the control channel | edge `[32]`, a frame |
//! | 4 | get by HTTP | id `u32`, `{url, range?, token?, bytes_max}` (`range` as in the header), JSON |
//! | 5 | give up a get | id `u32` |
//! | 6 | sign | id `u32`, the message |
//! | 7 | answer the player with a playlist | id `u32`, text |
//! | 8 | answer the player with media | id `u32`, bytes |
//! | 9 | refuse it | id `u32`, status `u16` |
//! | 10 | tell | an event, JSON ([`told`]) |

use alloc::vec::Vec;

use millstream_swarm::{Content, Output};
use millstream_wire::media::Catalog;

use crate::{message, told};

/// Writes `output`; `catalog` knows the renditions' names.
pub(crate) fn write(output: &Output, catalog: Option<&Catalog>, to: &mut Vec<u8>) {
    match output {
        Output::Tracker(message) => {
            to.push(0);
            message::write(message, to);
        }
        Output::Connect { edge, .. } => {
            to.push(1);
            to.extend_from_slice(edge.as_bytes());
        }
        Output::Disconnect { edge } => {
            to.push(2);
            to.extend_from_slice(edge.as_bytes());
        }
        Output::Send { edge, message } => {
            to.push(3);
            to.extend_from_slice(edge.as_bytes());
            to.extend_from_slice(message);
        }
        Output::Fetch { fetch, url, range, token, bytes_max } => {
            numbered(4, fetch.0, to);
            told::write_get(url, *range, token.as_deref(), *bytes_max, to);
        }
        Output::Abort { fetch } => numbered(5, fetch.0, to),
        Output::Sign { sign, message } => {
            numbered(6, sign.0, to);
            to.extend_from_slice(message);
        }
        Output::Deliver { want, content: Content::Playlist(text) } => {
            numbered(7, want.0, to);
            to.extend_from_slice(text.as_bytes());
        }
        Output::Deliver { want, content: Content::Media(bytes) } => {
            numbered(8, want.0, to);
            to.extend_from_slice(bytes);
        }
        Output::Refuse { want, status } => {
            numbered(9, want.0, to);
            to.extend_from_slice(&status.to_le_bytes());
        }
        Output::Event(event) => {
            to.push(10);
            told::write_event(event, catalog, to);
        }
    }
}

fn numbered(kind: u8, id: u32, to: &mut Vec<u8>) {
    to.push(kind);
    to.extend_from_slice(&id.to_le_bytes());
}
