//! What networks do to a connection: a relay between viewer and edge rebinds, loses and falls silent.
#![cfg(test)]

use std::time::Duration;

use bytes::Bytes;
use millstream_datachannel::{
    Address, Certificate, Channel, CloseReason, Connection, Listener, Message, dial, listen, stun,
};
use tokio::time::{Instant, timeout};

mod hello;
mod message;
mod relay;

use message::deliver;
use relay::{Relay, Weather};

const PATIENCE: Duration = Duration::from_secs(20);

/// When a path that has moved serves again: a viewer checks it every 2.5 s, and what was lost meanwhile is sent again.
const RESUMPTION: Duration = Duration::from_secs(3);

fn config() -> listen::Config {
    listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap()
}

/// Viewer and edge with a relay between them.
async fn connect(listener: &mut Listener, config: dial::Config) -> (Relay, Connection, Connection) {
    let relay = Relay::start(listener.local_addr()).await;
    let address = Address { socket: relay.front, ..listener.address().clone() };
    let (viewer, edge) =
        timeout(PATIENCE, async { tokio::join!(dial(&address, config), listener.accept()) }).await.unwrap();
    (relay, viewer.unwrap(), edge.unwrap())
}

#[tokio::test]
async fn a_viewer_whose_nat_rebinds_is_followed() {
    follow(1, 2).await;
}

/// The kernel gives a datagram from a new port to either core: one in sixteen runs meets only the right one.
#[tokio::test]
async fn a_viewer_whose_nat_rebinds_is_followed_to_its_core() {
    follow(2, 4).await;
}

async fn follow(cores: usize, rebindings: usize) {
    let mut listener = Listener::bind(listen::Config { cores, ..config() }).unwrap();
    let (relay, viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    for _ in 0..rebindings {
        deliver(&edge, &viewer, Channel::Pieces, 65_536).await;
        let before = edge.remote_addr();
        relay.rebind();
        // The viewer checks every 2.5 s; the first check from the new port moves the connection.
        timeout(PATIENCE, async {
            while edge.remote_addr() == before {
                tokio::time::sleep(Duration::from_millis(5)).await; // waits because nobody is told of a move
            }
        })
        .await
        .expect("the edge follows");
        deliver(&edge, &viewer, Channel::Pieces, 65_536).await;
        deliver(&viewer, &edge, Channel::Control, 100).await;
    }
    assert_eq!(listener.connections(), 1);
}

#[tokio::test]
async fn nothing_is_lost_where_the_network_loses() {
    let mut listener = Listener::bind(config()).unwrap();
    let (relay, viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    relay.weather.send_replace(Weather::Losing(50));
    let sender = tokio::spawn(async move {
        for number in 0..50_u8 {
            edge.send(Channel::Pieces, Bytes::from(vec![number; 65_536])).await.unwrap();
            edge.send(Channel::Control, Bytes::from(vec![number])).await.unwrap();
        }
        edge
    });
    let (mut pieces, mut control) = (std::collections::BTreeSet::new(), Vec::new());
    while pieces.len() < 50 || control.len() < 50 {
        let message = timeout(PATIENCE, viewer.recv()).await.expect("everything comes").unwrap();
        match message.channel {
            Channel::Pieces => {
                assert!(message.bytes.iter().all(|byte| *byte == message.bytes[0]));
                assert!(pieces.insert(message.bytes[0]));
            }
            Channel::Control => control.push(message.bytes[0]),
        }
    }
    assert!(control.is_sorted());
    assert!(sender.await.unwrap().stats().retransmits > 0);
}

#[tokio::test]
async fn a_transfer_goes_on_where_the_nat_rebinds_in_its_middle() {
    go_on_through_rebinding(1).await;
}

#[tokio::test]
async fn a_transfer_goes_on_on_its_core_where_the_nat_rebinds_in_its_middle() {
    go_on_through_rebinding(2).await;
}

async fn go_on_through_rebinding(cores: usize) {
    const COUNT: u8 = 200;
    let mut listener = Listener::bind(listen::Config { cores, ..config() }).unwrap();
    let (relay, viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    let before = edge.remote_addr();
    let mut receivers = Vec::new();
    for (from, to, is_viewer) in [(edge.clone(), viewer.clone(), true), (viewer, edge.clone(), false)] {
        tokio::spawn(async move {
            for number in 0..COUNT {
                from.send(Channel::Pieces, Bytes::from(vec![number; 65_536])).await.unwrap();
            }
            from.stats()
        });
        let relay = &relay;
        receivers.push(async move {
            let (mut numbers, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            while numbers.len() < usize::from(COUNT) {
                let piece = timeout(PATIENCE, to.recv()).await.expect("everything comes").unwrap().bytes;
                assert!(piece.iter().all(|byte| *byte == piece[0]));
                numbers.push(piece[0]);
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if is_viewer && numbers.len() == 20 {
                    relay.rebind();
                }
            }
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..COUNT), "each once");
            longest
        });
    }
    let receivers: [_; 2] = receivers.try_into().ok().unwrap();
    let [viewers, edges] = receivers;
    let (down, up) = tokio::join!(viewers, edges);
    assert_ne!(edge.remote_addr(), before, "it was over before the port changed");
    println!("silent for {down:?} down, {up:?} up");
    assert!(down.max(up) < RESUMPTION, "{down:?} down, {up:?} up");
}

#[tokio::test]
async fn bursts_of_loss_cost_no_more_than_what_is_lost() {
    let mut listener = Listener::bind(config()).unwrap();
    let (relay, viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    relay.weather.send_replace(Weather::Bursts { every: 500, lost: Duration::from_millis(15) });
    let sender = tokio::spawn(async move {
        for number in 0..60_u8 {
            edge.send(Channel::Pieces, Bytes::from(vec![number; 65_536])).await.unwrap();
        }
        edge
    });
    let (mut numbers, mut longest, mut last) =
        (std::collections::BTreeSet::new(), Duration::ZERO, Instant::now());
    while numbers.len() < 60 {
        let piece = timeout(PATIENCE, viewer.recv()).await.expect("everything comes").unwrap().bytes;
        assert!(piece.iter().all(|byte| *byte == piece[0]) && numbers.insert(piece[0]));
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let stats = sender.await.unwrap().stats();
    println!("silent for {longest:?}, {} sent again", stats.retransmits);
    assert!(stats.retransmits > 0);
    // A burst that takes the tail probe along costs the shortest timeout, 300 ms; two in a row twice that.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test]
async fn a_viewer_that_reads_again_after_a_while_is_served_at_once() {
    let mut listener = Listener::bind(config()).unwrap();
    let sizes = dial::Config {
        receive_window_bytes: 256 * 1024,
        inbox_bytes_max: 128 * 1024,
        ..dial::Config::default()
    };
    let (relay, viewer, edge) = connect(&mut listener, sizes).await;
    relay.weather.send_replace(Weather::Losing(100));
    let sender = tokio::spawn(async move {
        for number in 0..40_u8 {
            edge.send(Channel::Control, Bytes::from(vec![number; 65_536])).await.unwrap();
        }
        edge
    });
    // waits because the window shuts and its probes back off meanwhile
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!sender.is_finished());
    let start = Instant::now();
    for number in 0..40 {
        let message = timeout(PATIENCE, viewer.recv()).await.expect("it goes on").unwrap();
        assert_eq!(message, Message { channel: Channel::Control, bytes: Bytes::from(vec![number; 65_536]) });
    }
    println!("2.6 MB in {:?} after the pause", start.elapsed());
    // Probes of a shut window back off to seconds: what opened must say so by itself.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn silence_ends_a_connection_on_both_sides() {
    let consent_timeout = Duration::from_millis(700);
    let mut listener = Listener::bind(listen::Config { consent_timeout, ..config() }).unwrap();
    let (relay, viewer, edge) =
        connect(&mut listener, dial::Config { consent_timeout, ..dial::Config::default() }).await;
    relay.weather.send_replace(Weather::Silent);
    for connection in [viewer, edge] {
        assert_eq!(timeout(PATIENCE, connection.closed()).await.unwrap(), CloseReason::Silence);
    }
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn an_idle_connection_lives_by_its_checks() {
    // Two checks of the viewer fit into this, and nothing else is said.
    let consent_timeout = Duration::from_secs(6);
    let mut listener = Listener::bind(listen::Config { consent_timeout, ..config() }).unwrap();
    let (_relay, viewer, edge) =
        connect(&mut listener, dial::Config { consent_timeout, ..dial::Config::default() }).await;
    let ended = timeout(Duration::from_secs(8), edge.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
    deliver(&viewer, &edge, Channel::Control, 1).await;
}

#[tokio::test]
async fn a_viewer_notices_within_moments_that_its_edge_was_killed() {
    let mut listener = Listener::bind(config()).unwrap();
    // Without the relay: the network itself says that the port is closed.
    let address = listener.address().clone();
    let (viewer, edge) = tokio::join!(dial(&address, dial::Config::default()), listener.accept());
    let (viewer, edge) = (viewer.unwrap(), edge.unwrap());
    // A kill says nothing to the viewer; a listener does. So the relay swallows it.
    let (relay, muted, _edge) = connect(&mut listener, dial::Config::default()).await;
    relay.weather.send_replace(Weather::Silent);
    listener.close().await;
    drop(edge);
    assert_eq!(timeout(PATIENCE, viewer.closed()).await.unwrap(), CloseReason::Peer);
    // Now the port is closed, and the relay's own too: every datagram of the viewer is refused.
    drop(relay);
    let reason = timeout(Duration::from_secs(10), muted.closed()).await.unwrap();
    assert_eq!(reason, CloseReason::Unreachable);
}

#[tokio::test]
async fn an_edge_that_restarted_lets_old_viewers_go() {
    let certificate = Certificate::generate().unwrap();
    let first = listen::Config { certificate: certificate.clone(), ..config() };
    let mut listener = Listener::bind(first.clone()).unwrap();
    let consent_timeout = Duration::from_secs(3);
    let (relay, viewer, edge) =
        connect(&mut listener, dial::Config { consent_timeout, ..dial::Config::default() }).await;
    // Killed, as far as the viewer can see, and back with the same port, name, password and certificate.
    relay.weather.send_replace(Weather::Silent);
    let bind = listener.local_addr();
    drop(edge);
    let mut swallowed = relay.swallowed.clone();
    listener.close().await;
    timeout(PATIENCE, swallowed.changed()).await.expect("the farewell is lost").unwrap();
    let _listener = Listener::bind(listen::Config { bind, ..first }).unwrap();
    relay.weather.send_replace(Weather::Fair);
    // The new edge hears checks with the right password, but also data of a connection it does not know.
    viewer.send(Channel::Control, Bytes::from_static(b"still there?")).await.unwrap();
    // Well before it has used up a stranger's time to connect, 10 s: then its checks would fail anyway.
    let reason = timeout(Duration::from_secs(8), viewer.closed()).await.expect("it is let go");
    assert_eq!(reason, CloseReason::Silence);
}

/// The password is public: anybody can pass the checks from anywhere and begin handshakes.
#[tokio::test]
async fn a_flood_of_handshakes_is_bounded_and_lets_others_in() {
    let config = listen::Config { unproven_max: 8, connections_max: 4, prefix_burst: 1_000, ..config() };
    let mut listener = Listener::bind(config).unwrap();
    let address = listener.address().clone();
    let hello = hello::overhear(&address).await;
    let mut strangers = Vec::new();
    for number in 0..100_u8 {
        let stranger =
            std::net::UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 1, number + 1), 0)).unwrap();
        stranger.send_to(&check(&address, u64::from(number)), address.socket).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.recv(&mut [0; 512]).unwrap();
        stranger.send_to(&hello, address.socket).unwrap();
        strangers.push(stranger);
    }
    let (viewer, edge) =
        timeout(PATIENCE, async { tokio::join!(dial(&address, dial::Config::default()), listener.accept()) })
            .await
            .unwrap();
    deliver(&viewer.unwrap(), &edge.unwrap(), Channel::Control, 1).await;
    assert!(listener.connections() <= 8 + 1, "{}", listener.connections());
}

#[tokio::test]
async fn one_prefix_may_begin_so_many_handshakes() {
    let config = listen::Config { prefix_burst: 5, prefix_per_second: 1, ..config() };
    let listener = Listener::bind(config).unwrap();
    let address = listener.address().clone();
    let hello = hello::overhear(&address).await;
    for number in 0..50_u8 {
        let stranger =
            std::net::UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 2, number + 1), 0)).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..2 {
            // The second answer comes after the first hello was looked at: datagrams keep their order.
            stranger.send_to(&check(&address, u64::from(number)), address.socket).unwrap();
            stranger.recv(&mut [0; 512]).unwrap();
            stranger.send_to(&hello, address.socket).unwrap();
        }
    }
    // Five, and one or two for the seconds that this took.
    assert!(listener.connections() <= 5 + 3, "{}", listener.connections());
}

#[test]
fn no_prefix_can_have_all_the_handshakes_that_there_may_be() {
    let config = config();
    let seconds = config.handshake_timeout.as_secs();
    let by_one = u64::from(config.prefix_burst) + u64::from(config.prefix_per_second) * seconds;
    assert!(by_one < config.handshakes_max as u64, "{by_one}");
}

fn check(address: &Address, tie_breaker: u64) -> Vec<u8> {
    let check = stun::Check {
        transaction: [7; 12],
        their_ufrag: &address.ufrag,
        our_ufrag: "stranger",
        priority: 1,
        tie_breaker,
        use_candidate: true,
    };
    stun::request(&check, &address.password)
}
