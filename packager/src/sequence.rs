//! Numbers that never repeat: kept on disk ahead of their use.
//!
//! Records, segments, discontinuities, media times and generations only go up, over restarts too, or caches would
//! hold two things under one name and receivers would see a roll-back. Before a number is used, the disk says that
//! it may have been; after `kill -9` the stream goes on behind the last block that was taken, leaving some out.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use millstream_model::StreamId;
use millstream_service::data::{self, Folder};
use serde::{Deserialize, Serialize};

/// Bytes of a sequence file at most: five numbers.
const FILE_BYTES_MAX: usize = 1_024;

/// How far ahead numbers are taken: each about a quarter of an hour of parts, so that the disk is waited for
/// seldom and a crash leaves out little.
const BLOCK: Numbers = Numbers { number: 4_096, segment: 512, discontinuity: 64, media_ms: 20 * 60 * 1_000 };

/// Where a stream's counts stand: the next that is free of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Record number.
    pub number: u64,
    /// Media sequence number.
    pub segment: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u32,
    /// Media time in milliseconds.
    pub media_ms: u64,
}

impl Numbers {
    fn plus(self, other: Self) -> Self {
        Self {
            number: self.number.saturating_add(other.number),
            segment: self.segment.saturating_add(other.segment),
            discontinuity: self.discontinuity.saturating_add(other.discontinuity),
            media_ms: self.media_ms.saturating_add(other.media_ms),
        }
    }

    fn half(self) -> Self {
        Self {
            number: self.number / 2,
            segment: self.segment / 2,
            discontinuity: self.discontinuity / 2,
            media_ms: self.media_ms / 2,
        }
    }

    fn within(self, other: Self) -> bool {
        self.number <= other.number
            && self.segment <= other.segment
            && self.discontinuity <= other.discontinuity
            && self.media_ms <= other.media_ms
    }

    /// The higher of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            number: self.number.max(other.number),
            segment: self.segment.max(other.segment),
            discontinuity: self.discontinuity.max(other.discontinuity),
            media_ms: self.media_ms.max(other.media_ms),
        }
    }
}

/// One stream's numbers.
#[derive(Debug)]
pub struct Sequence {
    folder: Arc<Folder>,
    file: String,
    /// What the disk says: all numbers below may have been used.
    taken: Numbers,
}

impl Sequence {
    /// Reads where `stream` may have got to; a new stream begins at zero.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged: then nothing must be signed.
    pub async fn open(folder: Arc<Folder>, stream: &StreamId) -> Result<Self, data::Error> {
        let file = format!("sequence-{stream}.json");
        off_loop(move || {
            let taken = read(&folder, &file)?.unwrap_or_default();
            Ok(Self { folder, file, taken })
        })
        .await
    }

    /// The first numbers that were never used.
    #[must_use]
    pub const fn start(&self) -> Numbers {
        self.taken
    }

    /// Makes sure that the disk is ahead of `next`, the first numbers not used yet. To be called before numbers below
    /// `next` leave the program. Seldom waits.
    ///
    /// # Errors
    /// When the disk does not take it and is no longer ahead: then nothing more must be signed.
    pub async fn cover(&mut self, next: Numbers) -> Result<(), data::Error> {
        if next.plus(BLOCK.half()).within(self.taken) {
            return Ok(());
        }
        let taken = next.plus(BLOCK).max(self.taken);
        let (folder, file) = (Arc::clone(&self.folder), self.file.clone());
        let written = off_loop(move || write(&folder, &file, &taken)).await;
        match written {
            Ok(()) => self.taken = taken,
            Err(error) if next.within(self.taken) => {
                tracing::warn!(%error, "numbers cannot be taken ahead; trying again with the next part");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The generation count, one for all streams: what a tracker is told, and what a packager without one counts by.
#[derive(Debug)]
pub struct Generations {
    folder: Arc<Folder>,
    /// What the disk says. Changed by who holds `writing`.
    highest: Arc<AtomicU32>,
    /// Held from the look at the count until the disk has the next: of two, the slower must not write the lower.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// Its file.
const GENERATION_FILE: &str = "generation.json";

impl Generations {
    /// Reads the count.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn open(folder: Arc<Folder>) -> Result<Self, data::Error> {
        let highest = read::<u32>(&folder, GENERATION_FILE)?.unwrap_or(0);
        Ok(Self { folder, highest: Arc::new(AtomicU32::new(highest)), writing: Arc::default() })
    }

    /// The highest generation that any stream here may have used.
    #[must_use]
    pub fn highest(&self) -> u32 {
        self.highest.load(Relaxed)
    }

    /// Notes that `generation` is going to be used; the disk knows when this returns.
    ///
    /// # Errors
    /// When the disk does not take it: then it must not be used.
    pub async fn note(&self, generation: u32) -> Result<(), data::Error> {
        self.change(move |highest| Some(highest.max(generation))).await.map(|_| ())
    }

    /// The next generation, noted.
    ///
    /// # Errors
    /// As [`Self::note`], and when there is none left.
    pub async fn next(&self) -> Result<u32, data::Error> {
        self.change(|highest| highest.checked_add(1)).await
    }

    async fn change(
        &self,
        next: impl FnOnce(u32) -> Option<u32> + Send + 'static,
    ) -> Result<u32, data::Error> {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let (folder, highest) = (Arc::clone(&self.folder), Arc::clone(&self.highest));
        off_loop(move || {
            // Here, and not with the caller: who stops waiting for the disk must not let the next one at it.
            let _writing = writing;
            let before = highest.load(Relaxed);
            let after = next(before).ok_or_else(|| data::Error::Damaged {
                path: folder.path().join(GENERATION_FILE),
                reason: String::from("all generations are used"),
            })?;
            if after > before {
                write(&folder, GENERATION_FILE, &after)?;
                highest.store(after, Relaxed);
            }
            Ok(after)
        })
        .await
    }
}

fn read<T: serde::de::DeserializeOwned>(folder: &Folder, file: &str) -> Result<Option<T>, data::Error> {
    let Some(bytes) = folder.read(file, FILE_BYTES_MAX)? else { return Ok(None) };
    let damaged = |error: serde_json::Error| data::Error::Damaged {
        path: folder.path().join(file),
        reason: format!(
            "is not a count of numbers ({error}); it says which ones were used, so do not delete it"
        ),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn write<T: Serialize>(folder: &Folder, file: &str, value: &T) -> Result<(), data::Error> {
    let failed = |error: serde_json::Error| data::Error::Damaged {
        path: folder.path().join(file),
        reason: error.to_string(),
    };
    let mut bytes = serde_json::to_vec(value).map_err(failed)?;
    bytes.push(b'\n');
    folder.write(file, &bytes)
}

/// Runs what waits for the disk where it delays nobody.
async fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, data::Error> + Send + 'static,
) -> Result<T, data::Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(data::Error::Io { path: std::path::PathBuf::new(), source: std::io::Error::other(error) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamId {
        StreamId::new("demo").unwrap()
    }

    #[tokio::test]
    async fn after_a_crash_no_number_comes_again() {
        let outer = tempfile::tempdir().unwrap();
        let mut used = Numbers::default();
        for _ in 0..3 {
            let folder = Arc::new(Folder::open(outer.path()).unwrap());
            let mut sequence = Sequence::open(folder, &stream()).await.unwrap();
            let start = sequence.start();
            assert!(used.within(start), "{used:?} was used, {start:?} is next");
            let mut next = start;
            for _ in 0..5_000 {
                next = next.plus(Numbers { number: 1, segment: 1, discontinuity: 0, media_ms: 250 });
                sequence.cover(next).await.unwrap();
                used = next;
            }
            // Dropped without a word, as by a crash.
        }
        assert!(used.number < 3 * (5_000 + 2 * BLOCK.number));
    }

    #[tokio::test]
    async fn the_disk_is_asked_seldom() {
        let outer = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(outer.path()).unwrap());
        let mut sequence = Sequence::open(folder, &stream()).await.unwrap();
        sequence.cover(Numbers { number: 1, ..Numbers::default() }).await.unwrap();
        std::fs::remove_file(outer.path().join("sequence-demo.json")).unwrap();
        sequence.cover(Numbers { number: 2_000, segment: 250, ..Numbers::default() }).await.unwrap();
        assert!(!outer.path().join("sequence-demo.json").exists());
        sequence.cover(Numbers { number: 2_100, segment: 263, ..Numbers::default() }).await.unwrap();
        assert!(outer.path().join("sequence-demo.json").exists());
    }

    #[tokio::test]
    async fn without_a_disk_signing_stops_when_the_block_is_used_up() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("data");
        let folder = Arc::new(Folder::open(&inner).unwrap());
        let mut sequence = Sequence::open(folder, &stream()).await.unwrap();
        sequence.cover(Numbers { number: 1, ..Numbers::default() }).await.unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        sequence.cover(Numbers { number: 4_097, ..Numbers::default() }).await.unwrap();
        sequence.cover(Numbers { number: 4_098, ..Numbers::default() }).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_damaged_count_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(outer.path()).unwrap());
        folder.write("sequence-demo.json", b"{\"number\":12").unwrap();
        let error = Sequence::open(Arc::clone(&folder), &stream()).await.unwrap_err().to_string();
        assert!(error.contains("do not delete it"), "{error}");
        folder.write(GENERATION_FILE, b"-1").unwrap();
        Generations::open(folder).unwrap_err();
    }

    #[tokio::test]
    async fn generations_only_go_up() {
        let outer = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(outer.path()).unwrap());
        let generations = Generations::open(Arc::clone(&folder)).unwrap();
        assert_eq!(generations.next().await.unwrap(), 1);
        generations.note(7).await.unwrap();
        generations.note(3).await.unwrap();
        drop(generations);
        let generations = Generations::open(folder).unwrap();
        assert_eq!(generations.highest(), 7);
        assert_eq!(generations.next().await.unwrap(), 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_at_a_time_get_numbers_of_their_own_and_the_disk_has_the_highest() {
        let outer = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(outer.path()).unwrap());
        let generations = Arc::new(Generations::open(Arc::clone(&folder)).unwrap());
        for round in 0..5_u32 {
            let tasks: Vec<_> = (1..=20)
                .map(|number| {
                    let generations = Arc::clone(&generations);
                    tokio::spawn(async move {
                        if number % 2 == 0 {
                            generations.next().await.map(Some)
                        } else {
                            generations.note(round * 100 + number).await.map(|()| None)
                        }
                    })
                })
                .collect();
            let mut given = Vec::new();
            for task in tasks {
                given.extend(task.await.unwrap().unwrap());
            }
            let count = given.len();
            given.sort_unstable();
            given.dedup();
            assert_eq!(given.len(), count, "{given:?}");
            let on_disk = read::<u32>(&folder, GENERATION_FILE).unwrap().unwrap();
            assert_eq!(on_disk, generations.highest());
            assert!(on_disk >= round * 100 + 19 && given.last().is_none_or(|last| *last <= on_disk));
        }
    }

    #[tokio::test]
    async fn when_all_generations_are_used_none_is_given_twice() {
        let outer = tempfile::tempdir().unwrap();
        let generations = Generations::open(Arc::new(Folder::open(outer.path()).unwrap())).unwrap();
        generations.note(u32::MAX).await.unwrap();
        generations.next().await.unwrap_err();
    }
}
