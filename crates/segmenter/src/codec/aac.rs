//! AAC: the `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1), and frames of silence to fill gaps with.

use bytes::Bytes;
use mp4_atom::{
    Audio, Mp4a,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, Esds, SLConfig},
};

use super::{Error, bits::Reader, bits::Writer, bounded};

/// `samplingFrequencyIndex` (ISO/IEC 14496-3 Table 1.18).
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// The slowest and the fastest rate that is believed when it is written out.
const SAMPLE_RATE_MIN: u32 = 7_350;
const SAMPLE_RATE_MAX: u32 = 96_000;

/// Audio object types (ISO/IEC 14496-3 Table 1.17): low complexity, and two that extend it.
const LOW_COMPLEXITY: u32 = 2;
const SPECTRAL_BAND_REPLICATION: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;

/// An AAC configuration.
#[derive(Debug)]
pub(super) struct Aac {
    /// The RFC 6381 text.
    pub(super) codec: String,
    /// Channels of the coded signal.
    pub(super) channels: u8,
    /// Samples a second of the coded signal.
    pub(super) sample_rate: u32,
    /// Samples in a frame: 1,024, rarely 960.
    pub(super) frame_samples: u32,
    /// A frame of silence.
    pub(super) silence: Bytes,
}

impl Aac {
    pub(super) fn parse(raw: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bounded(raw)?);
        let named = object_type(&mut reader)?;
        let sample_rate = frequency(&mut reader)?;
        let layout = reader.bits(4)?;
        let mut core = named;
        if named == SPECTRAL_BAND_REPLICATION || named == PARAMETRIC_STEREO {
            frequency(&mut reader)?; // what it plays at
            core = object_type(&mut reader)?;
        }
        if core != LOW_COMPLEXITY {
            return Err(Error::Value { what: "audioObjectType", got: core });
        }
        let channels = match layout {
            1..=6 => layout,
            7 => 8,
            other => return Err(Error::Value { what: "channelConfiguration", got: other }),
        };
        let frame_samples = if reader.flag()? { 960 } else { 1_024 };
        let channels = u8::try_from(channels).map_err(|_| Error::Short)?;
        let codec = format!("mp4a.40.{named}");
        Ok(Self { codec, channels, sample_rate, frame_samples, silence: silence(layout) })
    }

    /// The sample entry of a track with this configuration.
    pub(super) fn entry(&self, config: &[u8]) -> mp4_atom::Codec {
        let audio = Audio {
            data_reference_index: 1,
            channel_count: u16::from(self.channels),
            sample_size: 16,
            // The field has 16 bits; zero means: ask the decoder configuration.
            sample_rate: u16::try_from(self.sample_rate).unwrap_or(0).into(),
        };
        let dec_config = DecoderConfig {
            object_type_indication: 0x40, // ISO/IEC 14496-3 audio
            stream_type: 5,               // an audio stream
            dec_specific: Some(DecoderSpecific { raw: config.to_vec(), ..DecoderSpecific::default() }),
            ..DecoderConfig::default()
        };
        let es_desc =
            EsDescriptor { es_id: 1, dec_config, sl_config: SLConfig {}, ..EsDescriptor::default() };
        Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None }.into()
    }
}

fn object_type(reader: &mut Reader<'_>) -> Result<u32, Error> {
    match reader.bits(5)? {
        31 => Ok(32 + reader.bits(6)?),
        short => Ok(short),
    }
}

fn frequency(reader: &mut Reader<'_>) -> Result<u32, Error> {
    let index = reader.bits(4)?;
    if index == 15 {
        let rate = reader.bits(24)?;
        if (SAMPLE_RATE_MIN..=SAMPLE_RATE_MAX).contains(&rate) {
            return Ok(rate);
        }
        return Err(Error::Value { what: "samplingFrequency", got: rate });
    }
    let rate = usize::try_from(index).ok().and_then(|i| SAMPLE_RATES.get(i));
    rate.copied().ok_or(Error::Value { what: "samplingFrequencyIndex", got: index })
}

/// One syntactic element of a raw data block (ISO/IEC 14496-3 §4.4.2.1).
#[derive(Clone, Copy)]
enum Element {
    Single,
    Pair,
    LowFrequency,
}

/// A raw data block in which every spectrum is empty: the elements of the channel configuration (ISO/IEC 14496-3
/// Table 1.19), each without scale factor bands.
fn silence(layout: u32) -> Bytes {
    use Element::{LowFrequency, Pair, Single};
    let elements: &[Element] = match layout {
        1 => &[Single],
        2 => &[Pair],
        3 => &[Single, Pair],
        4 => &[Single, Pair, Single],
        5 => &[Single, Pair, Pair],
        6 => &[Single, Pair, Pair, LowFrequency],
        _ => &[Single, Pair, Pair, Pair, LowFrequency],
    };
    let mut writer = Writer::default();
    let (mut singles, mut pairs) = (0, 0);
    for element in elements {
        let (id, tag) = match element {
            Single => (0, &mut singles),
            Pair => (1, &mut pairs),
            LowFrequency => (3, &mut 0),
        };
        writer.bits(3, id);
        writer.bits(4, *tag);
        *tag += 1;
        match element {
            Pair => {
                writer.bits(1, 1); // common_window
                empty_ics_info(&mut writer);
                writer.bits(2, 0); // ms_mask_present
                for _ in 0..2 {
                    writer.bits(8, 0); // global_gain
                    writer.bits(3, 0); // no pulse, noise shaping or gain control
                }
            }
            Single | LowFrequency => {
                writer.bits(8, 0);
                empty_ics_info(&mut writer);
                writer.bits(3, 0);
            }
        }
    }
    writer.bits(3, 7); // the end
    writer.finish().into()
}

/// `ics_info()`: one long window with the sine shape, no bands, no prediction.
fn empty_ics_info(writer: &mut Writer) {
    writer.bits(1 + 2 + 1 + 6 + 1, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_configurations_are_known() {
        let stereo = Aac::parse(&[0x11, 0x90]).unwrap();
        assert_eq!((stereo.sample_rate, stereo.channels, stereo.frame_samples), (48_000, 2, 1_024));
        assert_eq!(stereo.codec, "mp4a.40.2");
        let mono = Aac::parse(&[0x12, 0x08, 0x56, 0xe5, 0x00]).unwrap();
        assert_eq!((mono.sample_rate, mono.channels), (44_100, 1));
        // HE-AAC, said outright: 24 kHz that plays at 48.
        let high = Aac::parse(&[0x2b, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!((high.sample_rate, high.codec.as_str()), (24_000, "mp4a.40.5"));
    }

    #[test]
    fn what_no_player_takes_is_refused() {
        for (bytes, what) in [
            (&[0x11, 0x80][..], "channelConfiguration"),
            (&[0x0a, 0x10][..], "audioObjectType"),
            (&[0x16, 0x90][..], "samplingFrequencyIndex"),
        ] {
            let error = Aac::parse(bytes).unwrap_err();
            assert!(matches!(error, Error::Value { what: got, .. } if got == what), "{error}");
        }
        assert_eq!(Aac::parse(&[0x11]).unwrap_err(), Error::Short);
    }
}
