//! What crosses a socket between edges, viewers, origins and the tracker.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use millstream_model::{BitRate, Hash, MediaTime, RenditionId, StreamId, WallTime};
use millstream_wire::{
    chain::{Accepted, CATALOGS_MAX, Chain},
    codec::Error,
    frame::{Deframer, FRAME_BYTES_MAX, Frame, write_framed},
    media::{Catalog, Delegation, Media, Record, Rendition},
    session::{Certificate, Grant, Hello, Receipt, Registration, Resume, Token, Voucher},
    sign::{Body, Context, SIGNATURE_BYTES, SecretKey, Signed, Signer as _},
    tracker::{Admit, Admitted, FromEdge, FromViewer, PackagerReport, ToEdge, ToViewer},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::script::{Script, cuts};

pub(crate) fn frame(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    match Frame::decode(message.clone()) {
        Ok(Some(frame)) => {
            assert!(message.len() <= FRAME_BYTES_MAX);
            assert_eq!(frame.encode(), message, "a frame has one encoding");
            assert_eq!(Frame::decode(frame.encode()), Ok(Some(frame)));
        }
        Ok(None) => assert!(message.len() <= FRAME_BYTES_MAX && data[0] >= 0x80, "an extension"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The first byte says how the body is cut.
pub(crate) fn feed(data: &[u8]) {
    let Some((seed, body)) = data.split_first() else { return };
    let (whole, end) = deframe([body].into_iter());
    assert_eq!(
        deframe(cuts(body, *seed, usize::MAX).into_iter()),
        (whole.clone(), end),
        "cuts make no difference"
    );
    let mut again = BytesMut::new();
    for frame in &whole {
        write_framed(&frame.encode(), &mut again);
    }
    assert!(again.len() <= body.len(), "only extensions and what is unfinished are left out");
    assert_eq!(deframe([&again[..]].into_iter()), (whole, Ok(())));
}

fn deframe<'a>(body: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Result<(), Error>) {
    let mut deframer = Deframer::default();
    let mut frames = Vec::new();
    for bytes in body {
        deframer.push(bytes);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(()))
}

/// The first byte says what kind of object the rest claims to be.
pub(crate) fn signed(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 11 {
        0 => one_form::<Delegation>(&bytes),
        1 => one_form::<Catalog>(&bytes),
        2 => one_form::<Record>(&bytes),
        3 => one_form::<Certificate>(&bytes),
        4 => one_form::<Token>(&bytes),
        5 => one_form::<Grant>(&bytes),
        6 => one_form::<Hello>(&bytes),
        7 => one_form::<Voucher>(&bytes),
        8 => one_form::<Receipt>(&bytes),
        9 => one_form::<Resume>(&bytes),
        _ => one_form::<Registration>(&bytes),
    }
}

fn one_form<T: Body + Clone + PartialEq + std::fmt::Debug>(bytes: &Bytes) {
    let Ok(signed) = Signed::<T>::decode(bytes.clone()) else { return };
    let signature: &[u8; SIGNATURE_BYTES] = bytes.last_chunk().unwrap();
    let again = Signed::assemble(signed.unverified().clone(), signature);
    assert_eq!(again.bytes(), bytes, "an object has one encoding");
    assert_eq!(again, signed);
    assert_eq!(signed.to_string().parse::<Signed<T>>().as_ref(), Ok(&signed));
    // Of what is no key of ours, nothing holds.
    assert!(signed.digest() != Hash([0; 32]));
}

/// The first byte says who speaks; the rest is its message.
pub(crate) fn tracker_message(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    match kind % 7 {
        0 => reads_again::<FromViewer>(text),
        1 => reads_again::<ToViewer>(text),
        2 => reads_again::<FromEdge>(text),
        3 => reads_again::<ToEdge>(text),
        4 => reads_again::<Admit>(text),
        5 => reads_again::<Admitted>(text),
        _ => reads_again::<PackagerReport>(text),
    }
}

fn reads_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&message).unwrap();
    let again: T = serde_json::from_slice(&written).unwrap();
    assert_eq!(again, message);
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    // What is written has no more than what was read: names stand in both, and an escape is at most six letters.
    assert!(written.len() <= 6 * text.len() + 200, "{} bytes out of {}", written.len(), text.len());
}

/// True and false objects of one stream, as a packager, a thief and a meddler would make them.
struct Objects {
    root: SecretKey,
    delegations: Vec<(Signed<Delegation>, bool)>,
    catalogs: Vec<(Signed<Catalog>, bool)>,
    records: Vec<(Signed<Record>, bool)>,
}

const NOW: WallTime = WallTime(1_800_000_000_000);
const RECORDS: u64 = 20;

static OBJECTS: LazyLock<Objects> = LazyLock::new(|| {
    let key = |n: u8| SecretKey::from_seed(&[n; 32]);
    let stream = StreamId::new("demo").unwrap();
    let (root, thief) = (key(1), key(99));
    let mut objects =
        Objects { root: root.clone(), delegations: Vec::new(), catalogs: Vec::new(), records: Vec::new() };
    for generation in 1..=3 {
        let packager = key(10 + u8::try_from(generation).unwrap());
        objects.describe(&stream, generation, &packager, &root, &thief);
        objects.record(&stream, generation, &packager, &thief);
    }
    objects
});

impl Objects {
    fn describe(
        &mut self,
        stream: &StreamId,
        generation: u32,
        packager: &SecretKey,
        root: &SecretKey,
        thief: &SecretKey,
    ) {
        let delegation = Delegation {
            stream: stream.clone(),
            generation,
            packager: packager.public(),
            not_before: WallTime(NOW.0 - 1_000_000),
            expires: NOW.plus_millis(1_000_000),
        };
        let elsewhere = Delegation { stream: StreamId::new("other").unwrap(), ..delegation.clone() };
        let expired = Delegation { expires: WallTime(NOW.0 - 900_000), ..delegation.clone() };
        let other = Delegation { packager: thief.public(), ..delegation.clone() };
        let longer = Delegation { expires: NOW.plus_millis(2_000_000), ..delegation.clone() };
        for (object, signer, good) in [
            (delegation.clone(), root, true),
            (longer, root, true),
            (delegation, thief, false),
            (elsewhere, root, false),
            (expired, root, false),
            (other, thief, false),
        ] {
            self.delegations.push((Signed::new(object, Context::None, signer), good));
        }
        for version in (1..).take(CATALOGS_MAX + 2) {
            let catalog = Catalog {
                generation,
                version,
                created: NOW,
                ended: false,
                renditions: vec![rendition(0), rendition(1)],
            };
            let fork = Catalog { ended: true, ..catalog.clone() };
            for (object, signer, good) in
                [(catalog.clone(), packager, true), (fork, packager, true), (catalog, thief, false)]
            {
                self.catalogs.push((Signed::new(object, Context::Stream(stream), signer), good));
            }
        }
    }

    /// A chain per rendition; beside each record another of the same number, a forged one, and one that names a
    /// wrong predecessor.
    fn record(&mut self, stream: &StreamId, generation: u32, packager: &SecretKey, thief: &SecretKey) {
        for id in 0..2 {
            let mut previous = Record::NO_PREVIOUS;
            for at in 0..RECORDS {
                let part = u16::try_from(at % 4).unwrap();
                let record = Record {
                    generation,
                    catalog: 1 + u32::try_from(at / 8).unwrap(),
                    rendition: RenditionId(id),
                    number: u64::from(generation) * 100 + at,
                    segment: u64::from(generation) * 50 + at / 4,
                    part,
                    media_time: MediaTime(at * 250),
                    duration: 250,
                    program_date_time: NOW,
                    discontinuity: 0,
                    independent: part == 0,
                    first: part == 0,
                    size: 10,
                    pieces: vec![Hash([7; 32])],
                    previous,
                };
                let fork = Record { size: 11, ..record.clone() };
                let wrong = Record { previous: Hash([9; 32]), ..record.clone() };
                let context = Context::Stream(stream);
                let signed = Signed::new(record.clone(), context, packager);
                previous = signed.digest();
                self.records.push((signed, true));
                self.records.push((Signed::new(fork.clone(), context, packager), true));
                self.records.push((Signed::new(wrong, context, packager), true));
                self.records.push((Signed::new(fork, context, thief), false));
            }
        }
    }
}

fn rendition(id: u8) -> Rendition {
    Rendition {
        id: RenditionId(id),
        name: format!("r{id}"),
        group: format!("g{id}"),
        media: Media::Audio { channels: 2, sample_rate: 48_000 },
        codecs: "mp4a.40.2".into(),
        bandwidth: BitRate(1),
        timescale: 1_000,
        target_duration_ms: 4_000,
        part_target_ms: 250,
        init: Bytes::from_static(b"init"),
    }
}

pub(crate) fn chain(data: &[u8]) {
    let objects = &*OBJECTS;
    let mut chain = Chain::new(StreamId::new("demo").unwrap(), objects.root.public());
    // What was believed, by place; and by that what the chain may never say again.
    let mut records = BTreeMap::<(RenditionId, u64), &Signed<Record>>::new();
    let mut catalogs = BTreeMap::<(u32, u32), Hash>::new();
    let (mut generation, mut heads) = (0, BTreeMap::<RenditionId, u64>::new());
    // A signature takes its time, and so does a script that repeats itself.
    let mut script = Script::new(&data[..data.len().min(900)]);
    while script.goes_on() {
        match script.byte() % 8 {
            0 => {
                let (signed, good) = &objects.delegations[script.index(objects.delegations.len())];
                let offered = signed.unverified();
                let result = chain.accept_delegation(signed, NOW);
                assert!(*good || result.is_err(), "{result:?}");
                assert!(offered.generation >= generation || result.is_err(), "rolled back");
                if result == Ok(Accepted::New) && offered.generation > generation {
                    generation = offered.generation;
                    assert!(chain.catalog().is_none(), "catalogs of the generation before");
                }
            }
            1 | 2 => {
                let (signed, good) = &objects.catalogs[script.index(objects.catalogs.len())];
                let offered = signed.unverified();
                let result = chain.accept_catalog(signed);
                // The same object with another signature is refused too: a fork, if nothing else.
                assert!(*good || result.is_err(), "{result:?}");
                assert!(offered.generation == generation || result.is_err());
                if result.is_ok() && chain.catalogs().any(|known| known.version == offered.version) {
                    let digest = signed.digest();
                    let known = *catalogs.entry((offered.generation, offered.version)).or_insert(digest);
                    assert_eq!(known, digest, "two catalogs of one version");
                }
            }
            _ => {
                let (signed, good) = &objects.records[script.index(objects.records.len())];
                let offered = signed.unverified();
                let result = chain.accept_record(signed);
                // True as well when another record that was believed names it: that is a signature's worth.
                assert!(*good || result != Ok(Accepted::New), "{offered:?}");
                assert!(offered.generation == generation || result.is_err());
                if result == Ok(Accepted::New) {
                    let place = (offered.rendition, offered.number);
                    assert!(records.insert(place, signed).is_none(), "two records in one place");
                }
            }
        }
        check_links(&records);
        assert!(chain.catalogs().count() <= CATALOGS_MAX);
        assert_eq!(chain.delegation().map_or(0, |known| known.generation), generation);
        for id in [RenditionId(0), RenditionId(1)] {
            let head = records.keys().filter(|(of, _)| *of == id).map(|(_, number)| *number).max();
            assert_eq!(chain.head(id), head);
            assert!(head >= heads.get(&id).copied());
            heads.extend(head.map(|head| (id, head)));
        }
    }
}

/// Neighbours that were believed follow each other.
fn check_links(records: &BTreeMap<(RenditionId, u64), &Signed<Record>>) {
    for ((id, number), record) in records {
        let Some(before) = number.checked_sub(1).and_then(|before| records.get(&(*id, before))) else {
            continue;
        };
        let (was, is) = (before.unverified(), record.unverified());
        assert_eq!(is.previous, before.digest(), "{was:?} before {is:?}");
        let next = if is.part == 0 { (was.segment + 1, 0) } else { (was.segment, was.part + 1) };
        assert_eq!((is.segment, is.part), next);
    }
}
