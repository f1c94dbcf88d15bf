//! A disk that is full: the live stream goes on, and the recording says what it lost.

use std::{path::Path, process::Command};

use crate::world::{World, media};

/// A small file system for a test.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(bytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "keep-test"]).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "this test mounts a small tmpfs, and that wants root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_live_goes_on_and_the_recording_says_what_it_lost() {
    let disk = Disk::mount(2 * 1024 * 1024);
    let folder = tempfile::tempdir().unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
    let world = World::start(folder.path(), |config| {
        config.keep.store = disk.path().join("recordings").to_string_lossy().into_owned();
        config.keep.free_bytes_min = 0;
        config.keep.backlog_bytes_max = 600_000;
    })
    .await;
    let mut encoder = world.push(&media().await, "4");
    world.until_count("keep_lost_segments_total", 4).await;
    assert!(world.count("keep_errors_total{call=\"put\"}").await > 0);
    // Live is as ever: parts come, and playlists are new.
    let before = world.playlist("video").await.1.head().unwrap().0;
    world.until_playlist("video", |playlist| playlist.head().unwrap().0 > before + 3).await;
    assert!(world.count("keep_backlog_bytes").await <= 600_000);

    // Somebody makes room.
    std::fs::remove_file(&ballast).unwrap();
    let stored = world.count("keep_stored_segments_total").await;
    world.until_count("keep_stored_segments_total", stored + 4).await;
    encoder.kill().await.unwrap();
    let (text, video) = world.until_vod("video").await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.problems, [""; 0]);
    assert_eq!(verdict.lost, world.count("keep_lost_segments_total").await, "{verdict:?}");
    assert!(verdict.ended && verdict.lost >= 4);
    let gaps = video.segments.iter().filter(|segment| segment.gap).count();
    assert!(gaps > 0 && gaps < video.segments.len(), "{text}");
    for segment in &video.segments {
        let status = world.get(segment.uri.as_ref().unwrap()).await.status();
        assert_eq!(status, if segment.gap { 410 } else { 200 }, "{segment:?}");
    }
}

#[tokio::test]
async fn a_disk_is_left_with_room_for_what_signing_needs() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path(), |config| config.keep.free_bytes_min = u64::MAX).await;
    let _encoder = world.push(&media().await, "4");
    world.until_count("keep_errors_total{call=\"open\"}", 2).await;
    world.until_playlist("video", |playlist| playlist.segments.len() > 3).await;
    let written = std::fs::read_dir(folder.path().join("recordings")).unwrap().count();
    assert_eq!((written, world.count("keep_stored_segments_total").await), (0, 0));
}
