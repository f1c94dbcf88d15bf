//! Believing a stream: what a chain accepts and what it refuses.
#![allow(clippy::unwrap_used, reason = "in a test, a surprise shall be loud")]

mod sample;

use millstream_model::Hash;
use millstream_wire::{
    chain::{Accepted, Chain, LINKS_MAX, Refused, piece_fits},
    media::{Delegation, Record},
    sign::{self, Context, SecretKey, Signed, Signer as _},
};
use sample::{VIDEO, WALL, catalog, delegation, packager, records, root, stream};

fn chain() -> Chain {
    let mut chain = Chain::new(stream(), root().public());
    chain.accept_delegation(&delegation(1), WALL).unwrap();
    chain.accept_catalog(&catalog(1)).unwrap();
    chain
}

fn altered(signed: &Signed<Record>, change: impl FnOnce(&mut Record)) -> Signed<Record> {
    let mut record = signed.unverified().clone();
    change(&mut record);
    Signed::new(record, Context::Stream(&stream()), &packager())
}

#[test]
fn a_chain_is_believed_forwards_and_backwards() {
    for order in [0..20, 0..20].map(Iterator::collect::<Vec<usize>>).into_iter().enumerate() {
        let (backwards, mut order) = order;
        if backwards == 1 {
            order.reverse();
        }
        let (mut chain, all) = (chain(), records(20));
        for index in order {
            assert_eq!(chain.accept_record(&all[index]), Ok(Accepted::New));
        }
        assert_eq!(chain.head(VIDEO), Some(119));
        assert_eq!(chain.accept_record(&all[3]), Ok(Accepted::Known));
    }
}

#[test]
fn read_backwards_one_signature_is_enough() {
    let (mut chain, all) = (chain(), records(2));
    chain.accept_record(&all[1]).unwrap();
    let mut bytes = all[0].bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let unsigned = Signed::decode(bytes.into()).unwrap();
    assert_eq!(chain.accept_record(&unsigned), Ok(Accepted::New), "its successor vouches for it");
}

#[test]
fn a_packager_that_the_root_never_delegated_is_refused() {
    let mut chain = Chain::new(stream(), root().public());
    let thief = SecretKey::from_seed(&[66; 32]);
    let mut own = delegation(9).unverified().clone();
    own.packager = thief.public();
    let forged = Signed::new(own, Context::None, &thief);
    assert_eq!(chain.accept_delegation(&forged, WALL), Err(Refused::Signature(sign::Error::Signature)));
    assert_eq!(chain.accept_catalog(&catalog(1)), Err(Refused::Undelegated(1)));
    chain.accept_delegation(&delegation(1), WALL).unwrap();
    let forged = Signed::new(catalog(1).unverified().clone(), Context::Stream(&stream()), &thief);
    assert_eq!(chain.accept_catalog(&forged), Err(Refused::Signature(sign::Error::Signature)));
}

#[test]
fn a_rolled_back_head_is_refused() {
    let mut chain = chain();
    chain.accept_delegation(&delegation(2), WALL).unwrap();
    assert_eq!(chain.accept_delegation(&delegation(1), WALL), Err(Refused::Generation { got: 1, known: 2 }));
    assert_eq!(
        chain.accept_record(&records(1)[0]),
        Err(Refused::Generation { got: 1, known: 2 }),
        "records of the generation before are not taken any more"
    );
}

#[test]
fn a_broken_link_is_refused() {
    let all = records(3);
    let mut forward = chain();
    forward.accept_record(&all[0]).unwrap();
    let broken = altered(&all[1], |record| record.previous = Hash([1; 32]));
    assert_eq!(forward.accept_record(&broken), Err(Refused::Broken));
    let elsewhere = altered(&all[1], |record| record.part = 5);
    assert_eq!(forward.accept_record(&elsewhere), Err(Refused::Broken));
    assert_eq!(forward.accept_record(&all[1]), Ok(Accepted::New), "the true one still fits");
}

#[test]
fn two_truths_are_a_fork() {
    let (mut chain, all) = (chain(), records(1));
    chain.accept_record(&all[0]).unwrap();
    let other = altered(&all[0], |record| record.duration += 1);
    assert_eq!(chain.accept_record(&other), Err(Refused::Fork));
    let mut second = catalog(1).unverified().clone();
    second.ended = true;
    let second = Signed::new(second, Context::Stream(&stream()), &packager());
    assert_eq!(chain.accept_catalog(&second), Err(Refused::Fork));
}

#[test]
fn a_delegation_has_its_time() {
    let mut chain = Chain::new(stream(), root().public());
    let late = WALL.plus_millis(86_400_000 + 200_000);
    assert_eq!(chain.accept_delegation(&delegation(1), late), Err(Refused::Expired));
    let foreign = Delegation { stream: "other".parse().unwrap(), ..delegation(1).unverified().clone() };
    let foreign = Signed::new(foreign, Context::None, &root());
    assert_eq!(chain.accept_delegation(&foreign, WALL), Err(Refused::Stream));
}

#[test]
fn a_record_needs_its_catalog() {
    let mut chain = Chain::new(stream(), root().public());
    chain.accept_delegation(&delegation(1), WALL).unwrap();
    assert_eq!(chain.accept_record(&records(1)[0]), Err(Refused::Catalog));
    chain.accept_catalog(&catalog(1)).unwrap();
    let future = altered(&records(1)[0], |record| record.catalog = 2);
    assert_eq!(chain.accept_record(&future), Err(Refused::Catalog));
}

#[test]
fn a_chain_remembers_a_bounded_number_of_links() {
    let (mut chain, all) = (chain(), records(LINKS_MAX as u64 + 10));
    for record in &all {
        chain.accept_record(record).unwrap();
    }
    assert_eq!(chain.accept_record(&all[0]), Ok(Accepted::Old));
    assert_eq!(chain.accept_record(&all[200]), Ok(Accepted::Known));
}

#[test]
fn a_piece_fits_its_hash_and_no_other() {
    let record = records(1)[0].unverified().clone();
    let piece = vec![0; 65_536];
    assert!(piece_fits(&record, 0, &piece));
    assert!(!piece_fits(&record, 1, &piece));
    assert!(!piece_fits(&record, 2, &[]));
    let mut flipped = piece;
    flipped[9_000] ^= 4;
    assert!(!piece_fits(&record, 0, &flipped));
}
