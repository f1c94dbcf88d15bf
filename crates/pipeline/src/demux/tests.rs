//! Real media, made by ffmpeg, against what ffprobe says of it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use millstream_segmenter::TrackKind;
use tempfile::TempDir;

use super::*;

/// Long enough for a loaded machine, short enough to name what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Pictures at 30 a second with a keyframe each second and two B-frames, and a tone.
fn media(folder: &TempDir, name: &str, codecs: &str) -> PathBuf {
    let path = folder.path().join(name);
    let text = format!(
        "-nostdin -loglevel error -y -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi -i \
         sine=frequency=440:sample_rate=48000 -t 4 -pix_fmt yuv420p {codecs}"
    );
    let made = Command::new("ffmpeg").args(text.split_whitespace()).arg(&path).status().unwrap();
    assert!(made.success());
    path
}

const TAKEN: &str = "-c:v libx264 -preset veryfast -g 30 -bf 2 -b:v 300k -c:a aac -b:a 64k";

/// Decode and presentation times in milliseconds, keyframes and sizes, of a file's stream.
fn probe(path: &Path, stream: &str) -> Vec<(i64, i64, bool)> {
    let output = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", stream, "-of", "csv=p=0"])
        .args(["-show_entries", "packet=pts_time,dts_time,flags"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a short file")]
    let ms = |text: &str| (text.parse::<f64>().unwrap() * 1000.0).round() as i64;
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.split(',');
            let mut field = || fields.next().unwrap();
            let (pts, dts) = (ms(field()), ms(field()));
            (dts, pts, field().starts_with('K'))
        })
        .collect()
}

async fn all(demux: &mut Demux) -> Result<Vec<Output>, Error> {
    let mut outputs = Vec::new();
    let every = async {
        while let Some(output) = demux.next().await? {
            outputs.push(output);
        }
        Ok::<(), Error>(())
    };
    tokio::time::timeout(PATIENCE, every).await.expect("the end in time")?;
    Ok(outputs)
}

fn times(outputs: &[Output], kind: TrackKind) -> Vec<(i64, i64, bool)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Sample(sample) if sample.track == kind => {
                Some((sample.dts_ms, sample.dts_ms + i64::from(sample.cts_ms), sample.keyframe))
            }
            _ => None,
        })
        .collect()
}

/// What came out is what ffprobe reads, in the file's own time but for a common beginning.
fn assert_same_times(outputs: &[Output], path: &Path) {
    let (video, audio) = (times(outputs, TrackKind::Video), times(outputs, TrackKind::Audio));
    let (real_video, real_audio) = (probe(path, "v:0"), probe(path, "a:0"));
    assert_eq!(video.len(), real_video.len());
    // The encoder's priming before the first picture and a last frame that nothing follows may be missing.
    assert!((real_audio.len() - 2..=real_audio.len()).contains(&audio.len()), "{}", audio.len());
    let shift = real_video[0].1 - video[0].1;
    for (mine, real) in video.iter().zip(&real_video) {
        assert!((mine.1 + shift - real.1).abs() <= 1 && mine.2 == real.2, "{mine:?} {real:?} {shift}");
        assert!((mine.0 + shift - real.0).abs() <= 1, "{mine:?} {real:?} {shift}");
        assert!(mine.0 <= mine.1, "decoded after it is shown: {mine:?}");
    }
    assert!(video.windows(2).all(|pair| pair[0].0 < pair[1].0), "{video:?}");
    for mine in audio {
        let same = |real: &&(i64, i64, bool)| (mine.1 + shift - real.1).abs() <= 1;
        assert_eq!(real_audio.iter().filter(same).count(), 1, "{mine:?} {shift} {real_audio:?}");
    }
}

fn assert_set_up(outputs: &[Output]) {
    let configs: Vec<&TrackConfig> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Config(config) => Some(config),
            _ => None,
        })
        .collect();
    assert_eq!(configs.len(), 2, "one set-up for each track: {configs:?}");
    assert!(configs.iter().any(|config| matches!(config, TrackConfig::H264(avcc) if avcc[0] == 1)));
    // AAC-LC, 48 kHz, mono.
    assert!(configs.iter().any(|config| matches!(config, TrackConfig::Aac(asc) if asc[..2] == [0x11, 0x88])));
}

#[tokio::test]
async fn a_transport_streams_samples_have_the_times_and_keyframes_they_had() {
    let folder = folder();
    let path = media(&folder, "times.ts", TAKEN);
    let (mut feed, mut demux) = Demux::transport_stream().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let feeding = tokio::spawn(async move {
        for piece in bytes.chunks(1316) {
            feed.push(piece).await.unwrap();
        }
        feed.end();
    });
    let outputs = all(&mut demux).await.unwrap();
    feeding.await.unwrap();
    assert_set_up(&outputs);
    assert_same_times(&outputs, &path);
}

#[tokio::test]
async fn mp4_and_matroska_come_apart_the_same_way() {
    let folder = folder();
    let ordered = TAKEN.replace("-bf 2", "-bf 0");
    for (name, codecs) in [("times.mp4", TAKEN), ("times.mkv", &ordered), ("file.ts", TAKEN)] {
        let path = media(&folder, name, codecs);
        let outputs = all(&mut Demux::file(&path).unwrap()).await.unwrap();
        assert_set_up(&outputs);
        assert_same_times(&outputs, &path);
    }
}

#[tokio::test]
async fn pictures_out_of_order_without_decode_times_are_refused_in_words() {
    let folder = folder();
    let path = media(&folder, "reordered.mkv", TAKEN);
    assert_eq!(all(&mut Demux::file(&path).unwrap()).await.unwrap_err(), Error::Reordered);
}

#[tokio::test]
async fn a_codec_that_is_not_taken_is_named_with_what_to_send_instead() {
    let folder = folder();
    let path = media(&folder, "mp2.ts", "-c:v libx264 -preset ultrafast -c:a mp2");
    let outputs = all(&mut Demux::file(&path).unwrap()).await.unwrap();
    let said =
        "its audio is MPEG audio (MP2 or MP3), which is not taken; send AAC (in a transport stream as ADTS)";
    assert!(outputs.contains(&Output::Untaken(said.to_owned())), "{:?}", outputs.first());
    assert_eq!(times(&outputs, TrackKind::Video).len(), 120, "the pictures go on");

    let path = media(&folder, "mpeg2.ts", "-c:v mpeg2video -c:a mp2");
    let error = all(&mut Demux::file(&path).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("its video is MPEG-2, which is not taken; send H.264"), "{error}");
}

#[tokio::test]
async fn what_is_no_media_is_refused_in_words() {
    let folder = folder();
    let path = folder.path().join("letter.mp4");
    std::fs::write(&path, "Dear sir or madam").unwrap();
    assert_eq!(Demux::file(&path).unwrap_err(), Error::Container);
    assert!(matches!(Demux::file(Path::new("/nowhere.mp4")), Err(Error::File(_))));
    assert_eq!(Demux::rtsp("http://camera/", PATIENCE).unwrap_err(), Error::Url);
    let (mut feed, mut demux) = Demux::transport_stream().unwrap();
    feed.push(&[0x55; 100_000]).await.unwrap();
    feed.end();
    let error = all(&mut demux).await.unwrap_err();
    assert!(error.to_string().contains("neither H.264 nor AAC"), "{error}");
    // Packets of nothing.
    let (mut feed, mut demux) = Demux::transport_stream().unwrap();
    let mut packet = [0xff; packets::PACKET_BYTES];
    packet[..4].copy_from_slice(&[packets::SYNC, 0x1f, 0xff, 0x10]);
    feed.push(&packet.repeat(1000)).await.unwrap();
    feed.end();
    let error = all(&mut demux).await.unwrap_err();
    assert!(!error.to_string().is_empty(), "{error}");
}

#[tokio::test]
async fn a_frame_without_an_end_ends_the_feed() {
    let (mut feed, mut demux) = Demux::transport_stream().unwrap();
    let mut packet = [0; packets::PACKET_BYTES];
    packet[..4].copy_from_slice(&[packets::SYNC, 0, 7, 0x10]);
    let endless = packet.repeat(1000);
    let pushed = async { while feed.push(&endless).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, pushed).await.unwrap();
    assert_eq!(all(&mut demux).await.unwrap_err(), Error::Endless);
}

#[tokio::test]
async fn nobody_listening_holds_the_feed_back_and_dropping_ends_every_thread() {
    let folder = folder();
    let before = threads();
    for _ in 0..3 {
        let path = media(&folder, "held.ts", TAKEN);
        let (mut feed, demux) = Demux::transport_stream().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let pushed = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&pushed);
        let feeding = tokio::spawn(async move {
            loop {
                for piece in bytes.chunks(1316) {
                    if feed.push(piece).await.is_err() {
                        return;
                    }
                    count.fetch_add(1316, Relaxed);
                }
            }
        });
        // Long after all that is buffered anywhere is full, or never.
        let mut last = u64::MAX;
        let begun = Instant::now();
        while last != pushed.load(Relaxed) {
            last = pushed.load(Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await; // waits because standing still has no event
            assert!(begun.elapsed() < PATIENCE);
        }
        assert!(last < 2 * FEED_BYTES_MAX, "{last} bytes went in though nobody took anything");
        drop(demux);
        tokio::time::timeout(PATIENCE, feeding).await.unwrap().unwrap();
    }
    // GLib keeps idle threads for a quarter of a minute.
    let begun = Instant::now();
    while threads() > before + 1 {
        tokio::time::sleep(Duration::from_millis(100)).await; // waits because a thread's end has no event
        assert!(begun.elapsed() < PATIENCE, "{} threads, {before} before", threads());
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
