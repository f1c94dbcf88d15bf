//! The segmenter itself: what a publisher does, and when a continuity starts and stops.

use millstream_model::WallTime;

use crate::{
    audio::Audio,
    cadence::Cadence,
    codec::{AudioCodec, VideoCodec},
    gop::Gops,
    hold::Hold,
    output::{Complaint, Output, Picture},
    press::Press,
    roster::Roster,
    sample::{Sample, TrackConfig, TrackKind},
    timeline::Timeline,
    track::PerTrack,
    video::Video,
};

/// Bytes of one sample at most: half of what a part may have, a keyframe of 8K video.
pub const SAMPLE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The latest start of a stream's timeline, in milliseconds: 35,000 years. Leaves room to count on.
const MEDIA_START_MS_MAX: u64 = 1 << 50;

/// Where a stream's numbers go on. The default is a new stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// The media sequence number of the first segment of each rendition.
    pub next_segment: NextSegment,
    /// The discontinuity sequence number of the first part.
    pub next_discontinuity: u32,
    /// The stream's media time at its first keyframe, in milliseconds. Not before the end of what was put out under
    /// the numbers before these.
    pub media_start_ms: u64,
}

/// The media sequence number of the next segment, by rendition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextSegment {
    /// Of [`crate::VIDEO`].
    pub video: u64,
    /// Of [`crate::AUDIO`].
    pub audio: u64,
}

/// What happens to a segmenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A track's decoder configuration (an RTMP sequence header). Repeating it changes nothing.
    Config(TrackConfig),
    /// A coded frame.
    Sample(Sample),
    /// The publisher left; it or another may come back, which its next configuration or sample says. What is whole
    /// is put out.
    Gone,
    /// The stream ends for good.
    End,
}

/// Turns a publisher's samples into parts. See the crate's head.
#[derive(Debug)]
pub struct Segmenter {
    timeline: Timeline,
    next_segment: NextSegment,
    video: Option<VideoCodec>,
    audio: Option<AudioCodec>,
    roster: Roster,
    press: Press,
    state: State,
    told: Told,
    gops: Gops,
    /// Whether somebody wants the pictures.
    pictures: bool,
}

#[derive(Debug)]
enum State {
    /// Between continuities.
    Waiting(Hold),
    /// In a continuity.
    Running(Box<Lanes>),
    Ended,
}

/// The tracks of a continuity.
#[derive(Debug, Default)]
struct Lanes {
    video: Option<Video>,
    audio: Option<Audio>,
    /// The publisher has a track, or a configuration, that this continuity has not: the next keyframe begins
    /// another.
    stale: bool,
}

/// What was complained of already in this wait, lest every sample repeat it.
#[derive(Debug, Default)]
struct Told {
    no_config: PerTrack<bool>,
    no_keyframe: bool,
}

impl Segmenter {
    /// A segmenter before its first publisher.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let start_ms = config.media_start_ms.min(MEDIA_START_MS_MAX);
        Self {
            timeline: Timeline::new(start_ms, config.next_discontinuity),
            next_segment: config.next_segment,
            video: None,
            audio: None,
            roster: Roster::default(),
            press: Press::default(),
            state: State::Waiting(Hold::default()),
            told: Told::default(),
            gops: Gops::default(),
            pictures: false,
        }
    }

    /// The same, but it gives [`Output::Picture`]s, too.
    #[must_use]
    pub fn with_pictures(self) -> Self {
        Self { pictures: true, ..self }
    }

    /// How the pictures are coded: the newest video configuration that could be used.
    #[must_use]
    pub fn video_config(&self) -> Option<TrackConfig> {
        self.video.as_ref().map(|codec| codec.config.clone())
    }

    /// Takes what happened at `wall`. Drain [`Self::poll`] after each call: what is not drained is kept.
    pub fn handle(&mut self, input: Input, wall: WallTime) {
        match (input, &self.state) {
            (Input::Gone, State::Ended) => {}
            (_, State::Ended) => self.press.complain(Complaint::Ended),
            (Input::Config(config), _) => self.configure(config),
            (Input::Sample(sample), _) => self.sample(sample, wall),
            (Input::Gone, _) => self.leave(),
            (Input::End, _) => {
                self.leave();
                self.state = State::Ended;
                self.press.put(Output::Ended);
            }
        }
    }

    /// The next output; `None` when there is none until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.press.pop()
    }

    fn configure(&mut self, config: TrackConfig) {
        let track = config.track();
        let changed = match track {
            TrackKind::Video if self.video.as_ref().is_some_and(|known| known.config == config) => return,
            TrackKind::Audio if self.audio.as_ref().is_some_and(|known| known.config == config) => return,
            TrackKind::Video => VideoCodec::parse(config).map(|codec| self.video = Some(codec)),
            TrackKind::Audio => AudioCodec::parse(config).map(|codec| self.audio = Some(codec)),
        };
        match changed {
            Ok(()) => self.reconfigured(track),
            Err(reason) => self.press.complain(Complaint::Config { track, reason }),
        }
    }

    /// A track's samples from here on are coded differently.
    fn reconfigured(&mut self, track: TrackKind) {
        match (&mut self.state, track) {
            (State::Waiting(hold), _) => hold.forget(track),
            (State::Running(lanes), TrackKind::Video) if lanes.video.is_some() => self.stop(),
            (State::Running(lanes), TrackKind::Audio) if lanes.audio.is_some() => {
                if lanes.video.is_none() {
                    return self.stop();
                }
                // The picture goes on until a keyframe lets both begin anew.
                lanes.stale = true;
                if let Some(mut audio) = lanes.audio.take() {
                    self.timeline.reach(audio.finish().unwrap_or(0));
                    self.next_segment.audio = audio.cutter.next_segment();
                    self.press.parts(track, &mut audio.cutter, &self.timeline);
                }
            }
            _ => {}
        }
    }

    fn sample(&mut self, sample: Sample, wall: WallTime) {
        let track = sample.track;
        if sample.data.is_empty() || sample.data.len() > SAMPLE_BYTES_MAX {
            return self.press.complain(Complaint::Size { track, bytes: sample.data.len() });
        }
        if !*self.known().of(track) {
            if !std::mem::replace(self.told.no_config.of_mut(track), true) {
                self.press.complain(Complaint::NoConfig { track });
            }
            return;
        }
        let Some(sample) = self.readable(sample) else {
            return self.press.complain(Complaint::Unreadable { track });
        };
        if let Some(by_ms) = self.timeline.observe(track, sample.dts_ms) {
            self.press.complain(Complaint::Jump { track, by_ms });
            match &mut self.state {
                State::Waiting(hold) => hold.forget(track),
                _ => self.stop(),
            }
        }
        if let State::Running(lanes) = &mut self.state {
            let present = match track {
                TrackKind::Video => lanes.video.is_some(),
                TrackKind::Audio => lanes.audio.is_some(),
            };
            let turn = track == TrackKind::Video && sample.keyframe;
            match (present, turn) {
                (false, true) => self.stop(),
                (true, true) if lanes.stale => self.stop(),
                (true, _) => return self.feed(sample),
                (false, false) => {
                    lanes.stale = true;
                    return;
                }
            }
        }
        self.wait(sample, wall);
    }

    /// A sample as it is put out; `None` when it is none of its codec.
    fn readable(&self, sample: Sample) -> Option<Sample> {
        match sample.track {
            TrackKind::Video => self.video.as_ref()?.sample(sample),
            TrackKind::Audio => self.audio.as_ref()?.samples(&sample.data).map(|_| sample),
        }
    }

    /// Holds a sample until a continuity can start, and starts it.
    fn wait(&mut self, sample: Sample, wall: WallTime) {
        let known = self.known();
        let State::Waiting(hold) = &mut self.state else { return };
        if !hold.has_room(&sample) {
            // It has waited for long in bytes, if not in time.
            self.start();
            return self.feed(sample);
        }
        if hold.push(sample, wall).is_some() {
            if !std::mem::replace(&mut self.told.no_keyframe, true) {
                self.press.complain(Complaint::NoKeyframe);
            }
        } else if hold.is_ready(known) {
            self.start();
        }
    }

    /// Starts a continuity with what is held.
    fn start(&mut self) {
        let State::Waiting(hold) = &mut self.state else { return };
        let hold = std::mem::take(hold);
        let times = hold.times(TrackKind::Video);
        let cadence = Cadence::measure(&times);
        let (video, audio) = (hold.first(TrackKind::Video), hold.first(TrackKind::Audio));
        let mut tracks = Vec::new();
        let mut lanes = Lanes::default();
        let anchor = if let (Some(first), Some(codec)) = (video, &self.video) {
            let shift_ms = Video::shift_of(&first.sample);
            let (track, edit_ms) = self.roster.video(codec, cadence, shift_ms);
            let (target_ms, segment) = (track.part_target_ms, self.next_segment.video);
            let leading = codec.leading();
            let mut lane = Video::new(shift_ms, edit_ms, cadence, leading, target_ms, segment);
            lane.pictures = self.pictures.then(Vec::new);
            self.timeline.begin(TrackKind::Video, lane.shifted_ms(&first.sample), first.wall);
            tracks.push(track);
            lanes.video = Some(lane);
            Some(first.sample.dts_ms)
        } else if let Some(first) = audio {
            self.timeline.begin(TrackKind::Audio, first.sample.dts_ms, first.wall);
            Some(first.sample.dts_ms)
        } else {
            None
        };
        if let (Some(first), Some(codec)) = (audio, &self.audio) {
            let frame = codec.samples(&first.sample.data).unwrap_or(codec.silence_samples);
            let track = self.roster.audio(codec, frame);
            let (base_ms, target_ms) = (self.timeline.base_ms(), track.part_target_ms);
            let segment = self.next_segment.audio;
            lanes.audio = Some(Audio::new(codec.clone(), frame, base_ms, target_ms, segment));
            tracks.push(track);
        }
        let anchored = if lanes.video.is_some() { TrackKind::Video } else { TrackKind::Audio };
        if let Some(tracks) = self.roster.announce(tracks) {
            self.press.put(Output::Tracks(tracks));
        }
        self.state = State::Running(Box::new(lanes));
        let mut before_anchor = true;
        for arrival in hold.into_arrivals() {
            let sample = arrival.sample;
            before_anchor &= sample.track != anchored || Some(sample.dts_ms) != anchor;
            if before_anchor && !self.timeline.shares_clock(sample.track, sample.dts_ms) {
                // It came before the anchor, on a clock that tells nothing about it.
                continue;
            }
            self.feed(sample);
        }
    }

    /// Puts a sample on its lane.
    fn feed(&mut self, sample: Sample) {
        let State::Running(lanes) = &mut self.state else { return };
        let base_ms = i64::try_from(self.timeline.base_ms()).unwrap_or(i64::MAX);
        let complaint = match (sample.track, &mut lanes.video, &mut lanes.audio) {
            (TrackKind::Video, Some(video), _) => {
                let offset_ms = self.timeline.place(TrackKind::Video, video.shifted_ms(&sample));
                let at_ms = u64::try_from(base_ms.saturating_add(offset_ms)).unwrap_or(0);
                if let Some(told) = self.gops.observe(sample.keyframe, at_ms) {
                    self.press.complain(told);
                }
                video.push(sample, base_ms.saturating_add(offset_ms))
            }
            (TrackKind::Audio, _, Some(audio)) => {
                let offset_ms = self.timeline.place(TrackKind::Audio, sample.dts_ms);
                audio.push(sample, base_ms.saturating_add(offset_ms))
            }
            _ => None,
        };
        if let Some(complaint) = complaint {
            self.press.complain(complaint);
        }
        self.print();
    }

    /// Puts out the parts that are finished.
    fn print(&mut self) {
        let State::Running(lanes) = &mut self.state else { return };
        if let Some(video) = &mut lanes.video {
            for picture in video.pictures.iter_mut().flat_map(|pictures| pictures.drain(..)) {
                let discontinuity = self.timeline.discontinuity();
                self.press.put(Output::Picture(Picture { discontinuity, ..picture }));
            }
            self.press.parts(TrackKind::Video, &mut video.cutter, &self.timeline);
        }
        if let Some(audio) = &mut lanes.audio {
            self.press.parts(TrackKind::Audio, &mut audio.cutter, &self.timeline);
        }
    }

    /// The publisher left.
    fn leave(&mut self) {
        let known = self.known();
        if let State::Waiting(hold) = &self.state {
            // A moment of one track alone is not worth telling every viewer of new tracks.
            let whole = |track| hold.first(track).is_some() || !*known.of(track);
            if !hold.is_empty() && TrackKind::BOTH.into_iter().all(whole) {
                self.start();
            }
        }
        self.stop();
        self.gops.forget();
        self.timeline.forget_clocks();
    }

    /// Ends the continuity, if one is open, with what is whole.
    fn stop(&mut self) {
        if let State::Running(lanes) = &mut self.state {
            if let Some(video) = &mut lanes.video {
                self.timeline.reach(video.finish().unwrap_or(0));
                self.next_segment.video = video.cutter.next_segment();
            }
            if let Some(audio) = &mut lanes.audio {
                self.timeline.reach(audio.finish().unwrap_or(0));
                self.next_segment.audio = audio.cutter.next_segment();
            }
        }
        self.print();
        self.gops.cut();
        self.state = State::Waiting(Hold::default());
        self.told = Told::default();
    }

    /// Which tracks have a configuration.
    fn known(&self) -> PerTrack<bool> {
        PerTrack { video: self.video.is_some(), audio: self.audio.is_some() }
    }
}
