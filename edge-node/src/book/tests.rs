//! Stories of vouchers on their way to the tracker.

use millstream_model::{Hash, PublicKey, RenditionId};
use millstream_wire::sign::{Context, SecretKey, SessionSecret, Signer as _};

use super::*;

const EDGE: PublicKey = PublicKey([2; 32]);
const WALL: WallTime = WallTime(1_790_000_000_000);

fn grant(session: u8) -> Grant {
    Grant {
        tracker: SecretKey::from_seed(&[1; 32]).public(),
        session: SessionId([session; 16]),
        key: SessionSecret::from_bytes(&[3; 32]).unwrap().public(),
        stream: StreamId::new("demo").unwrap(),
        edge: EDGE,
        price: Price(1 << 20),
        cap_bytes: 1 << 40,
        serial: 1,
        issued: WALL,
        expires: WALL.plus_millis(120_000),
    }
}

fn voucher(session: u8, payable: u64) -> Signed<Voucher> {
    let grant = grant(session);
    let voucher = Voucher {
        tracker: grant.tracker,
        session: grant.session,
        edge: EDGE,
        stream: grant.stream,
        payable,
        received: payable,
        segments: 1,
        rendition: RenditionId(0),
        number: 1,
    };
    Signed::new(voucher, Context::None, &SessionSecret::from_bytes(&[3; 32]).unwrap())
}

fn receipt(session: u8, payable: u64) -> Receipt {
    Receipt {
        session: SessionId([session; 16]),
        edge: EDGE,
        payable,
        earned: Price(1 << 20).of(payable),
        voucher: Hash([0; 32]),
        at: WALL,
    }
}

fn second(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000)
}

const MIB: u64 = 1 << 20;

#[test]
fn the_latest_voucher_of_a_lane_is_brought_every_ten_seconds_until_a_receipt_covers_it() {
    let mut book = Book::default();
    book.take(&grant(1), voucher(1, 5 * MIB));
    assert_eq!(book.due(second(0)), [voucher(1, 5 * MIB)]);
    assert_eq!(book.due(second(9)), []);
    book.take(&grant(1), voucher(1, 6 * MIB));
    assert_eq!(book.due(second(10)), [voucher(1, 6 * MIB)]);
    book.receipt(&receipt(1, 5 * MIB));
    assert_eq!(book.due(second(20)), [voucher(1, 6 * MIB)], "the receipt was for less");
    book.receipt(&receipt(1, 6 * MIB));
    assert_eq!(book.due(second(90)), []);
    assert_eq!(book.open(), (0, Micros(0)));
}

#[test]
fn a_lane_that_ends_is_brought_at_once_and_so_is_all_when_the_tracker_is_back() {
    let mut book = Book::default();
    for lane in 1..4 {
        book.take(&grant(lane), voucher(lane, MIB));
    }
    assert_eq!(book.due(second(0)).len(), 3);
    book.closed(SessionId([2; 16]));
    assert_eq!(book.due(second(1)), [voucher(2, MIB)]);
    book.reconnected();
    assert_eq!(book.due(second(2)).len(), 3);
}

#[test]
fn earnings_count_each_byte_once_however_often_it_is_receipted() {
    let mut book = Book::default();
    book.take(&grant(1), voucher(1, 10 * MIB));
    for payable in [4 * MIB, 4 * MIB, 10 * MIB, 4 * MIB] {
        book.receipt(&receipt(1, payable));
    }
    let earnings = book.earnings();
    assert_eq!(earnings.earned, Price(1 << 20).of(10 * MIB));
    assert_eq!(earnings.bytes, 10 * MIB);
    assert_eq!(earnings.hours.values().map(|micros| micros.0).sum::<i64>(), earnings.earned.0);
    assert_eq!(earnings.streams.values().map(|stream| stream.earned.0).sum::<i64>(), earnings.earned.0);
    assert_eq!(earnings.receipts, 4);
}

#[test]
fn what_is_kept_on_disk_is_brought_after_a_restart_and_counted_once() {
    let mut book = Book::default();
    book.take(&grant(1), voucher(1, 10 * MIB));
    book.take(&grant(2), voucher(2, MIB));
    book.receipt(&receipt(1, 4 * MIB));
    book.receipt(&receipt(2, MIB));
    let kept = serde_json::to_vec(&book).unwrap();
    let mut book: Book = serde_json::from_slice(&kept).unwrap();
    assert_eq!(book.due(second(0)), [voucher(1, 10 * MIB)]);
    book.receipt(&receipt(1, 10 * MIB));
    assert_eq!(book.earnings().earned, Price(1 << 20).of(11 * MIB));
    assert_eq!(book.claim(SessionId([1; 16])).unwrap().payable, 10 * MIB);
}

#[test]
fn a_refused_voucher_is_told_once_and_a_higher_one_is_brought() {
    let mut book = Book::default();
    book.take(&grant(1), voucher(1, MIB));
    assert_eq!(book.due(second(0)).len(), 1);
    for _ in 0..3 {
        book.rejected(SessionId([1; 16]), "over the cap", WALL);
    }
    assert_eq!(book.due(second(60)), []);
    assert_eq!(book.earnings().rejected, 1);
    assert_eq!(book.earnings().rejections[0].reason, "over the cap");
    book.take(&grant(1), voucher(1, 2 * MIB));
    assert_eq!(book.due(second(70)), [voucher(1, 2 * MIB)]);
}

#[test]
fn a_voucher_is_kept_until_nobody_would_take_it() {
    let mut book = Book::default();
    book.take(&grant(1), voucher(1, MIB));
    let renewed = Grant { expires: WALL.plus_millis(600_000), ..grant(1) };
    book.renewed(&renewed);
    book.prune(renewed.expires.plus_millis(LATE_MS - 1));
    assert_eq!(book.open().0, 1);
    book.prune(renewed.expires.plus_millis(LATE_MS));
    assert_eq!(book.open().0, 0);
}

#[test]
fn the_book_is_bounded_and_gives_up_what_is_settled_first() {
    let mut book = Book::default();
    let any = grant(0);
    let lane = |index: usize| {
        let mut session = [0; 16];
        session[..8].copy_from_slice(&index.to_be_bytes());
        Grant { session: SessionId(session), ..any.clone() }
    };
    // The signature does not matter here, so one voucher serves for all.
    let paper = voucher(0, MIB);
    for index in 0..LANES_MAX {
        book.take(&lane(index), paper.clone());
    }
    let settled = lane(7).session;
    book.receipt(&Receipt { session: settled, ..receipt(0, MIB) });
    book.take(&lane(LANES_MAX), paper);
    assert_eq!(book.lanes.len(), LANES_MAX);
    assert!(book.claim(settled).is_none());
}

#[test]
fn what_is_due_at_once_is_bounded() {
    let mut book = Book::default();
    let paper = voucher(0, MIB);
    for session in 0..=255 {
        book.take(&grant(session), paper.clone());
    }
    assert_eq!(book.due(second(0)).len(), BRING_MAX);
    assert_eq!(book.due(second(0)).len(), 256 - BRING_MAX);
}
