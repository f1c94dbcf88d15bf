//! Our own client and an edge, over real sockets on loopback.
#![cfg(test)]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use millstream_datachannel::{
    Address, Certificate, Channel, CloseReason, Connection, Listener, MESSAGE_BYTES_MAX, Message, SendError,
    dial, listen,
};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn listener() -> Listener {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    Listener::bind(config).unwrap()
}

/// Both ends of a fresh connection: the viewer's, the edge's.
async fn connect(listener: &mut Listener, config: dial::Config) -> (Connection, Connection) {
    let address = listener.address().clone();
    let (viewer, edge) =
        timeout(PATIENCE, async { tokio::join!(dial(&address, config), listener.accept()) }).await.unwrap();
    (viewer.unwrap(), edge.unwrap())
}

async fn receive(connection: &Connection) -> Message {
    timeout(PATIENCE, connection.recv()).await.unwrap().expect("open")
}

async fn reason(connection: &Connection) -> CloseReason {
    timeout(PATIENCE, connection.closed()).await.unwrap()
}

/// A message whose bytes tell its number and where they stand.
fn message(number: u32, length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from((at + number as usize) % 251).unwrap()).collect()
}

#[tokio::test]
async fn both_channels_carry_full_messages_both_ways() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    for (from, to) in [(&viewer, &edge), (&edge, &viewer)] {
        for channel in [Channel::Control, Channel::Pieces] {
            for length in [0, 1, 1_200, 65_536, MESSAGE_BYTES_MAX] {
                let sent = message(7, length);
                from.send(channel, sent.clone()).await.unwrap();
                assert_eq!(receive(to).await, Message { channel, bytes: sent });
            }
        }
    }
    assert_eq!(listener.connections(), 1);
    let too_long = viewer.send(Channel::Control, message(0, MESSAGE_BYTES_MAX + 1)).await;
    assert_eq!(too_long, Err(SendError::TooLong(MESSAGE_BYTES_MAX + 1)));
}

#[tokio::test]
async fn a_connection_opens_in_milliseconds() {
    let mut listener = listener();
    let certificate = Certificate::generate().unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let _ends = connect(&mut listener, config).await;
        fastest = fastest.min(start.elapsed());
    }
    // 200 ms is the first timer of any protocol in it: opening must not wait for one.
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
    println!("open: {fastest:?}");
}

#[tokio::test]
async fn each_side_knows_the_others_certificate() {
    let mut listener = listener();
    let certificate = Certificate::generate().unwrap();
    let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
    let (viewer, edge) = connect(&mut listener, config).await;
    assert_eq!(edge.remote_fingerprint(), certificate.fingerprint());
    assert_eq!(viewer.remote_fingerprint(), listener.address().fingerprint);
    assert_eq!(viewer.remote_addr(), listener.local_addr());
}

#[tokio::test]
async fn an_edge_with_another_certificate_is_refused() {
    let listener = listener();
    let mut address = listener.address().clone();
    address.fingerprint = Certificate::generate().unwrap().fingerprint();
    let refused = timeout(PATIENCE, dial(&address, dial::Config::default())).await.unwrap();
    assert!(matches!(refused, Err(dial::Error::Fingerprint)), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_password_gets_no_answer_and_a_closed_port_a_refusal() {
    let listener = listener();
    let mut address = listener.address().clone();
    address.password = address.password.chars().rev().collect();
    let config = dial::Config { timeout: Duration::from_millis(300), ..dial::Config::default() };
    let unanswered = dial(&address, config.clone()).await;
    assert!(matches!(unanswered, Err(dial::Error::Timeout)), "{unanswered:?}");
    assert_eq!(listener.connections(), 0);

    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    address.socket = free.local_addr().unwrap();
    drop(free);
    let refused = timeout(PATIENCE, dial(&address, dial::Config::default())).await.unwrap();
    assert!(matches!(refused, Err(dial::Error::Refused)), "{refused:?}");
}

#[tokio::test]
async fn a_close_is_seen_on_both_sides_after_what_was_sent_before_it() {
    let mut listener = listener();
    for viewer_closes in [true, false] {
        let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
        let (closing, other) = if viewer_closes { (viewer, edge) } else { (edge, viewer) };
        for number in 0..20 {
            closing.send(Channel::Pieces, message(number, 10_000)).await.unwrap();
        }
        closing.close();
        let refused = closing.send(Channel::Pieces, Bytes::new()).await;
        assert!(matches!(refused, Err(SendError::Closed(_))), "{refused:?}");
        for _ in 0..20 {
            assert_eq!(receive(&other).await.bytes.len(), 10_000);
        }
        assert_eq!(timeout(PATIENCE, other.recv()).await.unwrap(), None);
        assert_eq!(reason(&other).await, CloseReason::Peer);
        assert_eq!(reason(&closing).await, CloseReason::Local);
        assert_eq!(timeout(PATIENCE, closing.recv()).await.unwrap(), None);
        until(|| listener.connections() == 0).await;
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    let clone = viewer.clone();
    drop(viewer);
    clone.send(Channel::Control, Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(receive(&edge).await.bytes, "still here");
    drop(clone);
    assert_eq!(reason(&edge).await, CloseReason::Peer);
}

#[tokio::test]
async fn dropping_the_listener_closes_every_connection() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    let waiting = tokio::spawn({
        let edge = edge.clone();
        async move { edge.recv().await }
    });
    listener.close().await;
    assert_eq!(reason(&viewer).await, CloseReason::Peer);
    assert_eq!(reason(&edge).await, CloseReason::Shutdown);
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_receiver_that_stops_reading_holds_its_sender_and_nobody_else() {
    let mut listener = listener();
    let config = dial::Config {
        receive_window_bytes: 256 * 1024,
        inbox_bytes_max: 128 * 1024,
        ..dial::Config::default()
    };
    let (slow, edge_to_slow) = connect(&mut listener, config.clone()).await;
    let (quick, edge_to_quick) = connect(&mut listener, config).await;

    // Sends until it is stopped: everything between the two applications is full then.
    let mut sent = 0;
    while timeout(Duration::from_millis(500), edge_to_slow.send(Channel::Pieces, message(sent, 65_536)))
        .await
        .is_ok()
    {
        sent += 1;
        // Send buffer 512 KiB, window 256 KiB, inbox 128 KiB and a message that crosses each bound.
        assert!(sent <= 17, "{sent} messages were taken and nobody reads");
    }
    assert_eq!(edge_to_slow.try_send(Channel::Pieces, message(0, 65_536)), Err(SendError::Full));
    assert!(edge_to_slow.buffered(Channel::Pieces) <= 512 * 1024);

    // Meanwhile the other connection is served, and so is the slow one's control channel's credit.
    for number in 0..100 {
        edge_to_quick.send(Channel::Pieces, message(number, 65_536)).await.unwrap();
        assert_eq!(receive(&quick).await.bytes, message(number, 65_536));
    }
    edge_to_slow.try_send(Channel::Control, Bytes::from_static(b"later")).unwrap();

    // And everything comes once it reads.
    let mut pieces = 0;
    let mut control = 0;
    while (pieces, control) != (sent, 1) {
        match receive(&slow).await.channel {
            Channel::Pieces => pieces += 1,
            Channel::Control => control += 1,
        }
    }
}

#[tokio::test]
async fn control_overtakes_media_that_waits() {
    let mut listener = listener();
    let config =
        dial::Config { receive_window_bytes: 128 * 1024, inbox_bytes_max: 1, ..dial::Config::default() };
    let (viewer, edge) = connect(&mut listener, config).await;
    let mut queued = 0;
    while edge.try_send(Channel::Pieces, message(0, 65_536)).is_ok() {
        queued += 1;
    }
    edge.send(Channel::Control, Bytes::from_static(b"now")).await.unwrap();
    let mut before = 0;
    while receive(&viewer).await.channel == Channel::Pieces {
        before += 1;
    }
    assert!(before < queued, "control came after {before} of {queued} pieces");
}

#[tokio::test]
async fn a_thousand_garbage_datagrams_harm_nobody() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    for number in 0..1_000_u32 {
        // xorshift64: the same garbage on every run. The first byte runs through every protocol.
        let mut garbage: Vec<u8> = (0..number % 1_400 + 1)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_be_bytes()[0]
            })
            .collect();
        garbage[0] = u8::try_from(number % 256).unwrap();
        stranger.send_to(&garbage, listener.local_addr()).unwrap();
        if number % 100 == 0 {
            let sent = message(number, 60_000);
            viewer.send(Channel::Pieces, sent.clone()).await.unwrap();
            assert_eq!(receive(&edge).await.bytes, sent);
        }
    }
    assert_eq!(listener.connections(), 1);
    let _another = connect(&mut listener, dial::Config::default()).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_not_made() {
    let mut config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    config.connections_max = 1;
    let mut listener = Listener::bind(config).unwrap();
    let (viewer, _edge) = connect(&mut listener, dial::Config::default()).await;
    let config = dial::Config { timeout: Duration::from_millis(300), ..dial::Config::default() };
    let refused = dial(listener.address(), config).await;
    assert!(matches!(refused, Err(dial::Error::Timeout)), "{refused:?}");
    drop(viewer);
    until(|| listener.connections() == 0).await;
    let _next = connect(&mut listener, dial::Config::default()).await;
}

#[tokio::test]
async fn statistics_count_payload() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    for number in 0..10 {
        edge.send(Channel::Pieces, message(number, 50_000)).await.unwrap();
        receive(&viewer).await;
    }
    until(|| edge.stats().bytes_acknowledged == 500_000).await;
    assert_eq!(edge.buffered(Channel::Pieces), 0);
    assert_eq!(edge.stats().bytes_sent, 500_000);
    assert_eq!(viewer.stats().bytes_received, 500_000);
    assert!(edge.stats().rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)), "{:?}", edge.stats());
}

/// Waits for what the driver does on its own, looking again each millisecond.
async fn until(condition: impl Fn() -> bool) {
    timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await; // waits because the driver tells nobody
        }
    })
    .await
    .expect("it never came true");
}

#[tokio::test]
async fn an_edge_on_every_address_answers_from_the_one_that_was_asked() {
    let certificate = Certificate::generate().unwrap();
    for (bind, asked) in [("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"][..]), ("[::]:0", &["127.0.0.3", "::1"])] {
        let mut listener =
            Listener::bind(listen::Config::new(bind.parse().unwrap(), certificate.clone()).unwrap()).unwrap();
        for ip in asked {
            let socket = SocketAddr::new(ip.parse().unwrap(), listener.local_addr().port());
            let address = Address { socket, ..listener.address().clone() };
            let (viewer, edge) = timeout(PATIENCE, async {
                tokio::join!(dial(&address, dial::Config::default()), listener.accept())
            })
            .await
            .unwrap();
            // The viewer's socket is connected: what comes from another address never reaches it.
            let (viewer, edge) = (viewer.unwrap(), edge.unwrap());
            edge.send(Channel::Pieces, message(1, 65_536)).await.unwrap();
            assert_eq!(receive(&viewer).await.bytes, message(1, 65_536));
        }
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused_by_name() {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    let refused = |config| Listener::bind(config).unwrap_err().to_string();
    assert!(refused(listen::Config { ufrag: "a b c".to_owned(), ..config.clone() }).contains("user name"));
    assert!(refused(listen::Config { password: "short".to_owned(), ..config.clone() }).contains("password"));
    let public = "203.0.113.9:4443".parse().unwrap();
    let listener = Listener::bind(listen::Config { public: Some(public), ..config }).unwrap();
    assert_eq!(listener.address().socket, public);
    assert_ne!(listener.local_addr(), public);

    let nowhere = Address { socket: "0.0.0.0:9".parse().unwrap(), ..listener.address().clone() };
    assert!(matches!(dial(&nowhere, dial::Config::default()).await, Err(dial::Error::Address(_))));
}

#[tokio::test]
async fn an_edge_of_several_cores_serves_everybody_at_one_address() {
    let made = listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    let mut listener = Listener::bind(listen::Config { cores: 2, connections_max: 40, ..made }).unwrap();
    let address = listener.address().clone();
    let mut pairs = Vec::new();
    for _ in 0..40 {
        let (viewer, edge) = tokio::join!(dial(&address, dial::Config::default()), listener.accept());
        pairs.push((viewer.unwrap(), edge.unwrap()));
    }
    for (viewer, edge) in &pairs {
        let piece = Bytes::from(vec![3; 65_600]);
        edge.send(Channel::Pieces, piece.clone()).await.unwrap();
        assert_eq!(viewer.recv().await.unwrap().bytes, piece);
    }
    assert_eq!(listener.connections(), 40);
    let short = dial::Config { timeout: Duration::from_millis(300), ..dial::Config::default() };
    assert!(dial(&address, short).await.is_err(), "the bound is everybody's together");
    listener.close().await;
    assert_eq!(pairs[0].0.recv().await, None);
}

#[tokio::test]
async fn a_port_belongs_to_one_listener_however_many_cores_it_has() {
    let made = |bind: SocketAddr| {
        let made = listen::Config::new(bind, Certificate::generate().unwrap()).unwrap();
        listen::Config { cores: 2, ..made }
    };
    let first = Listener::bind(made("127.0.0.1:0".parse().unwrap())).unwrap();
    for cores in [1, 2] {
        let taken = listen::Config { cores, ..made(first.local_addr()) };
        assert_eq!(Listener::bind(taken).unwrap_err().kind(), std::io::ErrorKind::AddrInUse, "{cores}");
    }
}
