//! What of a ladder suits a source.
//!
//! Pure. Nothing is scaled up: it would cost and show nothing more. A rung of the source's own size is made where
//! its rate is set, for only then it can be known to be of use.

use millstream_model::RenditionId;
use millstream_pipeline::ladder::{Preset, Rung};
use millstream_segmenter::TrackConfig;
use millstream_wire::media::Media;

use super::config::Step;

/// Renditions from here on are rungs, in the order of their steps: a number keeps its meaning over a generation.
const RUNGS_FROM: u8 = 16;

/// Frames in 1,000 seconds from which a usual rate has half more: half as many again look as well at twice as many.
const FAST_FRAMES_MILLI: u32 = 40_000;

/// Usual rates in kbit/s at 30 frames a second, by lines: near what Apple's authoring specification lists.
const USUAL_KBPS: [(u32, u32); 9] = [
    (144, 150),
    (240, 350),
    (360, 730),
    (480, 1_300),
    (540, 1_800),
    (720, 2_800),
    (1_080, 5_000),
    (1_440, 9_000),
    (2_160, 16_000),
];

/// How the publisher's pictures are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
    /// AV1.
    Av1,
}

impl Coding {
    /// What this configuration is for; `None` for sound.
    #[must_use]
    pub const fn of(config: &TrackConfig) -> Option<Self> {
        match config {
            TrackConfig::H264(_) => Some(Self::H264),
            TrackConfig::Hevc(_) => Some(Self::Hevc),
            TrackConfig::Av1(_) => Some(Self::Av1),
            TrackConfig::Aac(_) | TrackConfig::Opus(_) => None,
        }
    }
}

/// What is known of the publisher's pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels as they are coded.
    pub width: u32,
    /// Pixels as they are coded.
    pub height: u32,
    /// Frames per 1,000 seconds; 0 when not known.
    pub frame_rate_milli: u32,
    /// Their codec.
    pub coding: Coding,
}

impl Size {
    /// Frames per 1,000 seconds, or what is usual.
    #[must_use]
    pub const fn frames_milli(self) -> u32 {
        if self.frame_rate_milli == 0 { 30_000 } else { self.frame_rate_milli }
    }

    /// Pixels a second.
    #[must_use]
    pub fn pixels_per_second(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.frames_milli()) / 1_000
    }
}

/// A rung to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The rendition it is.
    pub rendition: RenditionId,
    /// Its lines, as the step says.
    pub lines: u32,
    /// What the encoder is told.
    pub rung: Rung,
}

/// A ladder for one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The source.
    pub source: Size,
    /// The largest first.
    pub rungs: Vec<Planned>,
    /// Lines of the steps that are too large for the source.
    pub too_large: Vec<u32>,
}

impl Plan {
    /// The rungs of `steps` that suit `source`.
    #[must_use]
    pub fn new(source: Size, steps: &[Step], preset: Preset) -> Self {
        let short = source.width.min(source.height);
        let mut plan = Self { source, rungs: Vec::new(), too_large: Vec::new() };
        for (index, step) in steps.iter().enumerate() {
            if step.lines > short || (step.lines == short && step.bitrate_kbps.is_none()) {
                plan.too_large.push(step.lines);
                continue;
            }
            let scaled = |side: u32| {
                let exact = u64::from(side) * u64::from(step.lines);
                // To the nearest even number: 4:2:0 has a colour for each four pixels.
                let even = (exact + u64::from(short)) / (2 * u64::from(short)) * 2;
                u32::try_from(even.max(2)).unwrap_or(u32::MAX)
            };
            let bitrate_kbps =
                step.bitrate_kbps.unwrap_or_else(|| usual_kbps(step.lines, source.frames_milli()));
            let rung =
                Rung { width: scaled(source.width), height: scaled(source.height), bitrate_kbps, preset };
            let rendition = RenditionId(RUNGS_FROM.saturating_add(u8::try_from(index).unwrap_or(u8::MAX)));
            plan.rungs.push(Planned { rendition, lines: step.lines, rung });
        }
        plan
    }
}

/// What a rung is called: `720p`. `None` for what is no rung.
#[must_use]
pub fn rung_name(rendition: RenditionId, media: &Media) -> Option<String> {
    match media {
        Media::Video { width, height, .. } if rendition.0 >= RUNGS_FROM => {
            Some(format!("{}p", (*width).min(*height)))
        }
        _ => None,
    }
}

/// The usual rate of a rung; between two lines, between their rates.
fn usual_kbps(lines: u32, frames_milli: u32) -> u32 {
    let above = USUAL_KBPS.iter().position(|(known, _)| *known >= lines);
    let at_30 = match above {
        Some(0) => USUAL_KBPS[0].1,
        None => USUAL_KBPS[USUAL_KBPS.len() - 1].1,
        Some(index) => {
            let ((low, low_kbps), (high, high_kbps)) = (USUAL_KBPS[index - 1], USUAL_KBPS[index]);
            low_kbps + (high_kbps - low_kbps) * (lines - low) / (high - low)
        }
    };
    if frames_milli > FAST_FRAMES_MILLI { at_30 * 3 / 2 } else { at_30 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<super::super::Renditions>().unwrap().steps().to_vec()
    }

    fn plan(width: u32, height: u32, frame_rate_milli: u32, text: &str) -> Plan {
        let source = Size { width, height, frame_rate_milli, coding: Coding::H264 };
        Plan::new(source, &steps(text), Preset::Veryfast)
    }

    fn sizes(plan: &Plan) -> Vec<(u32, u32, u32)> {
        plan.rungs.iter().map(|p| (p.rung.width, p.rung.height, p.rung.bitrate_kbps)).collect()
    }

    #[test]
    fn a_ladder_keeps_the_sources_shape() {
        let usual = plan(1_920, 1_080, 30_000, "720p,480p,360p");
        assert_eq!(sizes(&usual), [(1_280, 720, 2_800), (854, 480, 1_300), (640, 360, 730)]);
        let portrait = plan(1_080, 1_920, 60_000, "720p@3000k,360p");
        assert_eq!(sizes(&portrait), [(720, 1_280, 3_000), (360, 640, 1_095)]);
        let odd = plan(1_000, 562, 0, "240p");
        assert_eq!(sizes(&odd), [(428, 240, 350)]);
    }

    #[test]
    fn nothing_is_scaled_up_and_numbers_keep_their_meaning() {
        let small = plan(1_280, 720, 30_000, "1080p,720p,480p,360p");
        assert_eq!(small.too_large, [1_080, 720]);
        assert_eq!(sizes(&plan(1_280, 720, 30_000, "720p@1500k")), [(1_280, 720, 1_500)]);
        let renditions: Vec<RenditionId> = small.rungs.iter().map(|planned| planned.rendition).collect();
        assert_eq!(renditions, [RenditionId(18), RenditionId(19)]);
        assert!(plan(128, 72, 30_000, "720p").rungs.is_empty());
    }

    #[test]
    fn usual_rates_rise_with_the_lines() {
        let rates: Vec<u32> = (64..2_400).step_by(2).map(|lines| usual_kbps(lines, 30_000)).collect();
        assert!(rates.is_sorted() && rates[0] == 150 && rates.last() == Some(&16_000));
        assert_eq!(usual_kbps(720, 60_000), 4_200);
    }
}
