//! `str0m`, an implementation of WebRTC with an SCTP of other hands, connects to an edge like a page does and is spoken
//! to over real sockets: both directions at once, ordered and unordered, over paths that lose and reorder.
#![cfg(test)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use millstream_datachannel::{
    Address, Certificate, Channel, CloseReason, Connection, Listener, Message, listen,
};
use str0m::channel::ChannelConfig;
use tokio::time::timeout;

mod cryptography;
mod page;
#[path = "../relay/mod.rs"]
mod relay;

use page::Page;
use relay::{Relay, Weather};

const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a piece, and of each message here.
const PIECE_BYTES: usize = 65_536;

fn listener() -> Listener {
    let bind = "127.0.0.1:0".parse().unwrap();
    Listener::bind(listen::Config::new(bind, Certificate::generate().unwrap()).unwrap()).unwrap()
}

/// The `number`th message of a channel: all its bytes say which one it is.
fn message(number: u8, length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at % 251).unwrap() ^ number).collect::<Vec<_>>().into()
}

/// Whole, and which one.
fn number_of(bytes: &[u8], length: usize) -> u8 {
    let number = bytes[0];
    assert!(*bytes == message(number, length)[..], "message {number} is not what was sent");
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_cross_both_ways_whoever_begins_the_association() {
    for page_begins in [true, false] {
        let mut listener = listener();
        let address = listener.address().clone();
        exchange(&mut listener, address, page_begins, 24).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_cross_a_path_that_loses_repeats_and_reorders() {
    let mut listener = listener();
    let relay = Relay::start(listener.local_addr()).await;
    let address = Address { socket: relay.front, ..listener.address().clone() };
    relay.weather.send_replace(Weather::Unruly(150));
    let edge = exchange(&mut listener, address, true, 8).await;
    assert!(edge.stats().retransmits > 0, "nothing was lost");
}

/// `count` pieces on each channel, both ways at once; then the page closes.
async fn exchange(listener: &mut Listener, address: Address, page_begins: bool, count: u8) -> Connection {
    let is_done = Arc::new(AtomicBool::new(false));
    let page = std::thread::spawn({
        let is_done = is_done.clone();
        move || {
            let mut page = Page::dial(&address, page_begins);
            let [control, pieces] = page.negotiate();
            page.until("both channels are open", |page| page.opened.len() == 2);
            let mut unsent: Vec<_> =
                (0..count).rev().flat_map(|number| [(pieces, number), (control, number)]).collect();
            page.until("everything has crossed", |page| {
                while let Some(&(channel, number)) = unsent.last()
                    && page.write(channel, &message(number, PIECE_BYTES))
                {
                    unsent.pop();
                }
                is_done.load(Ordering::Relaxed) && page.received.len() == 2 * usize::from(count)
            });
            for (channel, is_ordered) in [(control, true), (pieces, false)] {
                let of_it = page.received.iter().filter(|(from, _)| *from == channel);
                let mut numbers: Vec<_> = of_it.map(|(_, bytes)| number_of(bytes, PIECE_BYTES)).collect();
                assert!(!is_ordered || numbers.is_sorted(), "{numbers:?}");
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..count), "each once");
            }
            let fingerprint = page.fingerprint();
            page.close();
            fingerprint
        }
    });

    let edge = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let sender = tokio::spawn({
        let edge = edge.clone();
        async move {
            for number in 0..count {
                edge.send(Channel::Pieces, message(number, PIECE_BYTES)).await.unwrap();
                edge.send(Channel::Control, message(number, PIECE_BYTES)).await.unwrap();
            }
        }
    });
    let (mut control, mut pieces) = (Vec::new(), Vec::new());
    for _ in 0..2 * count {
        let message = timeout(PATIENCE, edge.recv()).await.expect("everything comes").unwrap();
        let number = number_of(&message.bytes, PIECE_BYTES);
        if message.channel == Channel::Control { control.push(number) } else { pieces.push(number) }
    }
    pieces.sort_unstable();
    assert!(control.into_iter().eq(0..count) && pieces.into_iter().eq(0..count));
    timeout(PATIENCE, sender).await.expect("everything is taken").unwrap();
    let reason = tokio::spawn({
        let edge = edge.clone();
        async move { edge.closed().await }
    });
    is_done.store(true, Ordering::Relaxed);
    assert_eq!(timeout(PATIENCE, reason).await.unwrap().unwrap(), CloseReason::Peer);
    let fingerprint = tokio::task::spawn_blocking(|| page.join().unwrap()).await.unwrap();
    assert_eq!(edge.remote_fingerprint().0.to_vec(), fingerprint);
    edge
}

/// RFC 8832: whoever is the DTLS client opens even streams. The first is our control channel.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_the_page_opens_by_itself_are_answered_and_closed_with_it() {
    let mut listener = listener();
    let address = listener.address().clone();
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
    let page = std::thread::spawn(move || {
        let mut page = Page::dial(&address, true);
        let open = |label: &str| ChannelConfig { label: label.to_owned(), ..ChannelConfig::default() };
        let [first, second] = [page.open(open("control")), page.open(open("its own"))];
        page.until("both are acknowledged", |page| page.opened.len() == 2);
        assert!(page.write(first, b"to a channel of ours"));
        assert!(page.write(second, &message(1, PIECE_BYTES)));
        page.until("the answer", |page| !page.received.is_empty());
        assert_eq!(page.received, [(first, b"an answer".to_vec())]);
        page.reset(second);
        page.until("the edge closes its direction too", |page| page.closed.contains(&second));
        say.send(()).unwrap();
        page.until("the word after it", |page| page.received.len() == 2);
        page.reset(first);
        page.until("the end", |page| !page.is_connected());
    });
    let edge = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let heard = timeout(PATIENCE, edge.recv()).await.unwrap().unwrap();
    assert_eq!(heard, Message { channel: Channel::Control, bytes: "to a channel of ours".into() });
    edge.send(Channel::Control, "an answer".into()).await.unwrap();
    timeout(PATIENCE, said.recv()).await.unwrap().unwrap();
    edge.send(Channel::Control, "still here".into()).await.unwrap();
    assert_eq!(timeout(PATIENCE, edge.closed()).await.unwrap(), CloseReason::Peer);
    tokio::task::spawn_blocking(|| page.join().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_learns_at_once_that_the_edge_closes() {
    let mut listener = listener();
    let address = listener.address().clone();
    let page = std::thread::spawn(move || {
        let mut page = Page::dial(&address, true);
        page.negotiate();
        page.until("the last message", |page| page.received.len() == 8);
        page.until("the end", |page| !page.is_connected());
    });
    let edge = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    for number in 0..8 {
        edge.send(Channel::Pieces, message(number, PIECE_BYTES)).await.unwrap();
    }
    edge.close();
    assert_eq!(timeout(PATIENCE, edge.closed()).await.unwrap(), CloseReason::Local);
    // Well before its ICE would notice.
    let ended = tokio::task::spawn_blocking(|| page.join().unwrap());
    timeout(Duration::from_secs(3), ended).await.expect("it is told").unwrap();
}
