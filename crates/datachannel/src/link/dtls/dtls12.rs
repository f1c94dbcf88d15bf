//! An open connection of DTLS 1.2 (RFC 6347). The only thing that the engine would still have to do, answering a client
//! that repeats its last flight because ours was lost (§4.2.4), is done here, and only for a repetition that is authentic.

use super::{Arrived, CLOSE_NOTIFY, Ended, FATAL, FINISHED, SealError, WARNING};
use crate::link::records::{self, ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, VERSION};

pub(super) mod keys;
pub(super) mod record;

use record::{Opener, Sealer};

pub(super) struct Open {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    /// Our Finished, and the next sequence number in clear: what a repetition of our last flight is made of.
    pub(super) last_flight: Option<(Vec<u8>, u64)>,
}

impl Open {
    /// Takes the records of a datagram. Those that are `early` came before the connection was open: the peer's Finished
    /// is among them, which is then no repetition.
    pub(super) fn take(
        &mut self,
        datagram: &mut [u8],
        is_early: bool,
        plaintext: &mut dyn FnMut(&mut [u8]),
        pending: &mut Vec<Vec<u8>>,
    ) -> Arrived {
        let mut arrived = Arrived::default();
        for record in records::each_mut(datagram) {
            let Some((kind, body)) = self.opener.open(record) else { continue };
            arrived.is_authentic = true;
            match (kind, &*body) {
                (APPLICATION_DATA, _) => plaintext(body),
                (ALERT, [level, what]) if *what == CLOSE_NOTIFY || *level == FATAL => {
                    arrived.ended = Some(Ended::Peer);
                    break;
                }
                (HANDSHAKE, [FINISHED, ..]) if !is_early => pending.extend(self.repeat_last_flight()),
                // Nothing renegotiates.
                _ => {}
            }
        }
        arrived
    }

    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<bool, SealError> {
        self.sealer.seal(APPLICATION_DATA, out, write)
    }

    /// close_notify, also in answer to the peer's (RFC 5246 §7.2.1).
    pub(super) fn farewell(&mut self) -> Option<Vec<u8>> {
        let mut alert = Vec::new();
        self.sealer.seal(ALERT, &mut alert, |out| out.extend([WARNING, CLOSE_NOTIFY])).ok()?;
        Some(alert)
    }

    /// ChangeCipherSpec and Finished, as new records: a peer does not take one twice.
    pub(super) fn repeat_last_flight(&mut self) -> Option<Vec<u8>> {
        let (finished, number) = self.last_flight.as_mut()?;
        let [_, _, n @ ..] = number.to_be_bytes();
        let mut datagram = [&[CHANGE_CIPHER_SPEC][..], &VERSION, &[0, 0], &n, &[0, 1, 1]].concat();
        *number += 1;
        self.sealer.seal(HANDSHAKE, &mut datagram, |out| out.extend_from_slice(finished)).ok()?;
        Some(datagram)
    }
}
