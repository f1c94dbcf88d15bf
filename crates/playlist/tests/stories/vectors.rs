//! The golden vectors in `docs/protocol/vectors/playlist/`: signed catalogs and records in, playlist text out.
//!
//! `UPDATE_VECTORS=1 cargo test -p millstream-playlist vectors` writes them anew; the difference is for review.

use std::{fs, path::PathBuf};

use millstream_model::{PublicKey, RenditionId, StreamId};
use millstream_playlist::{Options, Report, check, media, multivariant, reload::Head};
use millstream_wire::{
    media::{Catalog, Record},
    sign::{Context, SecretKey, Signed, Signer as _},
};
use serde::{Deserialize, Serialize};

use crate::show::{Show, audio, catalog, video};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vector {
    /// What it shows.
    story: String,
    stream: String,
    /// Who signed: an Ed25519 public key, base64url.
    packager: String,
    /// Signed catalogs, base64url.
    catalogs: Vec<Signed<Catalog>>,
    /// Signed records, base64url.
    records: Vec<Signed<Record>>,
    playlists: Vec<Playlist>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Playlist {
    /// A rendition's number; none for the multivariant playlist of the last catalog.
    rendition: Option<u8>,
    low_latency: bool,
    listed_ms: u64,
    reports: Vec<Reported>,
    /// The text, line by line; none where there is nothing to list.
    lines: Option<Vec<String>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reported {
    rendition: String,
    segment: u64,
    part: u16,
}

impl Vector {
    fn of(story: &str, shows: &[&Show]) -> Self {
        let stream = StreamId::new("demo").unwrap();
        let key = SecretKey::from_seed(&[1; 32]);
        let context = Context::Stream(&stream);
        let catalogs: Vec<_> =
            shows[0].catalogs.iter().map(|c| Signed::new(c.clone(), context, &key)).collect();
        let mut records: Vec<Signed<Record>> = Vec::new();
        for show in shows {
            let mut last: Option<Signed<Record>> = None;
            for record in &show.records {
                let mut record = record.clone();
                // The first of a generation names none before it.
                let before = last.filter(|last| last.unverified().generation == record.generation);
                record.previous = before.map_or(Record::NO_PREVIOUS, |last| last.digest());
                let signed = Signed::new(record, context, &key);
                last = Some(signed.clone());
                records.push(signed);
            }
        }
        let mut vector = Self {
            story: story.into(),
            stream: stream.to_string(),
            packager: key.public().to_string(),
            catalogs,
            records,
            playlists: Vec::new(),
        };
        vector.ask(None, true, &[]);
        for show in shows {
            let rendition = show.records.last().map_or(RenditionId(9), |record| record.rendition);
            vector.ask(Some(rendition.0), true, &[]);
            vector.ask(Some(rendition.0), false, &[]);
        }
        vector
    }

    fn ask(&mut self, rendition: Option<u8>, low_latency: bool, reports: &[(&str, u64, u16)]) -> &mut Self {
        let reports = reports
            .iter()
            .map(|(rendition, segment, part)| Reported {
                rendition: (*rendition).into(),
                segment: *segment,
                part: *part,
            })
            .collect();
        let mut playlist = Playlist {
            rendition,
            low_latency,
            listed_ms: millstream_playlist::LISTED_MS,
            reports,
            lines: None,
        };
        playlist.lines = self.write(&playlist).map(|text| text.lines().map(Into::into).collect());
        self.playlists.push(playlist);
        self
    }

    fn write(&self, playlist: &Playlist) -> Option<String> {
        let catalogs: Vec<&Catalog> = self.catalogs.iter().map(Signed::unverified).collect();
        let Some(rendition) = playlist.rendition else {
            return Some(multivariant(catalogs.last().unwrap()));
        };
        let reports: Vec<Report<'_>> = playlist
            .reports
            .iter()
            .map(|report| Report {
                rendition: &report.rendition,
                head: Head { segment: report.segment, part: report.part },
            })
            .collect();
        let options = Options {
            low_latency: playlist.low_latency,
            listed_ms: playlist.listed_ms,
            reports: &reports,
            ..Options::default()
        };
        media(&catalogs, RenditionId(rendition), self.records.iter().map(Signed::unverified), &options)
    }
}

fn vectors() -> Vec<(&'static str, Vector)> {
    let (mut v, mut a) = (Show::of_video(), Show::of_audio());
    v.part();
    a.part().part();
    let first = Vector::of("the first parts of a stream", &[&v, &a]);

    let (mut v, mut a) = (Show::of_video(), Show::of_audio());
    v.segments(16).part().part();
    a.segments(16).part();
    let mut steady = Vector::of("a steady stream whose oldest segments are no longer listed", &[&v, &a]);
    steady.ask(Some(0), true, &[("audio", 16, 0)]);

    let mut v = Show::of_video();
    v.segments(2);
    for independent in [true, false, false, true] {
        v.next().independent = independent;
        v.segment(16, 6_006);
    }
    let long = Vector::of("a GOP of eight seconds: segments that no decoder can start with", &[&v]);

    let (mut v, mut a) = (Show::of_video(), Show::of_audio());
    for show in [&mut v, &mut a] {
        show.segments(2).comeback(1, 5_000, |_| {}).segments(1).part();
    }
    let comeback = Vector::of("a publisher that went for five seconds and came back", &[&v, &a]);

    let mut v = Show::of_video();
    v.segments(2).comeback(3, 0, |catalog| {
        catalog.renditions[0].part_target_ms = 500;
        catalog.renditions[0].timescale = 60_000;
    });
    v.next().duration = 30_000;
    v.segment(4, 30_000);
    let skipped =
        Vector::of("discontinuities the rendition had no part in; another part target and timescale", &[&v]);

    let mut v = Show::of_video();
    v.segments(1).comeback(1, 0, |catalog| {
        catalog.generation = 2;
        catalog.version = 1;
    });
    v.next().number = 4_096;
    v.next().segment = 256;
    v.segments(1);
    let restart = Vector::of("a packager that restarted and left out numbers", &[&v]);

    let mut v = Show::of_video();
    v.segments(2).part().part().part();
    v.records.remove(17);
    let hole = Vector::of("a record is missing in the newest segment", &[&v]);

    let mut v = Show::of_video();
    v.segments(3).part().end();
    let ended = Vector::of("the stream is over", &[&v]);

    let mut ladder = vec![video(), audio()];
    let mut low = video();
    (low.id.0, low.name, low.bandwidth.0) = (2, "video-low".into(), 600_000);
    let mut french = audio();
    (french.id.0, french.name, french.group) = (3, "french".into(), "french".into());
    let mut quiet = audio();
    (quiet.id.0, quiet.name, quiet.bandwidth.0) = (4, "audio-low".into(), 48_000);
    ladder.extend([low, french, quiet]);
    let show = Show::new(catalog(1, ladder), crate::show::VIDEO, 24_024);
    let ladder =
        Vector::of("two qualities of pictures, two soundtracks, one of them in two qualities", &[&show]);

    vec![
        ("first", first),
        ("steady", steady),
        ("long-gop", long),
        ("comeback", comeback),
        ("skipped-discontinuities", skipped),
        ("restart", restart),
        ("hole", hole),
        ("ended", ended),
        ("ladder", ladder),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/vectors/playlist")
}

#[test]
fn the_vectors_are_what_is_computed() {
    for (name, fresh) in vectors() {
        let path = folder().join(format!("{name}.json"));
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            let mut text = serde_json::to_string_pretty(&fresh).unwrap();
            text.push('\n');
            fs::write(&path, text).unwrap();
        }
        let kept: Vector = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for playlist in &kept.playlists {
            let text = kept.write(playlist);
            let lines: Option<Vec<String>> = text.as_ref().map(|text| text.lines().map(Into::into).collect());
            assert_eq!(lines, playlist.lines, "{name}: {:?}", playlist.rendition);
            let violations = match (&text, playlist.rendition) {
                (Some(text), Some(_)) => check::media(text),
                (Some(text), None) => check::multivariant(text),
                (None, _) => Vec::new(),
            };
            assert_eq!(violations, [], "{name}\n{}", text.unwrap());
        }
        assert_eq!(kept, fresh, "{name}: the vector is not the one that its story makes");
    }
}

#[test]
fn every_object_in_a_vector_is_signed() {
    let stream = StreamId::new("demo").unwrap();
    for (name, vector) in vectors() {
        let key: PublicKey = vector.packager.parse().unwrap();
        for record in &vector.records {
            record.verify(&key, Context::Stream(&stream)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for catalog in &vector.catalogs {
            catalog.verify(&key, Context::Stream(&stream)).unwrap();
        }
    }
}
