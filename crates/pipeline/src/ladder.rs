//! A ladder: one publisher's pictures decoded once, scaled and encoded again for each rung (H.264, by x264).
//!
//! ```text
//! push ─▶ appsrc ─▶ decoder ─▶ queue ─▶ scale ─▶ tee ─▶ x264enc ─▶ appsink ─▶ poll
//!                                                 └▶ queue ─▶ scale ─▶ tee ─▶ …     one thread a rung
//! ```
//!
//! Each rung is scaled from the one above it: that costs half of scaling each from the source, and looks better, for
//! every step is small. A ladder lives as long as one continuity of its stream. Frames carry the time at which their picture is shown on
//! the stream's timeline. Keyframes are where the publisher's segments begin, and nowhere else. Nothing waits for a
//! slow encoder but what stands before it, and that is bounded: [`pace`] says which pictures are left out, and when
//! a rung is given up. What never belongs here: parts, settings, what a machine can carry.

mod pace;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use gst::prelude::*;
use millstream_model::MediaTime;
use millstream_segmenter::{Coded, Picture, TrackConfig};
use thiserror::Error;

use self::pace::{Pace, Verdict};
use crate::Absent;

/// Decoded pictures that wait for one encoder: as many as an encoder's jitter needs, 3 MiB each at 1080p. They are
/// the same pictures for all rungs.
const QUEUE_PICTURES_MAX: u32 = 4;

/// Coded bytes that wait for the decoder at most: far more than [`pace`] lets come together of any usual rate.
const SOURCE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Milliseconds that x264's buffer model holds: a rung's rate keeps to its bound within a part or two of a segment.
const VBV_MS: u32 = 1_000;

/// Pixels a second that one encoder thread is given; 1080p at 30 is 62 million. Slices cost quality, so as few as do.
const THREAD_PIXELS_MAX: u64 = 100_000_000;

/// Encoder threads a rung at most.
const THREADS_MAX: u64 = 4;

/// What is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How it is coded.
    pub config: TrackConfig,
    /// Frames per 1,000 seconds; 0 when not known.
    pub frame_rate_milli: u32,
}

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// What its rate is held to, in kbit/s.
    pub bitrate_kbps: u32,
    /// How hard x264 tries.
    pub preset: Preset,
}

/// x264's presets that live streams use, from the cheapest up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// `ultrafast`
    Ultrafast,
    /// `superfast`
    Superfast,
    /// `veryfast`
    Veryfast,
    /// `faster`
    Faster,
    /// `fast`
    Fast,
    /// `medium`
    Medium,
}

impl Preset {
    /// All of them, from the cheapest up.
    pub const ALL: [Self; 6] =
        [Self::Ultrafast, Self::Superfast, Self::Veryfast, Self::Faster, Self::Fast, Self::Medium];

    /// x264's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
            Self::Faster => "faster",
            Self::Fast => "fast",
            Self::Medium => "medium",
        }
    }
}

/// Why a ladder does not start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// No GStreamer.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// What is to be decoded has no pictures.
    #[error("there is no decoder for what has no pictures")]
    Codec,
    /// GStreamer lacks something, or refuses it.
    #[error("{0}; on Debian, `scripts/setup-debian run` installs what it needs")]
    Element(String),
}

/// What happened to a ladder. Rungs are named by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The encoder says how its frames are to be decoded (an `AVCDecoderConfigurationRecord`); before its first
    /// frame, and once.
    Described {
        /// The rung.
        rung: usize,
        /// The record.
        record: Bytes,
    },
    /// A frame. A rung's come in the order in which they are shown.
    Coded {
        /// The rung.
        rung: usize,
        /// The frame.
        coded: Coded,
    },
    /// The encoder does not keep up: pictures are left out from here on. Told once each time.
    Slow {
        /// The rung.
        rung: usize,
        /// How far it is behind what was pushed.
        late_ms: u64,
    },
    /// The machine does not keep up: this rung has ended, so that others live.
    GivenUp {
        /// The rung.
        rung: usize,
    },
    /// Nothing more comes of this rung.
    Finished {
        /// The rung.
        rung: usize,
    },
    /// Nothing more comes of any rung.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A ladder at work.
pub struct Ladder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    shared: Arc<Shared>,
    /// When the first picture is shown: GStreamer's zero.
    base: Option<u64>,
    ended: bool,
}

impl std::fmt::Debug for Ladder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ladder")
            .field("base", &self.base)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What GStreamer's threads and the owner share.
struct Shared {
    pace: Mutex<Pace>,
    events: Mutex<std::collections::VecDeque<Event>>,
    base: AtomicU64,
    dropped: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn tell(&self, event: Event) {
        self.events().push_back(event);
        (self.wake)();
    }

    /// Not bounded by itself: an event is a frame of a picture that was pushed, and those are.
    fn events(&self) -> MutexGuard<'_, std::collections::VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ladder {
    /// Starts decoder and encoders for `rungs`, the largest first. `wake` is called, from any thread, when [`Self::poll`] has something.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn start(
        source: &Source,
        rungs: &[Rung],
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        crate::init()?;
        let (caps, decoder) = decoder(source)?;
        let pipeline = gst::Pipeline::new();
        let appsrc = gst_app::AppSrc::builder()
            .caps(&caps)
            .format(gst::Format::Time)
            .block(false)
            .max_bytes(0)
            .build();
        add(&pipeline, &[appsrc.upcast_ref(), &decoder])?;
        let pace = Pace::new(rungs.iter().map(|rung| u64::from(rung.width) * u64::from(rung.height)));
        let shared = Arc::new(Shared {
            pace: Mutex::new(pace),
            events: Mutex::default(),
            base: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            wake: Box::new(wake),
        });
        let mut above = decoder;
        for (index, rung) in rungs.iter().enumerate() {
            let last = index + 1 == rungs.len();
            above = branch(&pipeline, &above, index, (*rung, last), source.frame_rate_milli, &shared)?;
        }
        watch(&pipeline, &shared);
        let ladder = Self { pipeline, source: appsrc, shared, base: None, ended: false };
        ladder.pipeline.set_state(gst::State::Playing).map_err(|error| Error::Element(error.to_string()))?;
        Ok(ladder)
    }

    /// The next picture, in decode order.
    pub fn push(&mut self, picture: &Picture) {
        if self.ended {
            return;
        }
        if self.source.current_level_bytes() > SOURCE_BYTES_MAX {
            self.ended = true;
            let reason = format!("more than {SOURCE_BYTES_MAX} bytes wait for the decoder");
            return self.shared.tell(Event::Failed { reason });
        }
        let base = *self.base.get_or_insert(picture.shown.0);
        self.shared.base.store(base, Relaxed);
        // A segment's keyframe is shown at its start; milliseconds may say otherwise by one or two.
        let shown = picture.first.filter(|first| {
            picture.keyframe && first.0.abs_diff(picture.shown.0) <= millstream_segmenter::ROUNDING_TICKS
        });
        let shown = shown.unwrap_or(picture.shown).0;
        self.shared.pace().push(shown, picture.first.map(|first| first.0));
        let mut buffer = gst::Buffer::from_slice(picture.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(nanoseconds(shown.saturating_sub(base)));
            if !picture.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        // It is refused when the pipeline has failed, which is told by itself.
        let _ = self.source.push_buffer(buffer);
    }

    /// No more pictures: what is in the encoders comes out, and then [`Event::Finished`].
    pub fn finish(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = self.source.end_of_stream();
        }
    }

    /// What happened; `None` when nothing did.
    pub fn poll(&mut self) -> Option<Event> {
        let event = self.shared.events().pop_front();
        self.ended |= matches!(event, Some(Event::Failed { .. }));
        event
    }

    /// Pictures that were left out, rung by rung, since this was last asked.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Relaxed)
    }
}

impl Drop for Ladder {
    /// Threads end as soon as the frame is encoded that each is at; nobody waits for that here.
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        let end = move || {
            if let Some(bus) = pipeline.bus() {
                bus.unset_sync_handler();
            }
            let _ = pipeline.set_state(gst::State::Null);
        };
        let here = end.clone();
        if std::thread::Builder::new().name(String::from("ladder-end")).spawn(end).is_err() {
            here();
        }
    }
}

/// What a decoder is told, and the decoder.
fn decoder(source: &Source) -> Result<(gst::Caps, gst::Element), Error> {
    let libav = [("max-threads", "1"), ("max-errors", "-1"), ("qos", "false")];
    let (media, format, alignment, decoder) = match &source.config {
        TrackConfig::H264(_) => ("video/x-h264", "avc", "au", element("avdec_h264", &libav)?),
        TrackConfig::Hevc(_) => ("video/x-h265", "hvc1", "au", element("avdec_h265", &libav)?),
        TrackConfig::Av1(_) => ("video/x-av1", "obu-stream", "tu", element("av1dec", &libav[1..])?),
        TrackConfig::Aac(_) | TrackConfig::Opus(_) => return Err(Error::Codec),
    };
    let rate = i32::try_from(source.frame_rate_milli).ok().filter(|rate| *rate > 0);
    let caps = gst::Caps::builder(media)
        .field("stream-format", format)
        .field("alignment", alignment)
        .field("codec_data", gst::Buffer::from_slice(source.config.bytes().clone()))
        .field("framerate", gst::Fraction::new(rate.unwrap_or(30_000), 1_000));
    Ok((caps.build(), decoder))
}

/// One rung, from what is above it to its sink. Gives what the next is scaled from.
fn branch(
    pipeline: &gst::Pipeline,
    above: &gst::Element,
    index: usize,
    (rung, last): (Rung, bool),
    frame_rate_milli: u32,
    shared: &Arc<Shared>,
) -> Result<gst::Element, Error> {
    let queue = element(
        "queue",
        &[
            ("max-size-buffers", QUEUE_PICTURES_MAX.to_string().as_str()),
            ("max-size-bytes", "0"),
            ("max-size-time", "0"),
        ],
    )?;
    let scale = element("videoconvertscale", &[("add-borders", "false")])?;
    let raw = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", i32::try_from(rung.width).unwrap_or(i32::MAX))
        .field("height", i32::try_from(rung.height).unwrap_or(i32::MAX))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    let size = element("capsfilter", &[])?;
    size.set_property("caps", raw.build());
    let encoder = encoder(rung, frame_rate_milli)?;
    let coded = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("profile", "high");
    let told = Arc::clone(shared);
    let over = Arc::clone(shared);
    let mut described = None;
    let sink = gst_app::AppSink::builder()
        .caps(&coded.build())
        .sync(false)
        .callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    take(&told, index, &mut described, &sample).ok_or(gst::FlowError::Error)?;
                    Ok(gst::FlowSuccess::Ok)
                })
                .eos(move |_| over.tell(Event::Finished { rung: index }))
                .build(),
        )
        .build();
    let tee = element("tee", &[])?;
    add(pipeline, &[&queue, &scale, &size, &tee])?;
    add(pipeline, &[&encoder, sink.upcast_ref()])?;
    above.link(&queue).map_err(refused)?;
    if !last {
        // The next rung's place, which is served first: it does not wait for this encoder.
        tee.request_pad_simple("src_%u").ok_or_else(|| missing("tee"))?;
    }
    let waiting = encoder.static_pad("sink").ok_or_else(|| missing("x264enc"))?;
    let own = tee.request_pad_simple("src_%u").ok_or_else(|| missing("tee"))?;
    own.link(&waiting).map_err(|error| Error::Element(error.to_string()))?;
    let out = encoder.static_pad("src").ok_or_else(|| missing("x264enc"))?.downgrade();
    let (queue, shared) = (queue.downgrade(), Arc::clone(shared));
    waiting.add_probe(gst::PadProbeType::BUFFER, move |_, probe| {
        let Some(pts) = probe.buffer().and_then(|buffer| buffer.pts()) else {
            return gst::PadProbeReturn::Drop;
        };
        let shown = ticks(pts).saturating_add(shared.base.load(Relaxed));
        let level = queue.upgrade().map_or(0, |queue| queue.property::<u32>("current-level-buffers"));
        let verdict = shared.pace().judge(index, shown, level > 0);
        match verdict {
            Verdict::Keep => return gst::PadProbeReturn::Ok,
            Verdict::Keyframe => {
                let force = gst::Structure::new_empty("GstForceKeyUnit");
                if let Some(out) = out.upgrade() {
                    out.send_event(gst::event::CustomUpstream::new(force));
                }
                return gst::PadProbeReturn::Ok;
            }
            Verdict::Slow { late_ms } => shared.tell(Event::Slow { rung: index, late_ms }),
            Verdict::GiveUp { rung } => shared.tell(Event::GivenUp { rung }),
            Verdict::Drop => {}
        }
        shared.dropped.fetch_add(1, Relaxed);
        gst::PadProbeReturn::Drop
    });
    Ok(tee)
}

fn encoder(rung: Rung, frame_rate_milli: u32) -> Result<gst::Element, Error> {
    let frames = if frame_rate_milli == 0 { 30_000 } else { u64::from(frame_rate_milli) };
    let pixels = u64::from(rung.width) * u64::from(rung.height) * frames / 1_000;
    let threads = pixels.div_ceil(THREAD_PIXELS_MAX).clamp(1, THREADS_MAX);
    element(
        "x264enc",
        &[
            ("tune", "zerolatency"),
            ("speed-preset", rung.preset.name()),
            ("bitrate", rung.bitrate_kbps.to_string().as_str()),
            ("vbv-buf-capacity", VBV_MS.to_string().as_str()),
            ("bframes", "0"),
            ("threads", threads.to_string().as_str()),
            ("aud", "false"),
            ("qos", "false"),
            // Keyframes come when they are asked for.
            ("option-string", "scenecut=0:keyint=infinite:open-gop=0"),
        ],
    )
}

/// Tells of a sample from an encoder. `None` when it is not as it must be.
fn take(shared: &Shared, rung: usize, described: &mut Option<Bytes>, sample: &gst::Sample) -> Option<()> {
    let record = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let record = record.map_readable().ok()?;
    match described {
        None => {
            let record = Bytes::copy_from_slice(&record);
            *described = Some(record.clone());
            shared.tell(Event::Described { rung, record });
        }
        Some(before) if *before == record[..] => {}
        // Its frames would need another init segment.
        Some(_) => return None,
    }
    let buffer = sample.buffer()?;
    // x264enc moves times on so that decode times have room; the segment moves them back.
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let shown = ticks(segment.to_running_time(buffer.pts()?)?) + shared.base.load(Relaxed);
    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let data = Bytes::copy_from_slice(&buffer.map_readable().ok()?);
    shared.tell(Event::Coded { rung, coded: Coded { shown: MediaTime(shown), keyframe, data } });
    Some(())
}

/// Tells of what goes wrong anywhere.
fn watch(pipeline: &gst::Pipeline, shared: &Arc<Shared>) {
    let Some(bus) = pipeline.bus() else { return };
    let shared = Arc::clone(shared);
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            shared.tell(Event::Failed { reason: error.error().to_string() });
        }
        // Nobody reads the bus.
        gst::BusSyncReply::Drop
    });
}

fn element(factory: &str, properties: &[(&str, &str)]) -> Result<gst::Element, Error> {
    let element = gst::ElementFactory::make(factory).build().map_err(|_| missing(factory))?;
    for (name, value) in properties {
        if element.find_property(name).is_none() {
            return Err(Error::Element(format!("GStreamer's {factory} has no {name}")));
        }
        element.set_property_from_str(name, value);
    }
    Ok(element)
}

fn missing(factory: &str) -> Error {
    Error::Element(format!("GStreamer has no {factory}"))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: gst::glib::BoolError) -> Error {
    Error::Element(error.to_string())
}

/// Adds elements, each linked to the next.
fn add(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), Error> {
    pipeline.add_many(elements).map_err(refused)?;
    gst::Element::link_many(elements).map_err(refused)
}

/// 90,000 a second in GStreamer's nanoseconds; exact for whole milliseconds.
fn nanoseconds(ticks: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ticks.saturating_mul(100_000) / 9)
}

fn ticks(time: gst::ClockTime) -> u64 {
    (time.nseconds().saturating_mul(9) + 50_000) / 100_000
}
