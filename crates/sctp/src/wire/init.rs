//! The beginning: INIT and INIT ACK (RFC 9260 §3.3.2, §3.3.3), and what they say of extensions.

use super::{
    kind,
    parameters::{Parameter, Parameters},
};

/// Parameters of INIT and INIT ACK.
pub(super) mod parameter {
    pub(in super::super) const STATE_COOKIE: u16 = 7;
    pub(in super::super) const UNRECOGNISED: u16 = 8;
    /// RFC 9653 §4.
    pub(in super::super) const ZERO_CHECKSUM: u16 = 0x8001;
    /// RFC 5061 §4.2.7.
    pub(in super::super) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
    /// RFC 3758 §3.1.
    pub(in super::super) const FORWARD_TSN: u16 = 0xC000;
}

/// The alternate error detection method "SCTP over DTLS" (RFC 9653 §7), the only one there is.
pub(super) const OVER_DTLS: [u8; 4] = [0, 0, 0, 1];

/// Bytes of unrecognised parameters that an INIT ACK reports at most: the answer must fit into one packet, whatever
/// the question was.
const UNRECOGNISED_BYTES_MAX: usize = 256;

/// An INIT or INIT ACK chunk. Whether its numbers may be zero is for the association to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init<'a> {
    /// The tag that packets to the sender shall bear.
    pub tag: u32,
    /// Bytes that the sender has room for.
    pub window: u32,
    /// Streams that the sender wants to send on.
    pub outbound: u16,
    /// Streams that the sender takes.
    pub inbound: u16,
    /// The first TSN that the sender will use.
    pub tsn: u32,
    parameters: Parameters<'a>,
    cookie: Option<&'a [u8]>,
    supports_interleaving: bool,
    supports_reset: bool,
    supports_forward_tsn: bool,
    zero_checksum: bool,
}

impl<'a> Init<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = body.split_first_chunk::<16>()?;
        let [t0, t1, t2, t3, w0, w1, w2, w3, o0, o1, i0, i1, tsn @ ..] = *fixed;
        let mut init = Self {
            tag: u32::from_be_bytes([t0, t1, t2, t3]),
            window: u32::from_be_bytes([w0, w1, w2, w3]),
            outbound: u16::from_be_bytes([o0, o1]),
            inbound: u16::from_be_bytes([i0, i1]),
            tsn: u32::from_be_bytes(tsn),
            parameters: Parameters::new(rest),
            cookie: None,
            supports_interleaving: false,
            supports_reset: false,
            supports_forward_tsn: false,
            zero_checksum: false,
        };
        for parameter in init.parameters {
            let parameter = parameter.ok()?;
            let value = parameter.value();
            match parameter.kind {
                parameter::STATE_COOKIE => _ = init.cookie.get_or_insert(value),
                parameter::SUPPORTED_EXTENSIONS => {
                    init.supports_interleaving |= value.contains(&kind::I_DATA);
                    init.supports_reset |= value.contains(&kind::RECONFIG);
                }
                parameter::FORWARD_TSN => init.supports_forward_tsn = true,
                parameter::ZERO_CHECKSUM => init.zero_checksum |= value == OVER_DTLS,
                _ if is_stop(&parameter) => break,
                _ => {}
            }
        }
        Some(init)
    }

    /// The state cookie, which only an INIT ACK has a use for.
    #[must_use]
    pub const fn cookie(&self) -> Option<&'a [u8]> {
        self.cookie
    }

    /// The sender speaks I-DATA (RFC 8260 §2.2.1).
    #[must_use]
    pub const fn supports_interleaving(&self) -> bool {
        self.supports_interleaving
    }

    /// The sender speaks RE-CONFIG (RFC 6525 §5.1).
    #[must_use]
    pub const fn supports_reset(&self) -> bool {
        self.supports_reset
    }

    /// The sender speaks FORWARD-TSN (RFC 3758 §3.3.1).
    #[must_use]
    pub const fn supports_forward_tsn(&self) -> bool {
        self.supports_forward_tsn
    }

    /// The sender takes packets without checksum, because DTLS carries them (RFC 9653).
    #[must_use]
    pub const fn zero_checksum(&self) -> bool {
        self.zero_checksum
    }

    /// Parameters that we do not know and that want to be reported, each whole; not more of them than an answer has
    /// room for.
    #[must_use]
    pub const fn unrecognised(&self) -> Unrecognised<'a> {
        Unrecognised { rest: self.parameters, room: UNRECOGNISED_BYTES_MAX }
    }
}

/// What [`Init::unrecognised`] gives; the default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unrecognised<'a> {
    rest: Parameters<'a>,
    room: usize,
}

impl<'a> Iterator for Unrecognised<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let parameter = self.rest.next()?.ok()?;
            if is_known(parameter.kind) {
                continue;
            }
            if is_stop(&parameter) {
                self.rest = Parameters::default();
            }
            if parameter.kind & 0x4000 != 0
                && let Some(room) = self.room.checked_sub(parameter.whole.len())
            {
                self.room = room;
                return Some(parameter.whole);
            }
        }
    }
}

/// Known are also those that we pass over: addresses and what is said about them mean nothing over DTLS (RFC 8261 §6),
/// nor does a cookie live longer because its owner asks for it.
const fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        5 | 6
            | 9
            | 11
            | 12
            | parameter::STATE_COOKIE
            | parameter::UNRECOGNISED
            | parameter::ZERO_CHECKSUM
            | parameter::SUPPORTED_EXTENSIONS
            | parameter::FORWARD_TSN
    )
}

/// Whether the parameters behind it must be left unread (RFC 9260 §3.2.1).
const fn is_stop(parameter: &Parameter<'_>) -> bool {
    !is_known(parameter.kind) && parameter.kind & 0x8000 == 0
}

/// What an INIT or INIT ACK of ours says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InitFields<'a> {
    /// The tag that packets to us shall bear; not 0.
    pub tag: u32,
    /// Bytes that we have room for.
    pub window: u32,
    /// Streams that we want to send on; not 0.
    pub outbound: u16,
    /// Streams that we take; not 0.
    pub inbound: u16,
    /// The first TSN that we will use.
    pub tsn: u32,
    /// We speak I-DATA, and I-FORWARD-TSN with it.
    pub supports_interleaving: bool,
    /// We speak RE-CONFIG.
    pub supports_reset: bool,
    /// We speak FORWARD-TSN.
    pub supports_forward_tsn: bool,
    /// We take packets without checksum, because DTLS carries them.
    pub zero_checksum: bool,
    /// What the INIT had that we do not know: for an INIT ACK to report.
    pub unrecognised: Unrecognised<'a>,
}
