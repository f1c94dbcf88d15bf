//! H.264 from RTP (RFC 6184): access units and decoder configurations out of payloads that come in line.
//!
//! Single NAL units, aggregates (STAP-A) and parts of one (FU-A), which are all that `packetization-mode=1` has. A unit of
//! which something is lost is left out. What leans on it is not: a pause of the pictures until a keyframe, which not every
//! publisher gives when it is asked, would harm viewers more. What never belongs here: order, time, who sends.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_segmenter::SAMPLE_BYTES_MAX;

const SLICE_IDR: u8 = 5;
const SLICES: std::ops::RangeInclusive<u8> = 1..=SLICE_IDR;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Parameter sets of a kind that are kept; encoders have one.
const SETS_MAX: usize = 16;

/// Bytes of a parameter set; real ones have under 100.
const SET_BYTES_MAX: usize = 1_024;

/// A unit for the segmenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// The configuration it needs, where it is not that of the unit before: an `AVCDecoderConfigurationRecord`.
    pub(super) config: Option<Bytes>,
    /// NAL units, each behind four bytes of length; without parameter sets, delimiters and filler.
    pub(super) data: Bytes,
    pub(super) keyframe: bool,
    /// The count of its packets.
    pub(super) time: u64,
}

/// Puts units together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: Option<Open>,
    sets: Sets,
    /// What was put out last.
    config: Option<Bytes>,
    /// A keyframe was put out.
    has_start: bool,
    /// Something was lost since.
    is_hurt: bool,
    units: VecDeque<Unit>,
}

/// A unit that is not whole yet.
#[derive(Debug)]
struct Open {
    time: u64,
    data: BytesMut,
    /// A NAL unit that is not whole yet.
    partial: Option<BytesMut>,
    found: Sets,
    has_slice: bool,
    keyframe: bool,
    is_broken: bool,
}

#[derive(Debug, Default)]
struct Sets {
    sps: Vec<Bytes>,
    /// By their numbers.
    pps: BTreeMap<u32, Bytes>,
}

impl Assembler {
    /// Takes the payload of the next packet. `is_last`: it says that it ends its unit.
    pub(super) fn handle(&mut self, payload: &[u8], time: u64, is_last: bool, after_loss: bool) {
        if self.open.as_ref().is_some_and(|open| open.time != time) {
            // The packet that would have ended it is lost, or it had no mark; only the first is a fault.
            self.close(after_loss);
        }
        self.is_hurt |= after_loss;
        let open = self.open.get_or_insert_with(|| Open::new(time));
        open.is_broken |= after_loss;
        if open.take(payload).is_none() {
            open.is_broken = true;
        }
        if is_last {
            self.close(false);
        }
    }

    /// The next unit.
    pub(super) fn poll(&mut self) -> Option<Unit> {
        self.units.pop_front()
    }

    /// Nothing comes, or nothing whole, before a keyframe does.
    pub(super) const fn wants_keyframe(&self) -> bool {
        !self.has_start || self.is_hurt
    }

    fn close(&mut self, is_broken: bool) {
        let Some(open) = self.open.take() else { return };
        if open.is_broken || is_broken || open.partial.is_some() {
            self.is_hurt = true;
            return;
        }
        self.sets.update(open.found);
        if !open.has_slice {
            return;
        }
        let mut config = None;
        if open.keyframe
            && let Some(record) = self.sets.record()
        {
            if self.config.as_ref() != Some(&record) {
                config = Some(record.clone());
                self.config = Some(record);
            }
            self.has_start = true;
            self.is_hurt = false;
        }
        if self.has_start {
            let (data, keyframe, time) = (open.data.freeze(), open.keyframe, open.time);
            self.units.push_back(Unit { config, data, keyframe, time });
        }
    }
}

impl Open {
    fn new(time: u64) -> Self {
        Self {
            time,
            data: BytesMut::new(),
            partial: None,
            found: Sets::default(),
            has_slice: false,
            keyframe: false,
            is_broken: false,
        }
    }

    /// `None` when it cannot be understood, or is too much.
    fn take(&mut self, payload: &[u8]) -> Option<()> {
        let (&first, rest) = payload.split_first()?;
        match first & 0x1f {
            1..STAP_A => self.nal(payload),
            STAP_A => self.aggregate(rest),
            FU_A => self.part(first, rest),
            _ => None,
        }
    }

    fn aggregate(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (nal, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            self.nal(nal)?;
            rest = behind;
        }
        Some(())
    }

    fn part(&mut self, indicator: u8, rest: &[u8]) -> Option<()> {
        let (&header, bytes) = rest.split_first()?;
        let (is_start, is_end) = (header & 0x80 != 0, header & 0x40 != 0);
        if is_start == self.partial.is_some() {
            return None;
        }
        let partial = self.partial.get_or_insert_with(|| {
            let mut partial = BytesMut::new();
            partial.put_u8(indicator & 0xe0 | header & 0x1f);
            partial
        });
        if self.data.len() + partial.len() + bytes.len() > SAMPLE_BYTES_MAX {
            return None;
        }
        partial.extend_from_slice(bytes);
        if is_end {
            let nal = self.partial.take()?;
            self.nal(&nal)?;
        }
        Some(())
    }

    fn nal(&mut self, nal: &[u8]) -> Option<()> {
        let kind = nal.first()? & 0x1f;
        match kind {
            SPS | PPS => return self.found.add(kind, nal),
            DELIMITER | FILLER => return Some(()),
            _ => {}
        }
        if self.data.len() + 4 + nal.len() > SAMPLE_BYTES_MAX {
            return None;
        }
        self.has_slice |= SLICES.contains(&kind);
        self.keyframe |= kind == SLICE_IDR;
        self.data.put_u32(u32::try_from(nal.len()).ok()?);
        self.data.extend_from_slice(nal);
        Some(())
    }
}

impl Sets {
    fn add(&mut self, kind: u8, nal: &[u8]) -> Option<()> {
        if nal.len() > SET_BYTES_MAX || self.sps.len() + self.pps.len() >= SETS_MAX {
            return None;
        }
        let nal = Bytes::copy_from_slice(nal);
        if kind == SPS {
            self.sps.push(nal);
        } else {
            self.pps.insert(golomb(nal.get(1..)?)?, nal);
        }
        Some(())
    }

    /// What a unit brought holds from it on: new sequences forget all before them.
    fn update(&mut self, found: Self) {
        if found.sps.is_empty() {
            self.pps.extend(found.pps);
            // Only so many numbers; an encoder that uses more of them begins a new sequence.
            while self.pps.len() > SETS_MAX {
                self.pps.pop_first();
            }
        } else {
            *self = found;
        }
    }

    /// ISO/IEC 14496-15 §5.3.3.1, with lengths of four bytes.
    fn record(&self) -> Option<Bytes> {
        let [profile, compatibility, level] = *self.sps.first()?.get(1..4)?.first_chunk::<3>()?;
        if self.pps.is_empty() {
            return None;
        }
        let mut record = BytesMut::new();
        record.extend_from_slice(&[1, profile, compatibility, level, 0xff]);
        record.put_u8(0xe0 | u8::try_from(self.sps.len()).ok()?);
        for set in &self.sps {
            record.put_u16(u16::try_from(set.len()).ok()?);
            record.extend_from_slice(set);
        }
        record.put_u8(u8::try_from(self.pps.len()).ok()?);
        for set in self.pps.values() {
            record.put_u16(u16::try_from(set.len()).ok()?);
            record.extend_from_slice(set);
        }
        Some(record.freeze())
    }
}

/// The number that stands first in `bytes` (ITU-T H.264 §9.1).
fn golomb(bytes: &[u8]) -> Option<u32> {
    let mut window = [0; 8];
    let length = bytes.len().min(window.len());
    window.get_mut(..length)?.copy_from_slice(bytes.get(..length)?);
    let bits = u64::from_be_bytes(window);
    let zeros = bits.leading_zeros();
    // Numbers of parameter sets are below 256: 8 zeros.
    if zeros > 8 {
        return None;
    }
    u32::try_from((bits << zeros) >> (63 - zeros)).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 1, 2, 3];
    const PICTURE: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const IDR: &[u8] = &[0x65, 9, 9, 9];
    const SLICE: &[u8] = &[0x41, 7, 7];

    fn aggregate(nals: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0x78];
        for nal in nals {
            packet.extend_from_slice(&u16::try_from(nal.len()).unwrap().to_be_bytes());
            packet.extend_from_slice(nal);
        }
        packet
    }

    fn units(assembler: &mut Assembler) -> Vec<Unit> {
        std::iter::from_fn(|| assembler.poll()).collect()
    }

    fn started() -> Assembler {
        let mut assembler = Assembler::default();
        assembler.handle(&aggregate(&[SEQUENCE, PICTURE]), 10, false, false);
        assembler.handle(IDR, 10, true, false);
        assert_eq!(units(&mut assembler).len(), 1);
        assembler
    }

    #[test]
    fn parameter_sets_become_a_configuration_and_slices_a_unit() {
        let mut assembler = Assembler::default();
        assert!(assembler.wants_keyframe());
        assembler.handle(&aggregate(&[&[0x09, 0x10], SEQUENCE, PICTURE]), 10, false, false);
        // In three parts.
        assembler.handle(&[0x7c, 0x85, 1], 10, false, false);
        assembler.handle(&[0x7c, 0x05, 2], 10, false, false);
        assembler.handle(&[0x7c, 0x45, 3], 10, true, false);
        assembler.handle(SLICE, 20, true, false);
        let units = units(&mut assembler);
        let mut record = vec![1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 7];
        record.extend_from_slice(SEQUENCE);
        record.extend_from_slice(&[1, 0, 4]);
        record.extend_from_slice(PICTURE);
        assert_eq!(units[0].config.as_deref(), Some(&record[..]));
        assert_eq!(units[0].data[..], [0, 0, 0, 4, 0x65, 1, 2, 3]);
        assert!(units[0].keyframe && !units[1].keyframe && units[1].config.is_none());
        assert_eq!((units[0].time, units[1].time), (10, 20));
        assert!(!assembler.wants_keyframe());
    }

    #[test]
    fn a_configuration_comes_again_only_when_it_is_another() {
        let mut assembler = started();
        assembler.handle(&aggregate(&[SEQUENCE, PICTURE, IDR]), 20, true, false);
        assert_eq!(units(&mut assembler)[0].config, None);
        let larger: &[u8] = &[0x67, 0x42, 0xc0, 0x28, 1, 2, 4];
        assembler.handle(&aggregate(&[larger, PICTURE, IDR]), 30, true, false);
        let config = units(&mut assembler).remove(0).config.unwrap();
        assert_eq!(config[3], 0x28);
    }

    #[test]
    fn before_the_first_keyframe_nothing_comes() {
        let mut assembler = Assembler::default();
        assembler.handle(SLICE, 5, true, false);
        assembler.handle(IDR, 6, true, false);
        assert_eq!(units(&mut assembler), []);
        assert!(assembler.wants_keyframe());
    }

    #[test]
    fn what_is_not_whole_is_left_out_and_a_keyframe_is_wanted() {
        let mut assembler = started();
        assembler.handle(SLICE, 20, true, true);
        assert!(assembler.wants_keyframe());
        assembler.handle(SLICE, 30, true, false);
        assert_eq!(units(&mut assembler).iter().map(|unit| unit.time).collect::<Vec<_>>(), [30]);
        assembler.handle(&aggregate(&[SEQUENCE, PICTURE, IDR]), 40, true, false);
        assert!(!assembler.wants_keyframe());
        assert_eq!(units(&mut assembler).len(), 1);
        // The end of one unit and the start of the next are lost.
        assembler.handle(SLICE, 60, false, false);
        assembler.handle(IDR, 70, true, true);
        assert_eq!(units(&mut assembler), []);
        assert!(assembler.wants_keyframe());
    }

    #[test]
    fn a_unit_without_a_mark_ends_where_the_next_begins() {
        let mut assembler = started();
        assembler.handle(SLICE, 20, false, false);
        assembler.handle(SLICE, 30, true, false);
        assert_eq!(units(&mut assembler).iter().map(|unit| unit.time).collect::<Vec<_>>(), [20, 30]);
    }

    #[test]
    fn numbers_of_parameter_sets_are_read() {
        for (bits, number) in
            [(0b1000_0000, Some(0)), (0b0101_0000, Some(1)), (0b0010_0000, Some(3)), (0, None)]
        {
            assert_eq!(golomb(&[bits]), number);
        }
        assert_eq!(golomb(&[]), None);
    }

    #[test]
    fn any_bytes_are_survived_and_nothing_grows_without_end() {
        let mut state = 7_u64;
        let mut assembler = Assembler::default();
        for round in 0..200_000_u64 {
            let mut bytes = [0; 24];
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state.to_le_bytes()[0];
            }
            let length = usize::from(bytes[0] % 24);
            assembler.handle(
                &bytes[1..=length.min(23)],
                round / 8,
                bytes[0] & 0x80 != 0,
                bytes[0] & 0x40 != 0,
            );
            while assembler.poll().is_some() {}
        }
        assert!(assembler.sets.sps.len() + assembler.sets.pps.len() <= 2 * SETS_MAX);
        // A part that never ends.
        let mut assembler = started();
        for number in 0..10_000 {
            let header = if number == 0 { 0x85 } else { 0x05 };
            let mut part = vec![0; 1_500];
            part[..2].copy_from_slice(&[0x7c, header]);
            assembler.handle(&part, 20, false, false);
        }
        let held = assembler.open.as_ref().and_then(|open| open.partial.as_ref()).map_or(0, BytesMut::len);
        assert!(held <= SAMPLE_BYTES_MAX);
    }
}
