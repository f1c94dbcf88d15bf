//! From the last frame of a part at the RTMP socket to the part, whole and verified, at the edge.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_e2e::{media::Clip, origin::Origin, publisher, stack::Stack, time::go_on, viewers::Watch};
use millstream_edge::{Config, Edge, Leaving, Outgoing};
use millstream_model::RenditionId;
use millstream_service::ops;
use millstream_wire::media::{Catalog, Record};
use tokio::{runtime::Runtime, sync::oneshot};

use super::Bench;
use crate::{
    clips::{FULL, STRAIGHT},
    figures::quantile,
    sheet::Sheet,
    tap::{self, Seen, Tap},
};

const SECONDS: u32 = 25;
const STREAM: &str = "show";
const RENDITION: &str = "video";

/// What the part before the first record that is asked for (number 1; 0 asks for the newest) lasts at most.
const FIRST_PART_SECONDS_MAX: f64 = 0.5;

/// How often the origin is asked for the first playlist, and for how long.
const PLAYLIST_POLL: Duration = Duration::from_millis(2);
const PLAYLIST_PATIENCE: Duration = Duration::from_secs(30);

/// Less parts than that tell nothing.
const PARTS_MIN: usize = 8;

pub(super) fn run(bench: &Bench, sheet: &mut Sheet) -> anyhow::Result<()> {
    let clips = [(FULL, "two B-frames"), (STRAIGHT, "no B-frames")];
    for (clip, _) in clips {
        clip.file()?;
    }
    bench.each_run(|| {
        for (clip, order) in clips {
            bench.progress(order);
            one_show(bench, &clip, order, sheet)?;
        }
        Ok(())
    })?;
    sheet.remark(
        "5 Mbit/s 1080p30 by ffmpeg. A frame is received when its last byte arrives at a tap right before the packager's \
         RTMP socket (the tap passes bytes on first, then reads along); a part is at the edge when its last piece, which \
         the edge lets in only verified, is handed to the connection of its one viewer. All on one machine and one \
         clock: publisher's and network's delays are not in it, the hop from tap to packager and the edge's way from \
         cache to connection are. A part ends where the next frame begins, so the first figure holds one frame's time \
         (33 ms); the second is what our programs add. There is a playlist when the origin, which is asked every 2 ms, \
         gives one: its first part lasts 250 ms, and ends with the frame behind it.",
    );
    Ok(())
}

fn one_show(bench: &Bench, clip: &Clip, order: &str, sheet: &mut Sheet) -> anyhow::Result<()> {
    let time = bench.seconds(SECONDS);
    let apart = Stack::apart()?;
    let stack = &apart.stack;
    let watch = Arc::new(Stamps::default());
    let edge = Own::start(stack, Arc::clone(&watch) as Arc<dyn Outgoing>)?;
    let created = stack.create(STREAM)?;
    let packager: SocketAddr = apart.packager.said("rtmp")?.parse()?;
    let tap = Tap::start(packager)?;
    let url = format!("rtmp://{}/live/{}", tap.address, created.stream_key);
    let origin = Origin::new(&stack.ready.origin, STREAM)?;
    let asking = std::thread::spawn(move || first_playlist(&origin));
    let _publisher = publisher::push(clip, &url, stack.folder())?;
    stack.live(STREAM)?;
    let listed = asking.join().map_err(|_| anyhow::anyhow!("the playlist's watch ended"))?;
    let listed = listed.context("there was no playlist in time")?;
    let viewer = Watch::new(&stack.ready.tracker, STREAM, u32::try_from(time.as_secs())? + 5);
    let viewer = viewer.start(bench.folder.path())?;
    go_on(time);
    let (catalog, records) = stack.origin(STREAM)?.records(RENDITION)?;
    let log = viewer.log();
    drop((viewer, edge));
    let frames = tap.frames();
    let delays = delays(timescale(&catalog)?, &records, &frames, &watch.whole())?;
    ensure!(delays.len() >= PARTS_MIN, "only {} parts were seen whole: {log}", delays.len());
    for percent in [50, 95] {
        let of = |pick: fn(&Delay) -> f64| {
            let values: Vec<f64> = delays.iter().map(pick).collect();
            quantile(&values, percent).context("no delays")
        };
        let what = format!("{order}: last frame received to part at the edge, p{percent}");
        sheet.note(&what, "ms", of(|delay| delay.since_last_ms)?);
        let what = format!("{order}: next frame received to part at the edge, p{percent}");
        sheet.note(&what, "ms", of(|delay| delay.since_next_ms)?);
    }
    let first = frames.first().context("no frames")?.at;
    let what = format!("{order}: first frame received to playlist");
    sheet.note(&what, "ms", tap::millis_between(first, listed));
    sheet.note(&format!("{order}: parts measured"), "count", f64::from(u32::try_from(delays.len())?));
    Ok(())
}

/// When the origin first had a playlist.
fn first_playlist(origin: &Origin) -> Option<Instant> {
    let began = Instant::now();
    while began.elapsed() < PLAYLIST_PATIENCE {
        if origin.playlist(RENDITION).is_ok() {
            return Some(Instant::now());
        }
        std::thread::park_timeout(PLAYLIST_POLL);
    }
    None
}

/// Ticks of the video's clock in a second.
fn timescale(catalog: &Catalog) -> anyhow::Result<f64> {
    let rendition = catalog.renditions.iter().find(|rendition| rendition.name == RENDITION);
    Ok(f64::from(rendition.context("no video in the catalog")?.timescale))
}

/// When pieces left the edge for the first time.
#[derive(Debug, Default)]
struct Stamps(Mutex<HashMap<(RenditionId, u64), HashMap<u32, Instant>>>);

impl Outgoing for Stamps {
    fn piece(&self, leaving: &Leaving<'_>) -> Bytes {
        let now = Instant::now();
        let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = stamps.entry((leaving.rendition, leaving.number)).or_default();
        part.entry(leaving.index).or_insert(now);
        leaving.message.clone()
    }
}

impl Stamps {
    /// Pieces that left, and when the last of them did, by part.
    fn whole(&self) -> HashMap<(RenditionId, u64), (usize, Instant)> {
        let stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |pieces: &HashMap<u32, Instant>| Some((pieces.len(), *pieces.values().max()?));
        stamps.iter().filter_map(|(part, pieces)| Some((*part, last(pieces)?))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Delay {
    since_last_ms: f64,
    since_next_ms: f64,
}

/// Of every part that went out live. Those before the first that left within [`STALE_MS`] of its frames lay in the
/// cache when the viewer came.
fn delays(
    timescale: f64,
    records: &[Record],
    frames: &[Seen],
    whole: &HashMap<(RenditionId, u64), (usize, Instant)>,
) -> anyhow::Result<Vec<Delay>> {
    let first = records.first().context("no records")?;
    // Media time begins at zero with the first frame that the packager took. Where it does not, or where parts are
    // missing, frames and parts cannot be told to belong together.
    let begins = first.media_time.0 as f64 / timescale;
    ensure!(
        first.number == 1 && begins < FIRST_PART_SECONDS_MAX,
        "the first record is number {} at {begins} s",
        first.number
    );
    let all = records.iter().filter_map(|record| {
        let end = record.media_time.0 + u64::from(record.duration);
        let (last, next) = tap::arrivals(frames, end as f64 * 1e3 / timescale)?;
        let (pieces, at) = *whole.get(&(record.rendition, record.number))?;
        let delay = Delay {
            since_last_ms: tap::millis_between(last, at),
            since_next_ms: tap::millis_between(next, at),
        };
        (pieces == record.pieces.len()).then_some(delay)
    });
    Ok(all.skip_while(|delay| delay.since_last_ms > STALE_MS).collect())
}

/// Older than that, a part was fetched and not pushed.
const STALE_MS: f64 = 1_000.0;

/// An edge of the product's library in this process, so that one clock stamps both ends.
struct Own {
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Own {
    fn start(stack: &Stack, outgoing: Arc<dyn Outgoing>) -> anyhow::Result<Self> {
        let local: SocketAddr = "127.0.0.1:0".parse()?;
        let config = Config {
            listen: local,
            data: stack.folder().join("own-edge"),
            tracker: stack.ready.tracker.clone(),
            ops: ops::Config { listen: local },
            drain_ms: 0,
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let edge = runtime.block_on(Edge::load_with(config, outgoing))?;
        let id = edge.addresses().id.to_string();
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(edge.run(async move { drop(stopped.await) }));
        stack.knows(&id)?;
        Ok(Self { stop: Some(stop), runtime: Some(runtime) })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::{Hash, MediaTime, WallTime};

    use super::*;

    const VIDEO: RenditionId = RenditionId(0);

    /// Eight frames of a 1,000 tick clock, two pieces.
    fn part(number: u64) -> Record {
        Record {
            generation: 1,
            catalog: 1,
            rendition: VIDEO,
            number,
            segment: 0,
            part: 0,
            media_time: MediaTime(number * 264),
            duration: 264,
            program_date_time: WallTime(0),
            discontinuity: 0,
            independent: false,
            first: false,
            size: 100_000,
            pieces: vec![Hash([0; 32]); 2],
            previous: Hash([0; 32]),
        }
    }

    #[test]
    fn a_part_is_late_by_what_passed_since_its_own_frames() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let frames: Vec<Seen> =
            (0..50_u32).map(|frame| Seen { timestamp: frame * 33, at: at(u64::from(frame) * 33) }).collect();
        let records: Vec<Record> = (1..5).map(part).collect();
        // The first was fetched long after; of the third a piece is missing.
        let whole = HashMap::from([
            ((VIDEO, 1), (2, at(3_000))),
            ((VIDEO, 2), (2, at(792 + 10))),
            ((VIDEO, 3), (1, at(1_056 + 10))),
            ((VIDEO, 4), (2, at(1_320 + 20))),
        ]);
        let delays_ms: Vec<(f64, f64)> = delays(1_000.0, &records, &frames, &whole)
            .unwrap()
            .iter()
            .map(|delay| (delay.since_last_ms.round(), delay.since_next_ms.round()))
            .collect();
        assert_eq!(delays_ms, [(43.0, 10.0), (53.0, 20.0)]);
        assert!(delays(1_000.0, &records[1..], &frames, &whole).is_err(), "frames could not be counted");
    }
}
