//! The demo publisher: GStreamer's test picture with a burnt-in clock and a tone, pushed by real RTMP.

use std::time::Duration;

use anyhow::Context as _;
use gst::{MessageView, prelude::*};
use millstream_service::Spawner;

/// Time before a pipeline that failed is built anew.
const RETRY: Duration = Duration::from_secs(2);

/// What is published: 720p30 at 2 Mbit/s with a keyframe every two seconds, AAC at 96 kbit/s. `is-live` makes the
/// sources keep the clock's time.
fn description(location: &str) -> String {
    format!(
        "flvmux name=mux streamable=true latency=200000000 ! rtmp2sink location={location} async-connect=true \
         videotestsrc is-live=true pattern=smpte ! video/x-raw,width=1280,height=720,framerate=30/1 \
           ! clockoverlay time-format=%H:%M:%S halignment=center valignment=center font-desc=\"Sans, 48\" \
           ! timeoverlay halignment=right valignment=bottom font-desc=\"Sans, 24\" \
           ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=60 \
           ! video/x-h264,profile=main ! h264parse ! queue ! mux. \
         audiotestsrc is-live=true wave=ticks volume=0.3 ! audio/x-raw,rate=48000,channels=2 \
           ! audioconvert ! avenc_aac bitrate=96000 ! aacparse ! queue ! mux."
    )
}

/// Publishes to `location` (with its stream key) on a task of `tasks` until the drain. A pipeline that ends is built
/// anew.
pub(crate) fn publish(location: String, tasks: &Spawner) -> anyhow::Result<()> {
    gst::init().context("GStreamer does not start")?;
    // Built once here, so that a missing plugin is an error at the start and not a line in the log.
    gst::parse::launch(&description("rtmp://127.0.0.1:9/live/x"))
        .context("GStreamer lacks a plugin for the demo: scripts/setup-debian run installs them")?;
    let drain = tasks.drain();
    tasks.spawn("demo publisher", async move {
        while !drain.has_begun() {
            if let Err(error) = run(&location, &drain).await {
                // The location holds the stream key: never in a log.
                tracing::warn!("demo publisher: {error:#}; again in {} s", RETRY.as_secs());
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = drain.begun() => {}
            }
        }
    });
    Ok(())
}

/// A pipeline that stops when it goes out of sight.
struct Running(gst::Element);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

async fn run(location: &str, drain: &millstream_service::tasks::Drain) -> anyhow::Result<()> {
    let pipeline = Running(gst::parse::launch(&description(location)).context("building the pipeline")?);
    let bus = pipeline.0.bus().context("a pipeline has a bus")?;
    let (say, mut said) = tokio::sync::mpsc::channel::<String>(1);
    bus.set_sync_handler(move |_, message| {
        let end = match message.view() {
            MessageView::Error(error) => Some(error.error().message().to_owned()),
            MessageView::Eos(_) => Some("end of stream".to_owned()),
            _ => None,
        };
        if let Some(end) = end {
            let _ = say.try_send(end);
        }
        gst::BusSyncReply::Drop
    });
    pipeline.0.set_state(gst::State::Playing).context("starting the pipeline")?;
    tokio::select! {
        end = said.recv() => anyhow::bail!("the pipeline ended: {}", end.unwrap_or_default()),
        () = drain.begun() => Ok(()),
    }
}
