//! Feeds: fast, in order, believed, and bounded.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use millstream_segmenter::VIDEO;
use millstream_wire::{
    chain::{Chain, piece_fits},
    frame::Reason,
    media::Record,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use super::*;

/// Reads a feed frame by frame, believing nothing.
struct Reader {
    response: Response,
    deframer: Deframer,
    chain: Chain,
    /// Parts that came whole and fit their records, by number.
    parts: Vec<u64>,
    open: Option<(Record, u32)>,
}

impl Reader {
    async fn of(world: &World, query: &str) -> Self {
        let response = world.get(&format!("feed?{query}")).await;
        assert_eq!(response.status(), 200);
        let deframer = Deframer::default();
        Self { response, deframer, chain: show::chain(), parts: Vec::new(), open: None }
    }

    /// The next frame but pings; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.deframer.next_frame().unwrap() {
                Some(Frame::Ping(_)) => {}
                Some(frame) => return Some(frame),
                None => match tokio::time::timeout(PATIENCE, self.response.chunk()).await.unwrap().unwrap() {
                    Some(bytes) => self.deframer.push(&bytes),
                    None => return None,
                },
            }
        }
    }

    /// Takes the next frame into the chain and gives it.
    async fn believe(&mut self) -> Option<Frame> {
        let frame = self.next().await?;
        match &frame {
            Frame::Delegation(signed) => drop(self.chain.accept_delegation(signed, NOW).unwrap()),
            Frame::Catalog(signed) => drop(self.chain.accept_catalog(signed).unwrap()),
            Frame::Record(signed) => {
                assert_eq!(self.open, None, "a part's pieces come before the next record");
                self.chain.accept_record(signed).unwrap();
                self.open = Some((signed.unverified().clone(), 0));
            }
            Frame::Piece { rendition, number, index, data } => {
                let (record, next) = self.open.take().expect("a record comes before its pieces");
                assert_eq!((*rendition, *number, *index), (record.rendition, record.number, next));
                assert!(piece_fits(&record, *index, data));
                if usize::try_from(next + 1).unwrap() == record.pieces.len() {
                    self.parts.push(record.number);
                } else {
                    self.open = Some((record, next + 1));
                }
            }
            _ => {}
        }
        Some(frame)
    }

    async fn until_part(&mut self, number: u64) {
        while !self.parts.contains(&number) {
            self.believe().await.expect("the feed goes on");
        }
    }
}

fn names(frames: &[Frame]) -> String {
    let name = |frame: &Frame| match frame {
        Frame::Delegation(_) => 'D',
        Frame::Catalog(_) => 'C',
        Frame::Record(_) => 'r',
        Frame::Piece { .. } => 'p',
        Frame::Gap { .. } => 'G',
        Frame::Goaway { .. } => 'X',
        _ => '?',
    };
    frames.iter().map(name).collect()
}

#[tokio::test]
async fn a_feed_begins_where_receivers_begin_and_everything_verifies() {
    let mut world = plain_world().await;
    world.video.bytes = 150_000;
    world.run(27);
    let mut reader = Reader::of(&world, "rendition=video").await;
    let mut frames = Vec::new();
    for _ in 0..14 {
        frames.push(reader.believe().await.unwrap());
    }
    assert_eq!(names(&frames), "DCrppprppprppp");
    assert_eq!(reader.parts, [16, 17, 18], "the segment before the newest, where a decoder can start");
    for number in 27..=40 {
        world.run(1);
        reader.until_part(number).await;
    }
    assert!(reader.parts.iter().copied().eq(16..=40), "{:?}", reader.parts);
    assert_eq!(world.stream.feeds(), 1);
    drop(reader);
    // The server notices with the next frame that it cannot send.
    while world.stream.feeds() > 0 {
        world.run(1);
        tokio::time::sleep(Duration::from_millis(5)).await; // waits because the server alone notices that the reader is gone
    }
}

#[tokio::test]
async fn a_feed_goes_on_from_where_an_edge_left_off() {
    let mut world = plain_world().await;
    world.run(20);
    let mut reader = Reader::of(&world, "rendition=audio&from=5").await;
    reader.until_part(19).await;
    assert!(reader.parts.iter().copied().eq(5..=19));
    let mut ahead = Reader::of(&world, "rendition=audio&from=22").await;
    world.run(10);
    ahead.until_part(29).await;
    assert!(ahead.parts.iter().copied().eq(22..=29), "what it has it does not get again");
}

#[tokio::test]
async fn what_is_no_longer_here_is_a_gap() {
    let mut world = world(|_, window, _| window.bytes_max = 40_000).await;
    world.announce();
    world.run(60);
    let mut reader = Reader::of(&world, "rendition=video&from=3").await;
    let first =
        world.stream.look(|inner| inner.window.parts(VIDEO).next().unwrap().record.unverified().number);
    let frames =
        [reader.believe().await.unwrap(), reader.believe().await.unwrap(), reader.believe().await.unwrap()];
    assert_eq!(frames[2], Frame::Gap { rendition: VIDEO, from: 3, next: first });
    reader.until_part(59).await;
}

#[tokio::test]
async fn a_part_reaches_an_edge_at_once() {
    let mut world = plain_world().await;
    world.video.bytes = 30_000;
    world.run(1);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(0).await;
    let mut delays = Vec::new();
    for number in 1..=40 {
        let begun = std::time::Instant::now();
        world.run(1);
        reader.until_part(number).await;
        delays.push(begun.elapsed());
    }
    delays.sort_unstable();
    // Half of them, because the machine may be busy; all of them would be here in 1 ms.
    assert!(delays[20] < Duration::from_millis(25), "{delays:?}");
}

#[tokio::test]
async fn a_comeback_and_a_new_delegation_are_told_in_order() {
    let mut world = plain_world().await;
    world.run(3);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(2).await;
    // Another catalog, which records name from the next segment on.
    world.announce_as(|track| track.init = Bytes::from_static(b"another"));
    world.video.cut();
    world.audio.cut();
    world.run(2);
    reader.until_part(4).await;
    assert_eq!(reader.chain.catalog().unwrap().version, 2);
    let catalog = world.signer.delegate(9, NOW).unwrap();
    world.stream.change(|inner| {
        inner.permission = show::permission(9);
        inner.window.catalog(catalog);
    });
    world.video.cut();
    world.audio.cut();
    world.run(2);
    reader.until_part(6).await;
    assert_eq!(reader.chain.delegation().unwrap().generation, 9);
    assert!(reader.parts.iter().copied().eq(0..=6));
    // A feed that begins now gets nothing from before.
    let mut late = Reader::of(&world, "rendition=video&from=1").await;
    late.until_part(6).await;
    assert_eq!(late.parts, [5, 6]);
}

#[tokio::test]
async fn the_end_is_told() {
    let mut world = plain_world().await;
    world.run(3);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(2).await;
    world.end();
    let mut last = None;
    while let Some(frame) = reader.believe().await {
        last = Some(frame);
    }
    assert!(matches!(last, Some(Frame::Catalog(_))), "{last:?}");
    assert!(reader.chain.catalog().unwrap().ended);
    until(|| world.stream.feeds() == 0).await;
}

#[tokio::test]
async fn the_drain_is_told() {
    let mut world = plain_world().await;
    world.run(3);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(2).await;
    world.tasks.begin_drain();
    assert!(matches!(reader.believe().await, Some(Frame::Goaway { reason: Reason::Shutdown, .. })));
    assert_eq!(reader.believe().await, None);
}

#[tokio::test]
async fn silence_is_broken_by_pings() {
    let mut world = plain_world().await;
    world.run(1);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(0).await;
    let ping = loop {
        if let Some(frame) = reader.deframer.next_frame().unwrap() {
            break frame;
        }
        reader.deframer.push(&reader.response.chunk().await.unwrap().unwrap());
    };
    assert!(matches!(ping, Frame::Ping(_)));
}

#[tokio::test]
async fn there_are_so_many_feeds_and_no_more() {
    let mut world = world(|config, _, _| config.feeds_max = 2).await;
    world.announce();
    world.run(1);
    let first = Reader::of(&world, "rendition=video").await;
    let _second = Reader::of(&world, "rendition=audio").await;
    assert_eq!(world.status("feed?rendition=video").await, 503);
    assert_eq!(world.stream.feeds(), 2);
    drop(first);
    while world.stream.feeds() > 1 {
        world.run(1);
        tokio::time::sleep(Duration::from_millis(5)).await; // waits because the server alone notices that the reader is gone
    }
    assert_eq!(world.status("feed?rendition=video").await, 200);
    for query in ["", "rendition=other", "rendition=", "rendition=video&from=x"] {
        assert!(matches!(world.status(&format!("feed?{query}")).await, 400 | 404), "{query}");
    }
}

/// Asks for a feed, and reads nothing.
async fn stuck(world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut socket = socket.connect(world.address).await.unwrap();
    socket.write_all(b"GET /s/demo/feed?rendition=video HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(|| world.stream.feeds() == 1).await;
    socket
}

#[tokio::test]
async fn a_feed_that_nobody_reads_holds_one_part_at_most() {
    /// Bytes that know how many of them there are.
    struct Counted(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Relaxed);
        }
    }
    const PART: usize = 1 << 20;
    let alive = Arc::new(AtomicUsize::new(0));
    let mut world = world(|_, window, _| window.bytes_max = 20 * PART).await;
    world.announce();
    world.run(1);
    let _socket = stuck(&world).await;
    for _ in 0..300 {
        let part = world.video.next_of(&mut |fill| {
            alive.fetch_add(1, Relaxed);
            Bytes::from_owner(Counted(vec![fill; PART], Arc::clone(&alive)))
        });
        world.put(part);
        tokio::task::yield_now().await;
    }
    assert_eq!(world.stream.feeds(), 1);
    let (alive, window) = (alive.load(Relaxed), world.stream.look(|inner| inner.window.parts(VIDEO).count()));
    assert!(alive <= window + 2, "{alive} parts live, {window} of them in the window");
}

#[tokio::test]
async fn a_slow_feed_skips_once_and_is_closed_when_it_stays_behind() {
    let mut world = world(|config, _, _| config.feed_behind_bytes_max = 3_000_000).await;
    world.announce();
    world.video.bytes = 1_000_000;
    world.run(1);
    let mut reader = Reader::of(&world, "rendition=video").await;
    reader.until_part(0).await;
    // More than the sockets take: the feed stands still in the middle.
    world.run(63);
    tokio::time::sleep(Duration::from_millis(50)).await; // waits because a socket does not tell that it is full
    let mut gap = None;
    while gap.is_none() {
        if let Some(Frame::Gap { from, next, .. }) = reader.believe().await {
            gap = Some((from, next));
        }
    }
    let (from, next) = gap.unwrap();
    assert!(reader.parts.iter().copied().eq(0..from), "until the gap nothing is missing");
    assert_eq!(next, 63, "the newest segment is too much, so it is the newest part");
    reader.until_part(63).await;
    assert_eq!(world.metrics.feed_gaps.get(), 1);
    world.run(64);
    while let Some(frame) = reader.believe().await {
        assert!(!matches!(frame, Frame::Gap { .. }), "a second gap closes it");
    }
    until(|| world.stream.feeds() == 0).await;
    assert_eq!(world.metrics.feed_gaps.get(), 2);
}
