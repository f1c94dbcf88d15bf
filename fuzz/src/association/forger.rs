//! Who has the keys and means no good: packets that no association of ours would send, near enough to what is awaited
//! to be looked at.

use millstream_sctp::wire::{Data, InitFields, Outcome, Sequence, Writer, cause};

use super::World;
use crate::script::Script;

/// Chunks of one packet.
const CHUNKS_MAX: u8 = 8;

/// A number near the one that is awaited; most often that one.
fn near(script: &mut Script<'_>, awaited: u32) -> u32 {
    let byte = script.byte();
    let by = u32::from(byte & 31);
    match byte >> 5 {
        0..=3 => awaited.wrapping_add(by),
        4 => awaited.wrapping_sub(by),
        5 => awaited.wrapping_add(by * 1_024),
        6 => awaited.wrapping_add(by << 27),
        _ => script.word(),
    }
}

fn fields(script: &mut Script<'_>, tag: u32, tsn: u32) -> InitFields<'static> {
    let [ways, window] = [script.byte(), script.byte()];
    let bit = |at: u8| ways >> at & 1 == 0;
    InitFields {
        tag: if bit(6) { tag } else { script.word() },
        window: [1 << 20, 1_000, 0, u32::MAX, 5_000, 70_000, 1, 1 << 16][usize::from(window & 7)],
        outbound: [16, 1, u16::MAX, 0][usize::from(window >> 3 & 3)],
        inbound: [16, 1, u16::MAX, 0][usize::from(window >> 5 & 3)],
        tsn: if bit(7) { tsn } else { script.word() },
        supports_interleaving: bit(0),
        supports_reset: bit(1),
        supports_forward_tsn: bit(2),
        zero_checksum: bit(3),
        ..InitFields::default()
    }
}

/// Opens with the one end there is, as a peer that speaks every extension.
pub(super) fn greet(world: &mut World) {
    let fields = fields(&mut Script::new(&[]), world.known[1].tag, world.known[1].next_tsn);
    say(world, 0, |writer| writer.init(&fields, None, false));
    world.turn();
    let cookie = world.known[0].cookie.clone();
    say(world, world.known[0].tag, |writer| writer.cookie_echo(&cookie));
    world.turn();
    assert!(world.ends[0].association.is_open(), "a peer that does as it should is not let in");
}

fn say(world: &mut World, tag: u32, write: impl FnOnce(&mut Writer<'_>)) {
    let port = world.ends[0].config.port;
    let mut packet = Vec::new();
    let mut writer = Writer::begin(&mut packet, port, port, tag);
    write(&mut writer);
    writer.finish(true);
    world.known[1].learn(&packet);
    world.hand(0, &packet);
}

/// A packet made of chunks.
pub(super) fn forge(world: &mut World, script: &mut Script<'_>) {
    let ways = script.byte();
    let to = if world.is_alone { 0 } else { usize::from(ways & 1) };
    let (victim, author) = (&world.known[to], &world.known[1 - to]);
    let tag = match ways >> 1 & 7 {
        6 => 0,
        7 => author.tag,
        _ => victim.tag,
    };
    let port = world.ends[to].config.port;
    let mut packet = Vec::new();
    let mut writer = Writer::begin(&mut packet, port, port, tag);
    let mut raw: &[u8] = &[];
    for _ in 0..=(ways >> 4) % CHUNKS_MAX {
        match script.byte() & 31 {
            0..=7 => data(world, to, script, &mut writer),
            8..=12 => sack(world, to, script, &mut writer),
            13 => forward(world, to, script, &mut writer),
            14 | 15 => reset(world, to, script, &mut writer),
            16 => writer.init(&fields(script, author.tag, author.next_tsn), None, false),
            17 => writer.init(&fields(script, author.tag, author.next_tsn), Some(script.bytes()), true),
            18 => {
                // Most often the one that it gave; one byte of it may be another.
                let mut cookie = victim.cookie.clone();
                let (at, by) = (script.index(cookie.len()), script.byte());
                if let Some(byte) = cookie.get_mut(at) {
                    *byte ^= by;
                }
                writer.cookie_echo(&cookie);
            }
            19 => writer.cookie_ack(),
            20 => writer.heartbeat(&vec![7; 5 * usize::from(script.byte())]),
            21 => {
                let content = if script.flag() { script.bytes() } else { &victim.heartbeat };
                writer.heartbeat_ack(content);
            }
            22 => writer.shutdown(near(script, victim.next_tsn.wrapping_sub(1))),
            23 => writer.shutdown_ack(),
            24 => writer.shutdown_complete(script.flag()),
            25 => match script.byte() & 3 {
                0 => writer.abort(cause::USER_ABORT, b"over"),
                1 => writer.abort_reflected(cause::USER_ABORT, b"over"),
                2 => writer.error(cause::STALE_COOKIE, &[0, 0, 0, 9]),
                _ => writer.error(u16::from(script.byte()), script.bytes()),
            },
            26 => writer.pad(4 * usize::from(script.byte())),
            // Anything, in its own bytes, at the end.
            _ => raw = script.bytes(),
        }
    }
    // Bytes of their own have no checksum; most take that, as DTLS has one.
    let is_raw = !raw.is_empty();
    writer.finish(!is_raw);
    packet.extend_from_slice(raw);
    hand(world, to, &packet, ways >> 4 & 8 != 0);
}

/// A packet that was sent, changed.
pub(super) fn alter(world: &mut World, script: &mut Script<'_>) {
    let ways = script.byte();
    let to = if world.is_alone { 0 } else { usize::from(ways & 1) };
    // What one end said may also come back to it.
    let from = usize::from(ways >> 1 & 1);
    let at = script.index(world.said[from].len());
    let Some(mut packet) = world.said[from].get(at).cloned() else { return };
    for _ in 0..=(ways >> 2 & 3) {
        let (at, how) = (script.index(packet.len()), script.byte());
        match how & 7 {
            0..=3 => packet[at] = script.byte(),
            4 | 5 => packet[at] ^= 1 << (how >> 5),
            6 => packet.truncate(at.max(16)),
            _ => packet.extend_from_slice(script.bytes()),
        }
    }
    packet[4..8].copy_from_slice(&world.known[to].tag.to_be_bytes());
    packet[8..12].fill(0);
    hand(world, to, &packet, ways & 0x80 != 0);
}

/// `more` packets come before anything leaves.
fn hand(world: &mut World, to: usize, packet: &[u8], more: bool) {
    world.is_honest = false;
    world.packets += 1;
    if world.is_alone {
        world.known[1].learn(packet);
    }
    world.hand(to, packet);
    if !more {
        world.turn();
    }
}

fn data(world: &World, to: usize, script: &mut Script<'_>, writer: &mut Writer<'_>) {
    let (victim, author) = (&world.known[to], &world.known[1 - to]);
    let [flags, place] = [script.byte(), script.byte()];
    let bit = |at: u8| flags >> at & 1 == 1;
    let stream = u16::from(place & 31);
    let (message, part) = author.sequence(stream, bit(2));
    let (message, part) = (near(script, message), near(script, part));
    // As agreed on, most often.
    let is_interleaved = (victim.interleaves && author.interleaves) != (place >> 5 == 7);
    let [.., a, b] = message.to_be_bytes();
    let sequence = if is_interleaved {
        Sequence::Mid { mid: message, fsn: if bit(0) { 0 } else { part } }
    } else {
        Sequence::Ssn(u16::from_be_bytes([a, b]))
    };
    // Those of one packet follow each other.
    let tsn = near(script, author.next_tsn).wrapping_add(u32::from(flags >> 4 & 7));
    let payload = vec![5; [1, 16, 200, 1_000][usize::from(place >> 5 & 3)]];
    writer.data(&Data {
        tsn,
        stream,
        ppi: 53,
        begins: bit(0),
        ends: bit(1),
        is_unordered: bit(2),
        is_immediate: bit(3),
        sequence,
        payload: &payload,
    });
}

fn sack(world: &World, to: usize, script: &mut Script<'_>, writer: &mut Writer<'_>) {
    let cumulative = near(script, world.known[to].next_tsn.wrapping_sub(1));
    let [window, counts] = [script.byte(), script.byte()];
    let window = [1 << 20, 0, 1_000, 70_000, u32::MAX, 1_200, 1 << 16, 20_000][usize::from(window & 7)];
    let mut end = 0;
    let gaps: Vec<(u16, u16)> = (0..counts & 31)
        .map(|_| {
            let byte = script.byte();
            let start = end + 1 + u16::from(byte & 15);
            end = start + u16::from(byte >> 4);
            (start, end)
        })
        .collect();
    writer.sack(cumulative, window, gaps, &vec![cumulative; usize::from(counts >> 5)]);
}

fn forward(world: &World, to: usize, script: &mut Script<'_>, writer: &mut Writer<'_>) {
    let (victim, author) = (&world.known[to], &world.known[1 - to]);
    let cumulative = near(script, author.next_tsn);
    let count = script.byte();
    let skipped: Vec<(u16, bool, u32)> = (0..count & 15)
        .map(|_| {
            let (stream, is_unordered) = (u16::from(script.byte()), script.flag());
            let message = author.sequence(stream, is_unordered).0;
            (stream, is_unordered, near(script, message))
        })
        .collect();
    if (victim.interleaves && author.interleaves) != (count >> 4 == 15) {
        writer.i_forward_tsn(cumulative, skipped);
    } else {
        let short = |message: u32| u16::try_from(message & 0xffff).unwrap();
        writer.forward_tsn(cumulative, skipped.iter().map(|(stream, _, message)| (*stream, short(*message))));
    }
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::Performed,
    Outcome::NothingToDo,
    Outcome::Denied,
    Outcome::WrongStream,
    Outcome::Busy,
    Outcome::BadSequence,
    Outcome::InProgress,
];

fn reset(world: &World, to: usize, script: &mut Script<'_>, writer: &mut Writer<'_>) {
    let (victim, author) = (&world.known[to], &world.known[1 - to]);
    if script.flag() {
        let outcome = OUTCOMES[script.index(OUTCOMES.len())];
        return writer.reset_response(near(script, victim.request.wrapping_sub(1)), outcome);
    }
    let request = near(script, author.request);
    let last = near(script, author.next_tsn.wrapping_sub(1));
    let streams: Vec<u16> = script.bytes().iter().copied().map(u16::from).collect();
    writer.reset_request(request, victim.request, last, streams);
}
