//! What is signed is believed by those who receive it, whatever happens to the publisher.

use bytes::Bytes;
use millstream_wire::{
    chain::{Accepted, Refused, piece_fits},
    media::Media,
    sign::Signer as _,
};

use super::*;
use crate::show::{self, NOW, Object, Parts, believe, chain, permission, signer, tracks};

fn delegation(generation: u32) -> Object {
    Object::Delegation(permission(generation).delegation)
}

/// Signs `count` parts of each.
fn parts(signer: &mut Signer, lanes: &mut [Parts], count: u32) -> Vec<Object> {
    let mut objects = Vec::new();
    for _ in 0..count {
        for parts in lanes.iter_mut() {
            objects.push(Object::Record(signer.part(&parts.next()).unwrap()));
        }
    }
    objects
}

fn records(objects: &[Object]) -> Vec<&Record> {
    objects
        .iter()
        .filter_map(|object| match object {
            Object::Record(record) => Some(record.unverified()),
            _ => None,
        })
        .collect()
}

#[test]
fn parts_become_a_chain_that_a_receiver_believes() {
    let mut signer = signer();
    let mut lanes = [Parts::video(), Parts::audio()];
    lanes[0].bytes = 150_000;
    let catalog = signer.tracks(&tracks(), NOW).unwrap();
    let described = catalog.unverified().rendition(segmenter::VIDEO).unwrap();
    assert_eq!(described.media, Media::Video { width: 320, height: 180, frame_rate_milli: 30_000 });
    assert_eq!((described.name.as_str(), described.group.as_str()), ("video", "video"));
    let mut objects = vec![delegation(1), Object::Catalog(catalog)];
    objects.extend(parts(&mut signer, &mut lanes, 40));
    let mut receiver = chain();
    believe(&mut receiver, &objects);

    let record = records(&objects)[16];
    assert_eq!((record.number, record.segment, record.part, record.first), (8, 1, 0, true));
    assert_eq!((record.size, record.pieces.len()), (150_000, 3));
    assert!(piece_fits(record, 2, &vec![8; 150_000 - 2 * 65_536]));
    assert_eq!(signer.next().number, 40);
    assert_eq!(signer.next().segment, 5, "the open one is taken");

    // Backwards, a window costs one signature a rendition.
    let mut late = chain();
    let (head, tail) = objects.split_at(2);
    believe(&mut late, head.iter().chain(tail.iter().rev()));
}

#[test]
fn several_renditions_of_the_pictures_are_one_group_with_names_and_rates_of_their_own() {
    let mut signer = signer();
    signer.expect(Rates { video: Some(BitRate(4_000_000)), audio: None });
    let mut tracks = tracks();
    tracks.push(segmenter::Track { rendition: RenditionId(2), ..tracks[0].clone() });
    let catalog = signer.tracks(&tracks, NOW).unwrap();
    let told: Vec<_> = catalog.unverified().renditions.iter().collect();
    let names: Vec<_> =
        told.iter().map(|rendition| (rendition.name.as_str(), rendition.group.as_str())).collect();
    assert_eq!(names, [("video", "video"), ("audio", "audio"), ("video-2", "video")]);
    assert_eq!(told[0].bandwidth, BitRate(5_000_000));
    assert!(told[2].bandwidth < BitRate(1_000_000), "what is told of the publisher's own says nothing of it");
}

#[test]
fn a_lost_part_leaves_no_hole_in_the_chain() {
    let mut signer = signer();
    let mut video = Parts::video();
    let mut objects = vec![delegation(1), Object::Catalog(signer.tracks(&tracks(), NOW).unwrap())];
    for lost in 0..40 {
        let mut part = video.next();
        if lost % 5 == 3 {
            continue;
        }
        if lost % 7 == 6 {
            part.data = Bytes::new();
            assert!(matches!(signer.part(&part), Err(Unsigned::Size { bytes: 0, .. })));
            continue;
        }
        objects.push(Object::Record(signer.part(&part).unwrap()));
    }
    believe(&mut chain(), &objects);
    let numbers: Vec<u64> = records(&objects).iter().map(|record| record.number).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
}

#[test]
fn what_cannot_be_said_in_a_record_is_not_signed() {
    let mut signer = signer();
    let mut video = Parts::video();
    assert_eq!(signer.part(&video.next()), Err(Unsigned::Undescribed));
    signer.tracks(&tracks()[..1], NOW);
    assert_eq!(signer.part(&video.next()), Err(Unsigned::Headless), "its first part came before the tracks");
    assert_eq!(signer.part(&Parts::audio().next()), Err(Unsigned::Undescribed));
    video.cut();
    let mut part = video.next();
    part.duration = 0;
    assert!(matches!(signer.part(&part), Err(Unsigned::Size { .. })));
    part.duration = 1;
    part.data = Bytes::from(vec![0; 16 * 1024 * 1024 + 1]);
    assert!(matches!(signer.part(&part), Err(Unsigned::Size { .. })));
    part.data = part.data.slice(1..);
    let record = signer.part(&part).unwrap();
    assert_eq!(record.unverified().pieces.len(), 256);
    assert_eq!(record.unverified().number, 0);
}

#[test]
fn a_comeback_stays_in_the_generation_and_the_chain() {
    let mut signer = signer();
    let mut lanes = [Parts::video(), Parts::audio()];
    let mut objects = vec![delegation(1), Object::Catalog(signer.tracks(&tracks(), NOW).unwrap())];
    objects.extend(parts(&mut signer, &mut lanes, 11));
    assert_eq!(signer.tracks(&tracks(), NOW), None, "the same tracks are the same catalog");
    let mut other = tracks();
    other[0].init = Bytes::from_static(b"another video init");
    let catalog = signer.tracks(&other, NOW).unwrap();
    assert_eq!(catalog.unverified().version, 2);
    objects.push(Object::Catalog(catalog));
    for parts in &mut lanes {
        parts.cut();
        parts.discontinuity = 1;
    }
    objects.extend(parts(&mut signer, &mut lanes, 3));
    believe(&mut chain(), &objects);
    let last = *records(&objects).last().unwrap();
    assert_eq!((last.catalog, last.segment, last.part, last.discontinuity), (2, 2, 2, 1));
}

#[test]
fn a_new_delegation_begins_a_new_chain_and_numbers_go_on() {
    let mut signer = signer();
    let mut lanes = [Parts::video(), Parts::audio()];
    let mut objects = vec![delegation(1), Object::Catalog(signer.tracks(&tracks(), NOW).unwrap())];
    objects.extend(parts(&mut signer, &mut lanes, 11));
    let old = objects.clone();
    objects.push(delegation(4));
    let catalog = signer.delegate(4, NOW).unwrap();
    assert_eq!((catalog.unverified().generation, catalog.unverified().version), (4, 1));
    objects.push(Object::Catalog(catalog));
    assert_eq!(signer.part(&lanes[0].clone().next()), Err(Unsigned::Headless));
    for parts in &mut lanes {
        parts.cut();
    }
    objects.extend(parts(&mut signer, &mut lanes, 2));
    let mut receiver = chain();
    believe(&mut receiver, &objects);
    let last = *records(&objects).last().unwrap();
    assert_eq!((last.generation, last.number, last.segment, last.part), (4, 12, 2, 1));
    let Object::Record(rolled_back) = old.last().unwrap() else { panic!() };
    assert!(matches!(receiver.accept_record(rolled_back), Err(Refused::Generation { .. })));
}

#[test]
fn a_restarted_packager_goes_on_behind_its_numbers() {
    let start = Numbers { number: 4_096, segment: 512, ..Numbers::default() };
    let mut before = signer();
    let mut objects = vec![delegation(1), Object::Catalog(before.tracks(&tracks(), NOW).unwrap())];
    objects.extend(parts(&mut before, &mut [Parts::video()], 11));
    let mut after = Signer::new(show::stream(), show::packager(), 2, start);
    assert_eq!(after.next(), start);
    objects.push(delegation(2));
    objects.push(Object::Catalog(after.tracks(&tracks(), NOW).unwrap()));
    objects.extend(parts(&mut after, &mut [Parts::video()], 2));
    believe(&mut chain(), &objects);
    assert_eq!(records(&objects)[11].number, 4_096);
}

#[test]
fn rates_are_what_the_publisher_says_until_they_are_measured() {
    let mut signer = signer();
    signer.expect(Rates { video: Some(BitRate(100_000)), audio: None });
    let rate =
        |catalog: &Signed<Catalog>| catalog.unverified().rendition(segmenter::VIDEO).unwrap().bandwidth;
    let catalog = signer.tracks(&tracks(), NOW).unwrap();
    assert_eq!(rate(&catalog), BitRate(125_000));
    assert_eq!(catalog.unverified().rendition(segmenter::AUDIO).unwrap().bandwidth, AUDIO_RATE);
    let mut video = Parts::video();
    // 4 parts a second.
    video.bytes = 50_000;
    parts(&mut signer, &mut [video.clone()], 8);
    assert_eq!(signer.correct(NOW), None, "the segment is not whole");
    for _ in 0..8 {
        video.next();
    }
    parts(&mut signer, &mut [video], 1);
    let catalog = signer.correct(NOW).unwrap();
    assert_eq!(rate(&catalog), BitRate(2_000_000), "1.6 Mbit/s measured");
    assert_eq!(signer.correct(NOW), None);
}

#[test]
fn a_rate_far_too_high_is_corrected_once_enough_was_measured() {
    let mut signer = signer();
    signer.expect(Rates { video: Some(BitRate(50_000_000)), audio: None });
    signer.tracks(&tracks(), NOW);
    let mut video = Parts::video();
    video.bytes = 50_000;
    let mut catalogs = Vec::new();
    for _ in 0..100 {
        signer.part(&video.next()).unwrap();
        catalogs.extend(signer.correct(NOW));
    }
    assert_eq!(catalogs.len(), 1);
    assert_eq!(catalogs[0].unverified().renditions[0].bandwidth, BitRate(2_000_000));
}

#[test]
fn the_end_is_signed_and_a_new_beginning_too() {
    let mut signer = signer();
    assert_eq!(signer.end(NOW), None);
    let mut receiver = chain();
    let first = signer.tracks(&tracks(), NOW).unwrap();
    let end = signer.end(NOW).unwrap();
    assert!(end.unverified().ended);
    believe(&mut receiver, &[delegation(1), Object::Catalog(first)]);
    assert_eq!(receiver.accept_catalog(&end), Ok(Accepted::New));
    assert!(receiver.catalog().unwrap().ended);
    let again = signer.tracks(&tracks(), NOW).unwrap();
    assert!(!again.unverified().ended);
}

#[test]
fn another_key_is_not_believed() {
    let mut signer = Signer::new(show::stream(), show::root(), 1, Numbers::default());
    assert_ne!(show::root().public(), show::packager().public());
    let mut receiver = chain();
    believe(&mut receiver, &[delegation(1)]);
    let catalog = signer.tracks(&tracks(), NOW).unwrap();
    assert!(matches!(receiver.accept_catalog(&catalog), Err(Refused::Signature(_))));
}

#[test]
fn a_rung_that_joins_or_was_away_has_the_numbers_of_those_beside_it() {
    const RUNG: RenditionId = RenditionId(16);
    let mut signer = signer();
    let mut video = Parts::video();
    let own = tracks();
    let mut both = own.clone();
    both.insert(1, segmenter::Track { rendition: RUNG, ..own[0].clone() });
    let mut segments = Vec::new();
    // Without it, with it, without, with: two segments each.
    for with in [false, true, false, true] {
        let catalog = signer.tracks(if with { &both } else { &own }, NOW).unwrap();
        for _ in 0..16 {
            let part = video.next();
            let leader = signer.part(&part).unwrap().unverified().segment;
            if with {
                let rung = signer.part(&segmenter::Part { rendition: RUNG, ..part }).unwrap();
                assert_eq!(rung.unverified().segment, leader);
                segments.push(leader);
            }
        }
        let name = catalog.unverified().rendition(RUNG).map(|rung| rung.name.clone());
        assert_eq!(name, with.then(|| String::from("180p")));
    }
    segments.dedup();
    assert_eq!(segments, [2, 3, 6, 7]);
}
