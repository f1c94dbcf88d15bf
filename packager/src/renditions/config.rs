//! Settings: which renditions, and at what cost.

use std::{fmt, str::FromStr};

use millstream_model::StreamId;
use serde::{Deserialize, Serialize};

/// Rungs of a ladder at most: a player's list, and a byte's worth of renditions, have room for more than is of use.
const STEPS_MAX: usize = 8;

/// Lines that a step may have, and rates.
const LINES: std::ops::RangeInclusive<u32> = 64..=4_320;
const KBPS: std::ops::RangeInclusive<u32> = 50..=100_000;

millstream_service::settings! {
    /// Renditions beside the publisher's own; `docs/operating/renditions.md` says more.
    pub struct Config {
        /// `passthrough`: viewers get what the publisher sends, and nothing is decoded. Or a ladder: `720p,480p,360p`,
        /// each with a rate of your choice where you like, `720p@3000k,360p`. Rungs larger than the source are left
        /// out; sound is passed through.
        pub default: Renditions = Renditions::default(),
        /// The same for single streams, e.g. `[{ stream = "show", renditions = "720p,360p" }]`.
        pub streams: Vec<StreamRenditions> = Vec::new(),
        /// How hard the encoder tries: `ultrafast`, `superfast`, `veryfast`, `faster`, `fast` or `medium`. Each looks
        /// better than the one before it and costs about a third more.
        pub preset: Preset = Preset::default(),
        /// Cores that all ladders together may take; 0: three quarters of the machine's. What a ladder will take is
        /// reckoned before it starts.
        pub cpu_cores_max: f64 = 0.0,
        /// What becomes of a ladder for which no cores are left: `trim` leaves its largest rungs out, `refuse` sends
        /// the publisher away. Either is told by event.
        pub excess: Excess = Excess::Trim,
    }
}

impl Config {
    /// What this stream has.
    #[must_use]
    pub fn of(&self, stream: &StreamId) -> &Renditions {
        let own = self.streams.iter().find(|own| own.stream == *stream);
        own.map_or(&self.default, |own| &own.renditions)
    }

    /// Whether any stream may have a ladder.
    #[must_use]
    pub fn has_ladders(&self) -> bool {
        let all = self.streams.iter().map(|own| &own.renditions).chain([&self.default]);
        all.into_iter().any(|renditions| !renditions.0.is_empty())
    }
}

/// One stream's renditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRenditions {
    /// Its name.
    pub stream: StreamId,
    /// As in `default`.
    pub renditions: Renditions,
}

/// The steps of a ladder, the largest first; none: passthrough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Renditions(Vec<Step>);

/// One rung as it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Lines of a picture in landscape; of one in portrait, its columns.
    pub lines: u32,
    /// Its rate; the usual one when it is not set.
    pub bitrate_kbps: Option<u32>,
}

impl Renditions {
    /// The steps, the largest first.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl FromStr for Renditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "passthrough" {
            return Ok(Self::default());
        }
        let mut steps = text.split(',').map(|step| step.trim().parse()).collect::<Result<Vec<Step>, _>>()?;
        steps.sort_by_key(|step| std::cmp::Reverse(step.lines));
        if steps.len() > STEPS_MAX {
            return Err(format!("{} renditions; at most {STEPS_MAX}", steps.len()));
        }
        if let Some(twice) = steps.windows(2).find(|pair| pair[0].lines == pair[1].lines) {
            return Err(format!("{}p stands there twice", twice[0].lines));
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Renditions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("passthrough");
        }
        for (index, step) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{}p", step.lines)?;
            if let Some(kbps) = step.bitrate_kbps {
                write!(out, "@{kbps}k")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let odd = || format!("`{text}` is no rendition: write `passthrough`, or e.g. `720p` or `720p@3000k`");
        let (lines, rate) = match text.split_once('@') {
            Some((lines, rate)) => (lines, Some(rate)),
            None => (text, None),
        };
        let lines: u32 = lines.strip_suffix('p').and_then(|lines| lines.parse().ok()).ok_or_else(odd)?;
        let bitrate_kbps = match rate {
            Some(rate) => Some(rate.strip_suffix('k').and_then(|rate| rate.parse().ok()).ok_or_else(odd)?),
            None => None,
        };
        if !LINES.contains(&lines) || !lines.is_multiple_of(2) {
            return Err(format!("{lines}p: even, and {} to {} lines", LINES.start(), LINES.end()));
        }
        if bitrate_kbps.is_some_and(|kbps| !KBPS.contains(&kbps)) {
            return Err(format!("`{text}`: {}k to {}k", KBPS.start(), KBPS.end()));
        }
        Ok(Self { lines, bitrate_kbps })
    }
}

impl TryFrom<String> for Renditions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Renditions> for String {
    fn from(renditions: Renditions) -> Self {
        renditions.to_string()
    }
}

/// How hard the encoder tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Preset(pub millstream_pipeline::ladder::Preset);

impl Default for Preset {
    fn default() -> Self {
        Self(millstream_pipeline::ladder::Preset::Veryfast)
    }
}

impl TryFrom<String> for Preset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let all = millstream_pipeline::ladder::Preset::ALL;
        all.into_iter().find(|preset| preset.name() == text).map(Self).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|preset| preset.name()).collect();
            format!("`{text}` is no preset; there are {}", names.join(", "))
        })
    }
}

impl From<Preset> for String {
    fn from(preset: Preset) -> Self {
        preset.0.name().to_owned()
    }
}

/// What becomes of a ladder for which no cores are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Excess {
    /// Its largest rungs are left out.
    Trim,
    /// Its publisher is sent away.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladders_are_written_as_people_say_them() {
        for text in ["passthrough", "720p,480p,360p", "1080p@4500k,720p,240p@300k"] {
            assert_eq!(text.parse::<Renditions>().unwrap().to_string(), text);
        }
        let sorted: Renditions = " 360p, 720p@2500k ".parse().unwrap();
        assert_eq!(sorted.to_string(), "720p@2500k,360p");
        assert_eq!(sorted.steps()[0], Step { lines: 720, bitrate_kbps: Some(2_500) });
    }

    #[test]
    fn what_is_no_ladder_is_refused_with_what_would_be_right() {
        for (text, why) in [
            ("", "write `passthrough`"),
            ("720", "write `passthrough`"),
            ("720p@", "write `passthrough`"),
            ("720p@3m", "write `passthrough`"),
            ("721p", "even"),
            ("0p", "64 to 4320"),
            ("9999p", "64 to 4320"),
            ("720p@1k", "50k to 100000k"),
            ("720p,720p@3000k", "twice"),
            ("64p,66p,68p,70p,72p,74p,76p,78p,80p", "at most 8"),
        ] {
            let error = text.parse::<Renditions>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_stream_of_its_own_name_wins_over_the_default() {
        let mut config = Config::default();
        assert!(!config.has_ladders());
        let stream = StreamId::new("show").unwrap();
        config.streams.push(StreamRenditions { stream: stream.clone(), renditions: "360p".parse().unwrap() });
        assert!(config.has_ladders());
        assert_eq!(config.of(&stream).to_string(), "360p");
        assert_eq!(config.of(&StreamId::new("other").unwrap()).to_string(), "passthrough");
    }
}
