//! Takes media apart: an MPEG transport stream, a camera's RTSP or a file in, tracks and samples out.
//!
//! ```text
//! bytes ─▶ packets ─▶ appsrc ─▶ tsdemux ┐            ┌ parser ─▶ appsink ─▶ sink ┐
//! camera ──────────▶ rtspsrc ───────────┼─ each pad ─┤                            ├─▶ bounded channel ─▶ Demux::next
//! file ─▶ filesrc ─▶ qtdemux, … ────────┘            └ (a codec not taken: thrown away and said)
//! ```
//!
//! One video and one audio track are taken, the first of each. Whoever does not call [`Demux::next`] holds the threads
//! of GStreamer back, and with them whoever feeds. Dropping a [`Demux`] ends its threads. What never belongs here:
//! when to connect again, stream keys, and whether times make sense (the segmenter's timeline knows).

mod mask;
mod packets;
mod sink;
mod tracks;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use gst::prelude::*;
use millstream_segmenter::{Sample, TrackConfig};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};

pub use self::mask::shown;
use self::{mask::Mask, packets::Packets, tracks::Tracks};
use crate::Absent;

/// Outputs between GStreamer's threads and [`Demux::next`]: a keyframe and the sounds beside it. What waits longer
/// belongs into a queue that counts bytes.
const OUTPUTS_MAX: usize = 16;

/// Bytes of a transport stream that wait for the demuxer: a second of the fastest encoders.
const FEED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a camera's packets may be late, in milliseconds. Over TCP they come in order; this is for its sender's unevenness.
const JITTER_MS: u32 = 200;

/// How much a track is moved with each packet when the camera's reports say how it belongs to the other one. All at
/// once would be a hole as long as a part.
const SYNC_STEP: gst::ClockTime = gst::ClockTime::from_mseconds(10);

/// Bytes at the head of a file by which its kind is known: two packets of a transport stream and one byte.
const HEAD_BYTES: usize = 188 * 2 + 1;

/// What is in the media, as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A track's set-up, new or changed; before its first sample.
    Config(TrackConfig),
    /// A sample. Its time is the media's own, zero about where the media (or listening to a camera) began.
    Sample(Sample),
    /// There is a track that is not taken; the others go on. The text says what to send instead.
    Untaken(String),
}

/// Why media could not be taken apart, or no further.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// GStreamer is not there.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// A plugin of GStreamer is missing.
    #[error("GStreamer's `{0}` is missing; on Debian, `scripts/setup-debian run` installs it")]
    Element(&'static str),
    /// Not a container that is known.
    #[error("this is neither MP4, Matroska (WebM) nor an MPEG transport stream")]
    Container,
    /// A file cannot be read.
    #[error("it cannot be read: {0}")]
    File(String),
    /// Not a URL of a camera.
    #[error("a camera's URL begins with rtsp:// or rtsps://")]
    Url,
    /// No track is one that players take.
    #[error("there is neither H.264 nor AAC in it{0}")]
    Nothing(String),
    /// Neither RTP nor Matroska says when a picture is decoded, and it is not when it is shown.
    #[error(
        "its pictures are not in the order in which they are shown, and nothing says when they are decoded; turn \
         B-frames off in the encoder (in a camera: profile Baseline)"
    )]
    Reordered,
    /// A transport stream whose packets never come to an end.
    #[error("its packets hold frames of more than {} MiB, or never begin one", packets::OPEN_BYTES_MAX >> 20)]
    Endless,
    /// Whatever GStreamer or the other side said.
    #[error("{0}")]
    Broken(String),
}

/// Media being taken apart.
#[derive(Debug)]
pub struct Demux {
    pipeline: gst::Pipeline,
    outputs: mpsc::Receiver<Output>,
    end: Arc<End>,
}

/// Where the bytes of a transport stream go in.
#[derive(Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    packets: Packets,
    room: Arc<Notify>,
    end: Arc<End>,
}

/// The demuxer is over; [`Demux::next`] says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("nothing is taken apart any more")]
pub struct Over;

/// How it ended, and the way for those that find out to say so.
#[derive(Debug)]
struct End {
    how: OnceLock<Result<(), Error>>,
    /// Gone as soon as it has ended, so that the receiver sees the end after what came before it.
    outputs: Mutex<Option<mpsc::Sender<Output>>>,
    over: AtomicBool,
    feed: Arc<Notify>,
}

impl Demux {
    /// Takes a transport stream apart, whose bytes go into the [`Feed`].
    ///
    /// # Errors
    /// When GStreamer or a part of it is missing.
    pub fn transport_stream() -> Result<(Feed, Self), Error> {
        crate::init()?;
        let (this, tracks) = Self::new(Mask::default());
        let room = Arc::clone(&this.end.feed);
        let needed = Arc::clone(&room);
        let caps = gst::Caps::builder("video/mpegts")
            .field("systemstream", true)
            .field("packetsize", i32::try_from(packets::PACKET_BYTES).unwrap_or_default());
        let source = gst_app::AppSrc::builder()
            .caps(&caps.build())
            .format(gst::Format::Bytes)
            .max_bytes(FEED_BYTES_MAX)
            .callbacks(gst_app::AppSrcCallbacks::builder().need_data(move |_, _| needed.notify_one()).build())
            .build();
        // This is for those that play by its clock.
        let demuxer = element("tsdemux", |demuxer| demuxer.set_property("latency", 0i32))?;
        if let Some(pad) = demuxer.static_pad("sink") {
            let all = Arc::clone(&tracks);
            // One that found nothing has nobody to tell of the end.
            pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, probe| {
                if probe.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
                    all.end_of_bytes();
                }
                gst::PadProbeReturn::Ok
            });
        }
        this.begin(&[source.upcast_ref(), &demuxer], &demuxer, tracks)?;
        let feed = Feed { source, packets: Packets::default(), room, end: Arc::clone(&this.end) };
        Ok((feed, this))
    }

    /// Connects to a camera, by TCP, and takes apart what it sends. `patience` is for the connection, and for each of
    /// the camera's answers.
    ///
    /// # Errors
    /// When this is not an RTSP URL, or GStreamer or a part of it is missing. All else comes of [`Self::next`].
    pub fn rtsp(url: &str, patience: Duration) -> Result<Self, Error> {
        crate::init()?;
        if !is_camera(url) {
            return Err(Error::Url);
        }
        let (this, tracks) = Self::new(Mask::of(url));
        let micros = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        let camera = element("rtspsrc", |camera| {
            camera.set_property("location", url);
            camera.set_property_from_str("protocols", "tcp");
            camera.set_property("latency", JITTER_MS);
            // Times are the camera's own. Those made even by when packets came wander, and sound is cut in frames.
            camera.set_property_from_str("buffer-mode", "none");
            camera.set_property("tcp-timeout", micros);
            // Its goodbye must not hold us up: the connection is closed right after.
            camera.set_property("teardown-timeout", gst::ClockTime::from_mseconds(50).nseconds());
        })?;
        camera.connect("new-manager", false, |arguments| {
            let manager = arguments.get(1).and_then(|manager| manager.get::<gst::Element>().ok());
            if let Some(manager) = manager.filter(|manager| manager.has_property("max-ts-offset-adjustment"))
            {
                manager.set_property("max-ts-offset-adjustment", SYNC_STEP.nseconds());
            }
            None
        });
        let chosen = Arc::clone(&tracks);
        // Tracks that are not taken are not even asked for.
        camera.connect("select-stream", false, move |arguments| {
            let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
            Some(caps.is_some_and(|caps| chosen.wants(&caps)).to_value())
        });
        this.begin(&[&camera], &camera, tracks)?;
        Ok(this)
    }

    /// Takes a file apart: MP4, Matroska or a transport stream, as fast as it is read.
    ///
    /// # Errors
    /// When it cannot be opened or is nothing of these, or GStreamer or a part of it is missing.
    pub fn file(path: &Path) -> Result<Self, Error> {
        crate::init()?;
        let demuxer = element(container(path)?, |_| {})?;
        let (this, tracks) = Self::new(Mask::default());
        let source = element("filesrc", |source| source.set_property("location", path))?;
        this.begin(&[&source, &demuxer], &demuxer, tracks)?;
        Ok(this)
    }

    fn new(mask: Mask) -> (Self, Arc<Tracks>) {
        let (sender, outputs) = mpsc::channel(OUTPUTS_MAX);
        let end = Arc::new(End {
            how: OnceLock::new(),
            outputs: Mutex::new(Some(sender)),
            over: AtomicBool::new(false),
            feed: Arc::new(Notify::new()),
        });
        let pipeline = gst::Pipeline::new();
        let tracks = Arc::new(Tracks::new(&pipeline, Arc::clone(&end)));
        let ending = Arc::clone(&end);
        let said = Arc::clone(&tracks);
        if let Some(bus) = pipeline.bus() {
            bus.set_sync_handler(move |_, message| {
                match message.view() {
                    gst::MessageView::Eos(_) => ending.set(said.none_taken().map_or(Ok(()), Err)),
                    gst::MessageView::Error(error) => ending.set(Err(said
                        .none_taken()
                        .unwrap_or_else(|| Error::Broken(mask.hide(&told(error)))))),
                    _ => {}
                }
                // Nobody reads the bus, so nothing may pile up there.
                gst::BusSyncReply::Drop
            });
        }
        (Self { pipeline, outputs, end }, tracks)
    }

    fn begin(&self, chain: &[&gst::Element], pads: &gst::Element, tracks: Arc<Tracks>) -> Result<(), Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
        self.pipeline.add_many(chain).map_err(|error| broken(&error))?;
        gst::Element::link_many(chain).map_err(|error| broken(&error))?;
        let all = Arc::clone(&tracks);
        pads.connect_pad_added(move |_, pad| tracks.add(pad));
        pads.connect_no_more_pads(move |_| all.complete());
        // A source that cannot start has said why by the bus.
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.end.set(Err(Error::Broken(String::from("GStreamer's pipeline does not start"))));
        }
        Ok(())
    }

    /// What comes next; `None` when the media is over. May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// When it cannot go on. Then nothing more comes.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        match self.outputs.recv().await {
            Some(output) => Ok(Some(output)),
            None => self.end.how.get().cloned().unwrap_or(Ok(())).map(|()| None),
        }
    }
}

impl Drop for Demux {
    /// Ends GStreamer's threads and waits for them, which takes milliseconds; for a camera up to a tenth of a second.
    fn drop(&mut self) {
        // First, so that no thread waits for us while we wait for it.
        self.outputs.close();
        self.end.set(Ok(()));
        let _ = self.pipeline.set_state(gst::State::Null);
        if let Some(bus) = self.pipeline.bus() {
            // What it holds holds the pipeline.
            bus.unset_sync_handler();
        }
    }
}

impl Feed {
    /// Puts bytes in, cut anywhere, and waits while the demuxer has enough.
    ///
    /// # Errors
    /// [`Over`] when nothing is taken any more, because of these bytes or for another reason.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let whole = match self.packets.handle(bytes) {
            Ok(whole) => whole,
            Err(error) => {
                self.end.set(Err(error));
                return Err(Over);
            }
        };
        if whole.is_empty() {
            return if self.end.over.load(Relaxed) { Err(Over) } else { Ok(()) };
        }
        while self.source.current_level_bytes() >= FEED_BYTES_MAX && !self.end.over.load(Relaxed) {
            self.room.notified().await;
        }
        if self.end.over.load(Relaxed) {
            return Err(Over);
        }
        let buffer = gst::Buffer::from_slice(Bytes::from(whole));
        self.source.push_buffer(buffer).map(|_| ()).map_err(|_| Over)
    }

    /// Says that there will be no more: what is in is still taken apart.
    pub fn end(self) {
        // Fails only when it is over already.
        let _ = self.source.end_of_stream();
    }
}

impl End {
    /// It ended, and this is how; the first to say so is believed.
    fn set(&self, how: Result<(), Error>) {
        let _ = self.how.set(how);
        self.over.store(true, Relaxed);
        drop(self.outputs.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.feed.notify_one();
    }

    /// Waits for room and puts `output` in; false when it is over.
    fn put(&self, output: Output) -> bool {
        let sender = self.outputs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.is_some_and(|sender| sender.blocking_send(output).is_ok())
    }
}

/// Whether `url` has the form of a camera's.
#[must_use]
pub fn is_camera(url: &str) -> bool {
    ["rtsp://", "rtsps://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
}

fn element(name: &'static str, set: impl FnOnce(&gst::Element)) -> Result<gst::Element, Error> {
    let element = gst::ElementFactory::make(name).build().map_err(|_| Error::Element(name))?;
    set(&element);
    Ok(element)
}

/// The demuxer for a file, by its first bytes: names lie.
fn container(path: &Path) -> Result<&'static str, Error> {
    use std::io::Read as _;

    let mut head = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head))
        .map_err(|error| Error::File(error.to_string()));
    read?;
    let sync = |at: usize| head.get(at) == Some(&packets::SYNC);
    match head.get(..8) {
        Some([_, _, _, _, b'f', b't', b'y', b'p']) => Ok("qtdemux"),
        Some([0x1a, 0x45, 0xdf, 0xa3, ..]) => Ok("matroskademux"),
        Some(_) if sync(0) && sync(packets::PACKET_BYTES) => Ok("tsdemux"),
        _ => Err(Error::Container),
    }
}

/// What GStreamer says and, where it has more to say, the last line of that.
fn told(error: &gst::message::Error) -> String {
    let text = error.error().to_string();
    let more = error.debug();
    match more.as_ref().and_then(|more| more.lines().next_back()) {
        Some(more) if !more.is_empty() && !text.contains(more) => format!("{text} ({more})"),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
