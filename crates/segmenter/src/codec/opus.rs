//! Opus: the identification header (RFC 7845 §5.1), how long packets last (RFC 6716 §3.1), and packets of silence.

use bytes::Bytes;
use mp4_atom::{Audio, Dops, Opus, OpusChannelMapping};

use super::{Error, bits::Reader, bounded};

/// Opus is always counted in 48,000 samples a second (RFC 7845 §4).
pub(super) const SAMPLE_RATE: u32 = 48_000;

/// Samples in a packet of silence, and in packets before one was seen: 20 ms, what encoders use.
pub(super) const PACKET_SAMPLES_USUAL: u32 = 960;

/// Samples in a packet at most: 120 ms.
const PACKET_SAMPLES_MAX: u32 = 5_760;

/// Silence of 20 ms: CELT, the whole band, one frame, whose first bit says that it is silent.
const SILENT_FRAME: [u8; 2] = [0xff, 0xfe];
const SILENT_MONO: u8 = 31 << 3;
const SILENT_STEREO: u8 = SILENT_MONO | 4;

/// What a header says.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) channels: u8,
    /// A packet of silence.
    pub(super) silence: Bytes,
    /// The sample entry. What a decoder is to leave out at the start (pre-skip) stands in it; publishers' times count
    /// it in, so nothing is moved.
    pub(super) entry: mp4_atom::Codec,
}

impl Head {
    pub(super) fn parse(raw: &[u8]) -> Result<Self, Error> {
        let body = bounded(raw)?.strip_prefix(b"OpusHead").ok_or(Error::Absent("OpusHead"))?;
        let mut reader = Reader::new(body);
        let version = reader.byte()?;
        if version >> 4 != 0 {
            return Err(Error::Value { what: "version", got: version.into() });
        }
        let channels = reader.byte()?;
        let pre_skip = reader.half()?.swap_bytes();
        let input_sample_rate = reader.bits(32)?.swap_bytes();
        let output_gain = reader.half()?.swap_bytes().cast_signed();
        let family = reader.byte()?;
        // Stereo, or surround in Vorbis's order; ambisonics and channels without a meaning no player takes.
        let channels_max = match family {
            0 => 2,
            1 => 8,
            other => return Err(Error::Value { what: "channel mapping family", got: other.into() }),
        };
        if !(1..=channels_max).contains(&channels) {
            return Err(Error::Value { what: "output channel count", got: channels.into() });
        }
        let (mut streams, mut coupled) = (1, channels - 1);
        let mut channel_mapping = None;
        if family != 0 {
            (streams, coupled) = (reader.byte()?, reader.byte()?);
            if streams > channels {
                return Err(Error::Value { what: "stream count", got: streams.into() });
            }
            channel_mapping = Some(OpusChannelMapping {
                family,
                stream_count: streams,
                coupled_count: coupled,
                channel_mapping: (0..channels).map(|_| reader.byte()).collect::<Result<_, _>>()?,
            });
        }
        let audio = Audio {
            data_reference_index: 1,
            channel_count: channels.into(),
            sample_size: 16,
            sample_rate: u16::try_from(SAMPLE_RATE).unwrap_or(0).into(),
        };
        let dops = Dops {
            output_channel_count: channels,
            pre_skip,
            input_sample_rate,
            output_gain,
            channel_mapping,
        };
        let entry = Opus { audio, dops, btrt: None }.into();
        Ok(Self { channels, silence: silence(streams, coupled), entry })
    }
}

/// Samples in a packet; `None` when it is none. With several streams the first one tells: all are as long.
pub(super) fn packet_samples(packet: &[u8]) -> Option<u32> {
    let &toc = packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|samples| (1..=PACKET_SAMPLES_MAX).contains(samples))
}

/// A packet of silence: each stream's, and all but the last say how long they are (RFC 6716 §B).
fn silence(streams: u8, coupled: u8) -> Bytes {
    let mut packet = Vec::new();
    for stream in 0..streams {
        packet.push(if stream < coupled { SILENT_STEREO } else { SILENT_MONO });
        if stream + 1 < streams {
            packet.push(2);
        }
        packet.extend_from_slice(&SILENT_FRAME);
    }
    packet.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\xfe\xff\0";
    const SURROUND: &[u8] = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";

    fn opus(head: &Head) -> &Opus {
        let mp4_atom::Codec::Opus(entry) = &head.entry else { panic!("Opus") };
        entry
    }

    #[test]
    fn headers_of_real_encoders_are_known() {
        let stereo = Head::parse(STEREO).unwrap();
        assert_eq!((stereo.channels, &stereo.silence[..]), (2, &[0xfc, 0xff, 0xfe][..]));
        let entry = opus(&stereo);
        assert_eq!((entry.dops.pre_skip, entry.dops.input_sample_rate), (312, 48_000));
        assert_eq!((entry.dops.output_gain, entry.audio.channel_count), (-2, 2));
        let surround = Head::parse(SURROUND).unwrap();
        // As libopus begins a packet whose front and rear pairs are silent.
        assert_eq!(surround.silence[..8], [0xfc, 2, 0xff, 0xfe, 0xfc, 2, 0xff, 0xfe]);
        assert_eq!(surround.silence[8..], [0xf8, 2, 0xff, 0xfe, 0xf8, 0xff, 0xfe]);
        let mapping = opus(&surround).dops.channel_mapping.clone().unwrap();
        assert_eq!((surround.channels, mapping.channel_mapping), (6, vec![0, 4, 1, 2, 3, 5]));
    }

    #[test]
    fn what_no_player_takes_is_refused() {
        for (at, value) in [(0, b'o'), (8, 0x11), (9, 0), (9, 3), (18, 2), (18, 255)] {
            let mut header = STEREO.to_vec();
            header[at] = value;
            assert!(Head::parse(&header).is_err(), "{at} {value}");
        }
        for (at, value) in [(9, 9), (19, 7)] {
            let mut header = SURROUND.to_vec();
            header[at] = value;
            assert!(Head::parse(&header).is_err(), "{at} {value}");
        }
        for len in 0..SURROUND.len() {
            assert!(Head::parse(&SURROUND[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn packets_tell_how_long_they_last() {
        let ms = |toc: u8, count: u8| packet_samples(&[toc, count]).map(|samples| samples * 10 / 48);
        let config = |config: u8| ms(config << 3, 0);
        assert_eq!([0, 1, 2, 3].map(config), [100, 200, 400, 600].map(Some));
        assert_eq!([12, 13, 14, 15].map(config), [100, 200, 100, 200].map(Some));
        assert_eq!([16, 17, 18, 31].map(config), [25, 50, 100, 200].map(Some));
        assert_eq!([1, 2].map(|code| ms(31 << 3 | code, 0)), [Some(400); 2]);
        let counted = |count: u8| ms(31 << 3 | 3, count);
        assert_eq!([1, 6, 0x86].map(counted), [200, 1_200, 1_200].map(Some));
        assert_eq!([0, 7].map(counted), [None; 2]);
        assert_eq!(ms(3 << 3 | 3, 3), None, "180 ms");
        assert_eq!((packet_samples(&[]), packet_samples(&[3])), (None, None));
    }
}
