//! What a page reads as JSON: events, figures and requests. `player-sdk/src/wasm/port.ts` has the same shapes.

use alloc::{string::ToString as _, vec::Vec};

use millstream_model::{Micros, RenditionId};
use millstream_swarm::{Event, Source, Stats};
use millstream_wire::{frame::Reason, media::Catalog};

use crate::{
    json::{Members, Writer},
    message::{code_text, shown},
};

/// Writes an event; `catalog` knows the renditions' names.
pub(crate) fn write_event(event: &Event, catalog: Option<&Catalog>, to: &mut Vec<u8>) {
    let name = |id: RenditionId| {
        catalog.and_then(|catalog| catalog.rendition(id)).map_or("", |rendition| rendition.name.as_str())
    };
    Writer(to).object(|to| match event {
        Event::Joined { session, edges } => {
            to.text("type", "joined");
            shown(to, "session", session);
            to.number("edges", u64::try_from(*edges).unwrap_or(u64::MAX));
        }
        Event::EdgeReady { edge, after_ms } => {
            to.text("type", "edge_ready");
            shown(to, "edge", edge);
            to.number("after_ms", *after_ms);
        }
        Event::EdgeLost { edge, reason } => {
            to.text("type", "edge_lost");
            shown(to, "edge", edge);
            if let Some(reason) = reason {
                to.text("reason", reason_text(*reason));
            }
        }
        Event::Primary { rendition, edge } => {
            to.text("type", "primary");
            to.text("rendition", name(*rendition));
            shown(to, "edge", edge);
        }
        Event::Part { rendition, number, size, after_ms, hedged } => {
            to.text("type", "part");
            to.text("rendition", name(*rendition));
            to.number("number", *number);
            to.number("size", *size);
            to.number("after_ms", *after_ms);
            to.flag("hedged", *hedged);
        }
        Event::BadPiece { source, rendition, number } => {
            to.text("type", "bad_piece");
            write_source(*source, to);
            to.text("rendition", name(*rendition));
            to.number("number", *number);
        }
        Event::Refused { source, why } => {
            to.text("type", "refused");
            write_source(*source, to);
            shown(to, "why", why);
        }
        Event::Paid { edge, earned } => {
            to.text("type", "paid");
            shown(to, "edge", edge);
            to.number("earned", count(*earned));
        }
        Event::Unpaid { edge, reason } => {
            to.text("type", "unpaid");
            shown(to, "edge", edge);
            to.text("reason", reason);
        }
        Event::Fault { code, message } => {
            to.text("type", "fault");
            to.text("code", code_text(*code));
            to.text("message", message);
        }
        Event::Ended => to.text("type", "ended"),
    });
}

/// An edge; absent for the origin.
fn write_source(source: Source, to: &mut Members<'_>) {
    if let Source::Edge(edge) = source {
        shown(to, "edge", &edge);
    }
}

const fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Protocol => "protocol",
        Reason::Malformed => "malformed",
        Reason::Grant => "grant",
        Reason::Hello => "hello",
        Reason::Stream => "stream",
        Reason::Full => "full",
        Reason::Unpaid => "unpaid",
        Reason::Cap => "cap",
        Reason::Shutdown => "shutdown",
        Reason::Bad => "bad",
        Reason::Silence => "silence",
    }
}

/// Money that was earned: never below zero.
fn count(money: Micros) -> u64 {
    u64::try_from(money.0).unwrap_or(0)
}

/// Writes the figures.
pub(crate) fn write_stats(stats: &Stats, to: &mut Vec<u8>) {
    Writer(to).object(|to| {
        to.number("edge_bytes", stats.edge_bytes);
        to.number("peer_bytes", stats.peer_bytes);
        to.number("origin_bytes", stats.origin_bytes);
        to.number("pieces_verified", stats.pieces_verified);
        to.number("pieces_rejected", stats.pieces_rejected);
        to.number("vouchers_signed", stats.vouchers_signed);
        to.number("vouchers_accepted", stats.vouchers_accepted);
        to.number("parts_hedged", stats.parts_hedged);
        to.number("paid", count(stats.paid));
        to.number("estimate", stats.estimate.0);
        to.member("edges", |to| {
            to.list(stats.edges.iter(), |to, edge| {
                to.object(|to| {
                    shown(to, "edge", &edge.edge);
                    to.flag("ready", edge.ready);
                    to.flag("primary", edge.primary);
                    to.number("received", edge.received);
                    to.number("payable", edge.payable);
                    to.number("booked", edge.booked);
                    to.number("earned", count(edge.earned));
                    to.number("rtt_ms", edge.rtt_ms);
                    to.number("bad", edge.bad);
                });
            });
        });
    });
}

/// Writes a request by HTTP.
pub(crate) fn write_get(
    url: &str,
    range: Option<(u64, u64)>,
    token: Option<&str>,
    bytes_max: usize,
    to: &mut Vec<u8>,
) {
    Writer(to).object(|to| {
        to.text("url", url);
        if let Some((first, last)) = range {
            to.text("range", &["bytes=", &first.to_string(), "-", &last.to_string()].concat());
        }
        if let Some(token) = token {
            to.text("token", token);
        }
        to.number("bytes_max", u64::try_from(bytes_max).unwrap_or(u64::MAX));
    });
}
