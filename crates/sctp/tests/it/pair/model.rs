//! The reference: every message that was sent, and whether it has come. A message is known by its `ppi`.

use std::{collections::HashMap, sync::LazyLock};

use bytes::Bytes;
use millstream_sctp::{Message, Outgoing, Reliability};

use super::invariants;

/// Messages are cut from this, each at its own place.
static TAPE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut chance = millstream_netsim::Chance::new(99);
    (0..TAPE_WORDS).flat_map(|_| chance.draw().to_le_bytes()).collect::<Vec<u8>>().into()
});
const TAPE_WORDS: usize = 16 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) number: u32,
    pub(crate) stream: u16,
    pub(crate) bytes: Bytes,
    pub(crate) is_unordered: bool,
    pub(crate) reliability: Reliability,
    pub(crate) has_arrived: bool,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) sent: Vec<Sent>,
    /// The newest ordered message that came, of each stream.
    newest: HashMap<u16, u32>,
    pub(crate) arrived: usize,
}

impl Direction {
    /// The next message, which is told to [`Direction::taken`] when it was accepted.
    pub(crate) fn next(
        &self,
        stream: u16,
        length: u64,
        is_unordered: bool,
        reliability: Reliability,
    ) -> Outgoing {
        let number = self.sent.len();
        let length = usize::try_from(length).unwrap();
        let at = number * 61 % (TAPE.len() - length);
        let ppi = u32::try_from(number).unwrap();
        Outgoing { stream, ppi, bytes: TAPE.slice(at..at + length), is_unordered, reliability }
    }

    pub(crate) fn taken(&mut self, message: Outgoing) {
        let Outgoing { stream, ppi, bytes, is_unordered, reliability } = message;
        self.sent.push(Sent { number: ppi, stream, bytes, is_unordered, reliability, has_arrived: false });
    }

    pub(crate) fn arrived(&mut self, message: &Message) {
        let sent = invariants::nothing_comes_that_was_not_sent(&self.sent, message);
        invariants::every_byte_comes_as_it_was_sent(&self.sent[sent], message);
        invariants::every_message_comes_once(&self.sent[sent]);
        let sent = &mut self.sent[sent];
        sent.has_arrived = true;
        self.arrived += 1;
        if !sent.is_unordered {
            invariants::in_order_when_ordered(sent, self.newest.insert(sent.stream, sent.number));
        }
    }

    /// Reliable messages that have not come.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| !sent.has_arrived && sent.reliability == Reliability::Reliable)
    }
}
