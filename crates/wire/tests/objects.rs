//! Every object reads back as it was written, and no bytes from outside are more than an error.
#![allow(clippy::unwrap_used, reason = "in a test, a surprise shall be loud")]

mod sample;

use bytes::Bytes;
use millstream_model::RenditionId;
use millstream_wire::{
    codec,
    frame::{Deframer, FRAME_BYTES_MAX, Frame, Reason, Span, Subscription, write_framed},
    media::{Catalog, Delegation, Record, Rendition},
    session::{Certificate, Grant, Hello, Receipt, Registration, Resume, Token, Voucher},
    sign::{self, Body, Context, OBJECT_BYTES_MAX, Signed, Signer as _},
    tracker::{FromEdge, FromViewer, ToEdge, ToViewer},
};
use proptest::prelude::*;
use sample::{edge, packager, root, session, stream, tracker};

fn round_trip<T: Body + PartialEq + std::fmt::Debug>(signed: &Signed<T>) {
    let again = Signed::<T>::decode(signed.bytes().clone()).unwrap();
    assert_eq!(again, *signed);
    assert_eq!(signed.to_string().parse::<Signed<T>>().unwrap(), *signed);
    // Cut anywhere, it is refused and never misread.
    for end in 0..signed.bytes().len() {
        if let Ok(short) = Signed::<T>::decode(signed.bytes().slice(..end)) {
            assert_ne!(short.unverified(), signed.unverified());
        }
    }
}

#[test]
fn signed_objects_read_back() {
    round_trip(&sample::delegation(1));
    round_trip(&sample::catalog(1));
    round_trip(&sample::records(3)[2]);
    round_trip(&sample::certificate());
    round_trip(&sample::token());
    round_trip(&sample::grant());
    round_trip(&sample::hello());
    round_trip(&sample::voucher());
    round_trip(&sample::receipt());
    round_trip(&sample::resume());
    round_trip(&sample::registration());
}

#[test]
fn a_signature_is_good_for_one_object_one_key_one_stream() {
    let record = sample::records(1).remove(0);
    let (here, key) = (stream(), packager().public());
    assert!(record.verify(&key, Context::Stream(&here)).is_ok());
    let elsewhere = "other".parse().unwrap();
    assert_eq!(record.verify(&key, Context::Stream(&elsewhere)), Err(sign::Error::Signature));
    assert_eq!(record.verify(&key, Context::None), Err(sign::Error::Signature));
    assert_eq!(record.verify(&root().public(), Context::Stream(&here)), Err(sign::Error::Signature));
    for bit in [0, 100, record.bytes().len() * 8 - 1] {
        let mut bytes = record.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(forged) = Signed::<Record>::decode(bytes.into()) {
            assert!(forged.verify(&key, Context::Stream(&here)).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_voucher_never_claims_more_than_arrived() {
    let mut voucher = sample::voucher().unverified().clone();
    voucher.payable = voucher.received + 1;
    let signed = Signed::new(voucher, Context::None, &session());
    let error = Signed::<Voucher>::decode(signed.bytes().clone()).unwrap_err();
    assert!(matches!(error, codec::Error::Over { what: "payable", .. }), "{error}");
}

#[test]
fn the_longest_catalog_that_fits_a_frame_is_read_from_a_text_too() {
    let of = |init: usize| {
        let mut catalog = sample::catalog(1).unverified().clone();
        let model = catalog.renditions.remove(0);
        catalog.renditions = (0..32)
            .map(|n| Rendition {
                id: RenditionId(n),
                name: format!("v{n}"),
                init: Bytes::from(vec![7; init]),
                ..model.clone()
            })
            .collect();
        Signed::new(catalog, Context::Stream(&stream()), &packager())
    };
    let catalog = of(1_900);
    assert!(catalog.bytes().len() > 60_000 && catalog.bytes().len() <= OBJECT_BYTES_MAX);
    assert_eq!(catalog.to_string().parse::<Signed<Catalog>>().unwrap(), catalog);
    let frame = Frame::Catalog(catalog);
    assert_eq!(Frame::decode(frame.encode()).unwrap(), Some(frame));
    let catalog = of(2_100);
    assert!(catalog.bytes().len() > OBJECT_BYTES_MAX);
    assert!(catalog.to_string().parse::<Signed<Catalog>>().is_err());
    assert!(Frame::decode(Frame::Catalog(catalog).encode()).is_err());
}

fn frames() -> Vec<Frame> {
    let span = Span { rendition: sample::VIDEO, number: 77, first: 1, count: 3 };
    vec![
        Frame::Hello { protocol: 1, grant: sample::grant(), hello: sample::hello() },
        Frame::Welcome { protocol: 1, window: 2 << 20 },
        Frame::Refuse { reason: Reason::Unpaid, text: "pay".into() },
        Frame::Goaway { reason: Reason::Shutdown, within_ms: 10_000 },
        Frame::Delegation(sample::delegation(1)),
        Frame::Catalog(sample::catalog(1)),
        Frame::Record(sample::records(1).remove(0)),
        Frame::Piece {
            rendition: sample::VIDEO,
            number: 1 << 40,
            index: 255,
            data: Bytes::from(vec![9; 65_536]),
        },
        Frame::Gap { rendition: sample::VIDEO, from: 5, next: 9 },
        Frame::Missing(span),
        Frame::Subscribe { rendition: sample::AUDIO, want: Subscription::Pieces, from: 12 },
        Frame::Request(span),
        Frame::Cancel { rendition: sample::VIDEO, number: 77 },
        Frame::Grant(sample::grant()),
        Frame::Voucher(sample::voucher()),
        Frame::Ping(u64::MAX),
        Frame::Pong(0),
    ]
}

fn is_a_viewers(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Hello { .. }
            | Frame::Subscribe { .. }
            | Frame::Request(_)
            | Frame::Cancel { .. }
            | Frame::Grant(_)
            | Frame::Voucher(_)
    )
}

#[test]
fn frames_read_back_alone_and_from_a_body_in_any_slices() {
    let mut body = bytes::BytesMut::new();
    for frame in frames() {
        let message = frame.encode();
        assert!(message.len() <= FRAME_BYTES_MAX);
        let downstream = Frame::decode_downstream(message.clone());
        if is_a_viewers(&frame) {
            assert!(
                matches!(downstream, Err(codec::Error::Value { what: "frame type", .. })),
                "{downstream:?}"
            );
        } else {
            assert_eq!(downstream.unwrap().as_ref(), Some(&frame));
            write_framed(&message, &mut body);
        }
        assert_eq!(Frame::decode(message).unwrap(), Some(frame));
    }
    let said = frames().into_iter().filter(|frame| !is_a_viewers(frame)).collect::<Vec<_>>();
    for slice in [1, 7, 1_000, body.len()] {
        let mut deframer = Deframer::default();
        let mut read = Vec::new();
        for bytes in body.chunks(slice) {
            deframer.push(bytes);
            while let Some(frame) = deframer.next_frame().unwrap() {
                read.push(frame);
            }
        }
        assert_eq!(read, said);
    }
}

#[test]
fn an_unknown_extension_is_skipped_and_an_unknown_frame_refused() {
    assert_eq!(Frame::decode(Bytes::from_static(&[0x80, 1, 2, 3])), Ok(None));
    assert!(Frame::decode(Bytes::from_static(&[0x7f])).is_err());
    assert!(Frame::decode(Bytes::new()).is_err());
    assert!(Frame::decode(Bytes::from(vec![0x80; FRAME_BYTES_MAX + 1])).is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_more_than_an_error(bytes: Vec<u8>, kind in 0u8..0x50) {
        let mut message = vec![kind];
        message.extend_from_slice(&bytes);
        let _ = Frame::decode(message.into());
        let bytes = Bytes::from(bytes);
        let _ = Signed::<Delegation>::decode(bytes.clone());
        let _ = Signed::<Catalog>::decode(bytes.clone());
        let _ = Signed::<Record>::decode(bytes.clone());
        let _ = Signed::<Certificate>::decode(bytes.clone());
        let _ = Signed::<Token>::decode(bytes.clone());
        let _ = Signed::<Grant>::decode(bytes.clone());
        let _ = Signed::<Hello>::decode(bytes.clone());
        let _ = Signed::<Voucher>::decode(bytes.clone());
        let _ = Signed::<Receipt>::decode(bytes.clone());
        let _ = Signed::<Resume>::decode(bytes.clone());
        let _ = Signed::<Registration>::decode(bytes);
    }

    #[test]
    fn what_reads_after_a_change_writes_the_same_bytes(at in 0usize..400, to: u8, pick in 0usize..17) {
        let mut message = frames()[pick].encode().to_vec();
        let at = at % message.len();
        message[at] = to;
        let message = Bytes::from(message);
        if let Ok(Some(frame)) = Frame::decode(message.clone()) {
            prop_assert_eq!(frame.encode(), message, "an object has one encoding");
        }
    }

    #[test]
    fn no_body_makes_the_deframer_hold_more_than_a_frame(bytes: Vec<u8>) {
        let mut deframer = Deframer::default();
        deframer.push(&bytes);
        while let Ok(Some(_)) = deframer.next_frame() {}
    }

    #[test]
    fn no_text_is_more_than_an_error(text in "\\PC{0,200}") {
        let _ = serde_json::from_str::<FromViewer>(&text);
        let _ = serde_json::from_str::<ToViewer>(&text);
        let _ = serde_json::from_str::<FromEdge>(&text);
        let _ = serde_json::from_str::<ToEdge>(&text);
        let _ = text.parse::<Signed<Grant>>();
    }
}

#[test]
fn tracker_messages_are_tagged_json() {
    let join = FromViewer::Join { stream: stream(), key: session().public(), ticket: None };
    let json = serde_json::to_value(&join).unwrap();
    assert_eq!(json["type"], "join");
    assert_eq!(json["stream"], "demo");
    assert_eq!(serde_json::from_value::<FromViewer>(json).unwrap(), join);
    let lookup = r#"{"type":"lookup","stream":"demo","from_the_future":1}"#;
    assert_eq!(serde_json::from_str::<FromEdge>(lookup).unwrap(), FromEdge::Lookup { stream: stream() });
    assert!(serde_json::from_str::<FromEdge>(r#"{"type":"dance"}"#).is_err());
    assert_eq!(edge().public().to_string().len(), 43);
    let _ = tracker();
}
