//! Every committed seed, and seeded changes of them, through the same functions that cargo-fuzz feeds: on stable.
//!
//! A crash that cargo-fuzz finds is minimised (`cargo fuzz tmin`), named for what it shows and put into its corpus:
//! from then on it runs here.
#![allow(clippy::unwrap_used, reason = "in a test, a surprise shall be loud")]

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use millstream_fuzz::{TARGETS, Target};

/// Bytes of all corpora at most: they are cloned by everybody.
const CORPORA_BYTES_MAX: u64 = 1 << 20;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("corpus").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "fuzz/corpus/{name} is empty");
    for (seed, bytes) in &seeds {
        run(target, bytes, seed);
    }
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for change in 0..target.changes {
        let (seed, bytes) = &seeds[chance.below(seeds.len())];
        let (_, other) = &seeds[chance.below(seeds.len())];
        run(target, &changed(bytes, other, &mut chance), &format!("change {change}, of {seed}"));
    }
}

/// Says which bytes it was, where they can be taken from.
fn run(target: &Target, bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        let path = root().join("artifacts").join(target.name).join(what.replace([',', ' '], "-"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        eprintln!("{}: {what} breaks the property; its bytes are in {}", target.name, path.display());
        resume_unwind(panic);
    }
}

/// SplitMix64: the same changes in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.next().to_be_bytes();
        byte
    }
}

/// Values at which lengths and counts turn.
const EDGES: [u8; 8] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff];

fn changed(bytes: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let len = chance.below(17).min(bytes.len() - at);
        match chance.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = chance.byte(),
            2 if at < bytes.len() => bytes[at] = EDGES[chance.below(EDGES.len())],
            3 => drop(bytes.drain(at..at + len)),
            4 => drop(bytes.splice(at..at, (0..=chance.below(8)).map(|_| chance.byte()).collect::<Vec<_>>())),
            5 => {
                let again = bytes[at..at + len].to_vec();
                drop(bytes.splice(at..at, again));
            }
            6 => {
                let from = chance.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.truncate(bytes.len().saturating_sub(chance.below(8))),
        }
    }
    bytes
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replays! {
    frame feed signed chain tracker_message ticket
    rtmp_connection rtmp_messages rtmp_values rtmp_media segmenter_setup segmenter
    playlist playlist_url stun datagram sctp_packet dcep association
    lane cache swarm door door_message ledger
}

#[test]
fn each_target_has_its_test_its_corpus_and_its_way_in() {
    let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(targets, REPLAYED.iter().copied().collect());
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries
            .map(|entry| Path::new(&entry.unwrap().file_name()).file_stem().unwrap().to_string_lossy().into())
            .collect()
    };
    let expected: BTreeSet<String> = targets.iter().map(ToString::to_string).collect();
    assert_eq!(names("corpus"), expected);
    assert_eq!(names("fuzz_targets"), expected);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} has no [[bin]]");
        let way_in = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(way_in.contains(&format!("millstream_fuzz::{name}(data)")), "{name}");
    }
}

#[test]
fn the_corpora_stay_small() {
    let sizes = TARGETS.iter().flat_map(|target| corpus(target.name)).map(|(_, bytes)| bytes.len() as u64);
    let sum: u64 = sizes.sum();
    assert!(sum <= CORPORA_BYTES_MAX, "{sum} bytes; `cargo fuzz cmin` them");
}
