//! One of everything, signed by keys that are the same in every run.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise shall be loud")]

use bytes::Bytes;
use millstream_model::{
    BitRate, Fingerprint, Hash, MediaTime, Micros, Price, RenditionId, SessionId, StreamId, WallTime,
};
use millstream_wire::{
    media::{Catalog, Delegation, Media, Record, Rendition, hash_pieces},
    session::{Bearer, Certificate, Grant, Hello, Receipt, Registration, Resume, Token, Voucher},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    tracker::{PackagerReport, Published, State, StreamReport},
};

pub const VIDEO: RenditionId = RenditionId(0);
pub const AUDIO: RenditionId = RenditionId(1);
pub const WALL: WallTime = WallTime(1_800_000_000_000);

pub fn stream() -> StreamId {
    StreamId::new("demo").unwrap()
}

pub fn root() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub fn packager() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

pub fn tracker() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

pub fn edge() -> SecretKey {
    SecretKey::from_seed(&[4; 32])
}

pub fn session() -> SessionSecret {
    SessionSecret::from_bytes(&[5; 32]).unwrap()
}

pub fn delegation(generation: u32) -> Signed<Delegation> {
    let delegation = Delegation {
        stream: stream(),
        generation,
        packager: packager().public(),
        not_before: WALL,
        expires: WALL.plus_millis(86_400_000),
    };
    Signed::new(delegation, Context::None, &root())
}

pub fn catalog(version: u32) -> Signed<Catalog> {
    let rendition = |id, name: &str, media, codecs: &str, timescale| Rendition {
        id,
        name: name.into(),
        group: name.into(),
        media,
        codecs: codecs.into(),
        bandwidth: BitRate(1_000_000),
        timescale,
        target_duration_ms: 4_000,
        part_target_ms: 267,
        init: Bytes::from_static(b"\0\0\0\x08ftyp"),
    };
    let video = Media::Video { width: 1_280, height: 720, frame_rate_milli: 30_000 };
    let audio = Media::Audio { channels: 2, sample_rate: 48_000 };
    let catalog = Catalog {
        generation: 1,
        version,
        created: WALL,
        ended: false,
        renditions: vec![
            rendition(VIDEO, "video", video, "avc1.64001f", 90_000),
            rendition(AUDIO, "audio", audio, "mp4a.40.2", 48_000),
        ],
    };
    Signed::new(catalog, Context::Stream(&stream()), &packager())
}

/// The first records of the video rendition, a chain of eight-part segments.
pub fn records(count: u64) -> Vec<Signed<Record>> {
    let mut chain: Vec<Signed<Record>> = Vec::new();
    for index in 0..count {
        let part = u16::try_from(index % 8).unwrap();
        let data = vec![u8::try_from(index % 251).unwrap(); 70_000];
        let record = Record {
            generation: 1,
            catalog: 1,
            rendition: VIDEO,
            number: 100 + index,
            segment: 10 + index / 8,
            part,
            media_time: MediaTime(index * 22_500),
            duration: 22_500,
            program_date_time: WALL.plus_millis(index * 250),
            discontinuity: 0,
            independent: part == 0,
            first: part == 0,
            size: 70_000,
            pieces: hash_pieces(&data),
            previous: chain.last().map_or(Record::NO_PREVIOUS, Signed::digest),
        };
        chain.push(Signed::new(record, Context::Stream(&stream()), &packager()));
    }
    chain
}

pub fn certificate() -> Signed<Certificate> {
    let certificate = Certificate {
        session: SessionId([7; 16]),
        stream: stream(),
        key: session().public(),
        issued: WALL,
        expires: WALL.plus_millis(1),
    };
    Signed::new(certificate, Context::None, &tracker())
}

pub fn token() -> Signed<Token> {
    let token = Token { stream: stream(), bearer: Bearer::Edge(edge().public()), expires: WALL };
    Signed::new(token, Context::None, &tracker())
}

pub fn grant() -> Signed<Grant> {
    let grant = Grant {
        tracker: tracker().public(),
        session: SessionId([7; 16]),
        key: session().public(),
        stream: stream(),
        edge: edge().public(),
        price: Price(20_000),
        cap_bytes: 64 << 20,
        serial: 1,
        issued: WALL,
        expires: WALL.plus_millis(120_000),
    };
    Signed::new(grant, Context::None, &tracker())
}

pub fn hello() -> Signed<Hello> {
    let hello =
        Hello { session: SessionId([7; 16]), edge: edge().public(), fingerprint: Fingerprint([8; 32]) };
    Signed::new(hello, Context::None, &session())
}

pub fn voucher() -> Signed<Voucher> {
    let voucher = Voucher {
        tracker: tracker().public(),
        session: SessionId([7; 16]),
        edge: edge().public(),
        stream: stream(),
        payable: 1_000_000,
        received: 1_100_000,
        segments: 3,
        rendition: VIDEO,
        number: 120,
    };
    Signed::new(voucher, Context::None, &session())
}

pub fn receipt() -> Signed<Receipt> {
    let receipt = Receipt {
        session: SessionId([7; 16]),
        edge: edge().public(),
        payable: 1_000_000,
        earned: Micros(18),
        voucher: Hash([9; 32]),
        at: WALL,
    };
    Signed::new(receipt, Context::None, &tracker())
}

pub fn resume() -> Signed<Resume> {
    let resume = Resume { tracker: tracker().public(), nonce: [6; 16], session: SessionId([7; 16]) };
    Signed::new(resume, Context::None, &session())
}

pub fn registration() -> Signed<Registration> {
    let registration = Registration {
        tracker: tracker().public(),
        nonce: [6; 16],
        edge: edge().public(),
        fingerprint: Fingerprint([8; 32]),
    };
    Signed::new(registration, Context::None, &edge())
}

/// A packager's report of a stream that goes on, whose count before was not taken yet.
pub fn report() -> PackagerReport {
    let count = |run, bytes| Published { run: SessionId([run; 16]), bytes };
    let line = StreamReport {
        stream: stream(),
        generation: 1,
        state: State::Live,
        catalog: Some(catalog(1)),
        published: vec![count(8, 1_000_000), count(9, 40_000)],
    };
    PackagerReport {
        packager: packager().public(),
        origin: "https://origin.example".into(),
        streams: vec![line],
    }
}
