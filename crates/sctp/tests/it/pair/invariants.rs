//! What must hold, each as a sentence and a function that fails when it does not.

use std::time::Duration;

use millstream_model::Instant;
use millstream_sctp::{Event, Message};

use super::{
    model::{Direction, Sent},
    plan::{Disorder, Plan},
};
use crate::world::{End, World};

/// A sender's timer is never longer than 3 s; one that probes a window begins when the last probe is answered, a round
/// trip and a full queue later.
const SILENCE_MAX: Duration = Duration::from_millis(4_000);

/// Packets sent again on top of what is allowed for: probes of tails whose acknowledgements were lost, and the first of
/// packets that overtake each other.
const AGAIN_PACKETS: usize = 24;

/// Packets that were refused because nobody read, and are sent again until somebody does.
const PROBE_PACKETS: usize = 24;

/// Nothing comes that was not sent.
pub(crate) fn nothing_comes_that_was_not_sent(sent: &[Sent], message: &Message) -> usize {
    let number = usize::try_from(message.ppi).unwrap();
    assert!(number < sent.len(), "message {number} was not sent");
    number
}

/// Every byte comes as it was sent, on the stream it was sent on.
pub(crate) fn every_byte_comes_as_it_was_sent(sent: &Sent, message: &Message) {
    assert!(sent.stream == message.stream, "message {} came on stream {}", sent.number, message.stream);
    assert!(sent.bytes == message.bytes, "message {} is not what was sent", sent.number);
}

/// Every message comes once.
pub(crate) fn every_message_comes_once(sent: &Sent) {
    assert!(!sent.has_arrived, "message {} came twice", sent.number);
}

/// The ordered messages of a stream come in their order.
pub(crate) fn in_order_when_ordered(sent: &Sent, newest: Option<u32>) {
    assert!(
        newest.is_none_or(|newest| newest < sent.number),
        "ordered message {} of stream {} came after {newest:?}",
        sent.number,
        sent.stream
    );
}

/// Every reliable message comes.
pub(crate) fn every_reliable_message_comes(direction: &Direction, from: usize) {
    let missing: Vec<_> = direction.missing().map(|sent| (sent.number, sent.stream)).take(5).collect();
    assert!(missing.is_empty(), "messages {missing:?} of end {from} never came");
}

/// The same, of one who was told that it is over with some on their way.
pub(crate) fn every_reliable_message_comes_unless(is_hasty: bool, direction: &Direction, from: usize) {
    if !is_hasty {
        every_reliable_message_comes(direction, from);
    }
}

/// A receiver holds no more than its window and a message, by which one that waits for its end may be completed.
pub(crate) fn memory_is_bounded(end: &End) {
    let held = end.association.stats().bytes_received - end.received_bytes;
    let most = u64::from(end.config.receive_window_bytes) + end.config.message_bytes_max as u64;
    assert!(held <= most, "{held} bytes are held where {most} are allowed");
}

/// What counts as acknowledged has been sent, and has come. Who is over does not know any more what came.
pub(crate) fn what_is_acknowledged_has_come(end: &End, other: &End) {
    let (stats, came) = (end.association.stats(), other.association.stats().bytes_received);
    let acknowledged = stats.bytes_acknowledged;
    assert!(
        acknowledged <= stats.bytes_sent && (acknowledged <= came || !other.association.is_open()),
        "{acknowledged} bytes acknowledged, {came} came: {stats:?}"
    );
}

/// A sender with data that waits, sent or not, is never silent for longer than its longest timer.
pub(crate) fn no_silence_while_data_waits(end: &End, now: Instant, grain: Duration) {
    let silence = end.silence_max.max(end.waiting_since.map_or(Duration::ZERO, |since| now.since(since)));
    assert!(
        silence <= SILENCE_MAX + grain,
        "data waited in silence for {silence:?}: {:?}",
        end.association.stats()
    );
}

/// What is sent again is at most 1.2 times what was lost; of what is overtaken on its way, or probes a window that is
/// shut, some more.
pub(crate) fn little_is_sent_again_that_was_not_lost(end: &End, plan: &Plan) {
    let (again, lost) = (end.ledger.again(), end.ledger.lost());
    let sent = end.ledger.sent_chunks();
    let probes = if plan.pauses.is_empty() { 0 } else { PROBE_PACKETS };
    let slack = (AGAIN_PACKETS + probes) * end.ledger.chunks_a_packet();
    let overtaken = match plan.disorder() {
        Disorder::None => 0,
        Disorder::Some => sent / 10,
        Disorder::BeyondRoundTrip => sent / 3,
    };
    // What arrived when no acknowledgement came back any more looks lost.
    let unheard = if plan.black_out.is_some() { sent / 4 } else { 0 };
    let allowed = lost * 12 / 10 + slack + overtaken + unheard;
    assert!(
        again <= allowed,
        "{again} chunks sent again, {lost} lost of {sent}, {} for nothing, as {:?}: {:?}",
        end.ledger.needless().len(),
        end.ledger.needless().iter().take(3).collect::<Vec<_>>(),
        end.association.stats()
    );
}

/// Who has nothing to say says nothing.
pub(crate) fn idle_is_quiet(before: [u64; 2], world: &World) {
    for (end, before) in world.ends.iter().zip(before) {
        let sent = end.packets - before;
        let beats = if world.ends.iter().any(|end| end.config.heartbeat_interval.is_some()) { 60 } else { 0 };
        assert!(
            sent <= beats,
            "{sent} packets of an association that is idle: {:?}",
            end.association.stats()
        );
    }
}

/// Whoever is told that the peer has reset a stream has been told all that was sent on it before.
pub(crate) fn a_reset_comes_after_all_messages(direction: &Direction, stream: u16, before: usize) {
    let missing = direction.missing().find(|sent| sent.stream == stream && (sent.number as usize) < before);
    assert!(missing.is_none(), "stream {stream} was reset before {missing:?} came");
}

/// `Closed` is the last event, and comes once.
pub(crate) fn nothing_happens_after_the_end(end: &End) {
    let closed = end.events.iter().position(|event| matches!(event, Event::Closed(_)));
    assert!(
        closed.is_none_or(|closed| closed + 1 == end.events.len()),
        "events after the last: {:?}",
        end.events
    );
}
