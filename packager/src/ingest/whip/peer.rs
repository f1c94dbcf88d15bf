//! A WebRTC connection made of an offer: what is agreed on, and the answer.
//!
//! What never belongs here: sockets, HTTP, what comes over it.

use std::{collections::HashMap, net::SocketAddr, time::Instant};

use millstream_datachannel::random_token;
use millstream_segmenter::TrackKind;
use str0m::{
    Candidate, IceCreds, Rtc, RtcConfig,
    change::SdpOffer,
    format::Codec,
    media::{Frequency, Pt},
};

use super::cryptography;

/// Characters of our name in ICE: 48 random bits, so that no two sessions have the same (RFC 8445 §5.3 wants 24).
const NAME_CHARS: usize = 8;

/// Characters of the password: 144 bits (RFC 8445 §5.3 wants 128).
const PASSWORD_CHARS: usize = 24;

/// A connection that waits for its publisher.
pub(super) struct Peer {
    pub(super) rtc: Rtc,
    /// Our name in ICE.
    pub(super) name: String,
    /// Our address as the publisher knows it.
    pub(super) local: Vec<SocketAddr>,
    /// What was agreed on, by the payload type of its packets.
    pub(super) formats: HashMap<Pt, (TrackKind, Frequency)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the offer is no SDP that WebRTC knows: {0}")]
    Offer(String),
    #[error(
        "the offer has neither H.264 (packetization-mode 1) nor Opus; choose them in the encoder, in browsers by \
         setCodecPreferences"
    )]
    Codecs,
    #[error("the pictures are not H.264; choose it in the encoder, in browsers by setCodecPreferences")]
    Video,
    #[error("WebRTC does not start here: {0}")]
    Ours(String),
}

impl Peer {
    /// Takes `offer`. Publishers reach us at `local`.
    pub(super) fn accept(offer: &str, local: Vec<SocketAddr>, now: Instant) -> Result<(Self, String), Error> {
        let ours = |error: &dyn std::fmt::Display| Error::Ours(error.to_string());
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| Error::Offer(error.to_string()))?;
        let (provider, certificate) = cryptography::provider().map_err(|error| ours(&error))?;
        let name = random_token(NAME_CHARS).map_err(|error| ours(&error))?;
        let pass = random_token(PASSWORD_CHARS).map_err(|error| ours(&error))?;
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(provider)
            .set_dtls_cert(certificate)
            .set_local_ice_credentials(IceCreds { ufrag: name.clone(), pass })
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_h264(true)
            .build(now);
        for &address in &local {
            let candidate = Candidate::host(address, "udp").map_err(|error| ours(&error))?;
            rtc.add_local_candidate(candidate);
        }
        let has_video = offer.to_sdp_string().contains("m=video ");
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|error| Error::Offer(error.to_string()))?;
        let answer = answer.to_sdp_string();
        let has_h264 = answer.contains(" H264/90000");
        if has_video && !has_h264 {
            return Err(Error::Video);
        }
        if !has_h264 && !answer.contains(" opus/48000") {
            return Err(Error::Codecs);
        }
        let formats = rtc.codec_config().params().iter().filter_map(|format| {
            let kind = match format.spec().codec {
                Codec::H264 => TrackKind::Video,
                Codec::Opus => TrackKind::Audio,
                _ => return None,
            };
            Some((format.pt(), (kind, format.spec().clock_rate)))
        });
        let formats = formats.collect();
        Ok((Self { rtc, name, local, formats }, answer))
    }

    /// Ours, of the family of `theirs`.
    pub(super) fn local_for(&self, theirs: SocketAddr) -> SocketAddr {
        let same = |ours: &&SocketAddr| ours.is_ipv4() == theirs.is_ipv4();
        self.local.iter().find(same).or(self.local.first()).copied().unwrap_or(theirs)
    }
}
