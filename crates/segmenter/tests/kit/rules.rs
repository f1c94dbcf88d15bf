//! The rules that every output must keep, whatever the publisher did.
//!
//! From RFC 8216bis: parts at most PART-TARGET and at least 85 % of it but for a segment's last (§4.4.3.7,
//! §4.4.4.9), segments that round to at most EXT-X-TARGETDURATION (§4.4.3.1), media and discontinuity sequences that
//! count up, program date times that do not jitter. From the design: media time without holes within a continuity,
//! continuities that all renditions leave together, boxes that say what the part says.

use std::collections::BTreeMap;

use millstream_model::{PART_BYTES_MAX, RenditionId};
use millstream_segmenter::{Complaint, Media, Output, Part, Track};
use mp4_atom::{Decode, Ftyp, Header, Moof, Moov};

/// One tick of the slowest timescale: renditions round the same moment each to their own ticks.
const TICK_US_MAX: u64 = 140;

pub(crate) fn check(outputs: &[Output]) {
    let mut checker = Checker::default();
    for output in outputs {
        match output {
            Output::Tracks(tracks) => checker.tracks(tracks),
            Output::Part(part) => checker.part(part),
            Output::Complaint(Complaint::LongFrame { rendition, .. }) => {
                checker.long_frame = Some(*rendition);
            }
            Output::Complaint(Complaint::Unwritten { .. }) => panic!("{output:?}"),
            Output::Complaint(_) | Output::Picture(_) => {}
            Output::Ended => checker.ended = true,
        }
    }
}

#[derive(Default)]
struct Checker {
    tracks: Vec<Track>,
    last: BTreeMap<RenditionId, Last>,
    /// The open continuity: its number, and where the last one ended and this one starts, in microseconds.
    continuity: u32,
    ended_us: u64,
    reached_us: u64,
    fresh: bool,
    long_frame: Option<RenditionId>,
    ended: bool,
}

struct Last {
    part: Part,
    timescale: u32,
    segment_duration: u64,
    /// Of the continuity's first part.
    date_offset_ms: i128,
}

impl Checker {
    fn tracks(&mut self, tracks: &[Track]) {
        assert!(!tracks.is_empty() && tracks.is_sorted_by_key(|track| track.rendition));
        assert_ne!(self.tracks, tracks, "tracks that did not change");
        for track in tracks {
            assert_eq!(track.target_duration_ms, 4_000);
            assert!(track.part_target_ms > 0 && track.timescale > 0 && !track.init.is_empty());
            if let Media::Video { width, height, .. } = track.media {
                assert!(width > 0 && height > 0);
            }
        }
        self.tracks = tracks.to_vec();
        self.fresh = true;
    }

    fn part(&mut self, part: &Part) {
        assert!(!self.ended, "a part after the end");
        let track = self.tracks.iter().find(|track| track.rendition == part.rendition);
        let track = track.expect("a part of a rendition that was not put out").clone();
        let target = u64::from(track.part_target_ms) * u64::from(track.timescale) / 1_000;
        let start_us = part.media_time.micros(track.timescale);
        let end_us = (u128::from(part.media_time.0) + u128::from(part.duration)) * 1_000_000
            / u128::from(track.timescale);
        let end_us = u64::try_from(end_us).unwrap();

        // Continuities: all renditions leave together, and none overlaps another.
        if self.last.is_empty() {
            self.continuity = part.discontinuity;
        } else if part.discontinuity != self.continuity {
            assert!(part.discontinuity == self.continuity + 1, "{part:?}");
            self.continuity = part.discontinuity;
            self.ended_us = self.reached_us;
        } else {
            assert!(!self.fresh || part.discontinuity == 0, "tracks changed without a discontinuity");
        }
        self.fresh = false;
        assert!(
            start_us + TICK_US_MAX >= self.ended_us,
            "continuities overlap: {start_us} {}",
            self.ended_us
        );
        self.reached_us = self.reached_us.max(end_us);

        let offset_ms = i128::from(part.program_date_time.0) - i128::from(start_us / 1_000);
        let mut segment_duration = u64::from(part.duration);
        let mut date_offset_ms = offset_ms;
        match self.last.remove(&part.rendition) {
            Some(last) => {
                if part.first {
                    assert_eq!((part.segment, part.part), (last.part.segment + 1, 0));
                } else {
                    assert_eq!((part.segment, part.part), (last.part.segment, last.part.part + 1));
                    segment_duration += last.segment_duration;
                    let least = u64::from(last.part.duration) * 100;
                    let target = u64::from(track.part_target_ms) * u64::from(track.timescale) / 1_000;
                    assert!(least >= target * 85, "a part too short: {:?} of {target}", last.part.duration);
                }
                let end = last.part.media_time.0 + u64::from(last.part.duration);
                if part.discontinuity == last.part.discontinuity {
                    assert_eq!(part.media_time.0, end, "a hole in media time");
                    date_offset_ms = last.date_offset_ms;
                    assert!((offset_ms - date_offset_ms).abs() <= 1, "program date time jitters");
                } else {
                    assert!(part.first && part.independent, "a continuity starts with a keyframe");
                    assert!(start_us + TICK_US_MAX >= last.part.media_time.micros(last.timescale));
                }
                assert!(part.program_date_time >= last.part.program_date_time);
            }
            None => assert!(part.first && part.part == 0 && part.independent),
        }
        let segment_ms = segment_duration * 1_000 / u64::from(track.timescale);
        if u64::from(part.duration) > target {
            assert_eq!(
                self.long_frame,
                Some(part.rendition),
                "a part too long: {} of {target}",
                part.duration
            );
            assert_eq!(durations(part).len(), 1, "a long part holds one frame");
        }
        assert!((segment_ms + 500) / 1_000 <= 4, "a segment of {segment_ms} ms");
        self.long_frame = None;
        boxes(part);
        self.last.insert(
            part.rendition,
            Last { part: part.clone(), timescale: track.timescale, segment_duration, date_offset_ms },
        );
    }
}

/// The part's bytes say the same as the part.
fn boxes(part: &Part) {
    assert!(part.data.len() <= usize::try_from(PART_BYTES_MAX).unwrap());
    let mut rest = part.data.as_ref();
    let moof = Moof::decode(&mut rest).unwrap();
    let moof_bytes = part.data.len() - rest.len();
    let mdat = Header::decode(&mut rest).unwrap();
    assert_eq!((mdat.kind, mdat.size), (b"mdat".into(), Some(rest.len())));
    let [traf] = &moof.traf[..] else { panic!("one track") };
    assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, part.media_time.0);
    let [trun] = &traf.trun[..] else { panic!("one run") };
    assert_eq!(usize::try_from(trun.data_offset.unwrap()).unwrap(), moof_bytes + 8);
    let bytes: usize = trun.samples.iter().map(|entry| usize::try_from(entry.size.unwrap()).unwrap()).sum();
    assert_eq!(bytes, rest.len());
    assert!(trun.samples.iter().all(|entry| entry.duration.unwrap() > 0));
    assert_eq!(durations(part).iter().sum::<u32>(), part.duration);
    let sync = trun.samples.get(0).unwrap().flags.unwrap() & 0x0001_0000 == 0;
    assert_eq!(sync, part.independent);
}

/// The durations of a part's samples.
pub(crate) fn durations(part: &Part) -> Vec<u32> {
    let moof = Moof::decode(&mut part.data.as_ref()).unwrap();
    moof.traf[0].trun[0].samples.iter().map(|entry| entry.duration.unwrap()).collect()
}

/// When a part's samples are presented, in ticks of media time.
pub(crate) fn presentations(part: &Part, track: &Track) -> Vec<i64> {
    let mut init = track.init.as_ref();
    Ftyp::decode(&mut init).unwrap();
    let moov = Moov::decode(&mut init).unwrap();
    let edit = moov.trak[0].edts.as_ref().and_then(|edts| edts.elst.as_ref()?.entries[0].media_time);
    let edit = i64::try_from(edit.unwrap_or(0)).unwrap();
    let moof = Moof::decode(&mut part.data.as_ref()).unwrap();
    let mut time = i64::try_from(part.media_time.0).unwrap();
    moof.traf[0].trun[0]
        .samples
        .iter()
        .map(|entry| {
            let at = time + entry.cts.unwrap_or(0) - edit;
            time += i64::from(entry.duration.unwrap());
            at
        })
        .collect()
}
