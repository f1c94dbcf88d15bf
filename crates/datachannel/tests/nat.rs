//! Edges behind NAT: how one finds out where it is seen, and how it lets a viewer in.
#![cfg(test)]

use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use millstream_datachannel::{
    Address, CANDIDATES_MAX, Candidates, Certificate, Channel, Dial, Listener, dial,
    listen::{
        self,
        traversal::{Error, Outcome},
    },
    stun,
};
use tokio::{net::UdpSocket, time::timeout};

mod gate;
mod message;

use gate::Gate;
use message::deliver;

const PATIENCE: Duration = Duration::from_secs(20);

fn bind(cores: usize) -> Listener {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    Listener::bind(listen::Config { cores, ..config }).unwrap()
}

fn candidates(candidates: &[SocketAddr]) -> Candidates {
    Candidates {
        ufrag: "viewer12".into(),
        password: "VOkJxbRl1RmTxUk/WvJxBt".into(),
        candidates: candidates.to_vec(),
    }
}

/// With several cores the answer comes to whichever the kernel chooses; sixteen answers find most of them.
#[tokio::test]
async fn an_edge_learns_from_another_where_it_is_seen() {
    for cores in [1, 4] {
        let (edge, traversal) = (bind(cores), bind(cores).traversal());
        assert_eq!(traversal.mapped(edge.local_addr()).await, Err(Error::Closed), "its listener was dropped");
        let traversal = edge.traversal();
        for _ in 0..16 {
            let other = bind(1);
            let mapped = timeout(PATIENCE, traversal.mapped(other.local_addr())).await.unwrap();
            assert_eq!(mapped, Ok(edge.local_addr()));
        }
    }
}

#[tokio::test]
async fn a_stranger_is_told_where_it_is_in_less_than_three_times_its_bytes() {
    let edge = bind(1);
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = stun::binding_request([3; 12]);
    stranger.send_to(&request, edge.local_addr()).await.unwrap();
    let mut answer = [0; 512];
    let (length, from) = timeout(PATIENCE, stranger.recv_from(&mut answer)).await.unwrap().unwrap();
    assert_eq!(from, edge.local_addr());
    assert!(length <= 3 * request.len());
    let message = stun::Message::parse(&answer[..length]).unwrap();
    assert_eq!((message.transaction, message.mapped), ([3; 12], Some(stranger.local_addr().unwrap())));
}

#[tokio::test]
async fn an_answer_counts_only_from_who_was_asked_and_to_what_was_asked() {
    let edge = bind(2);
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let right = SocketAddr::from(([203, 0, 113, 5], 5));
    let wrong = SocketAddr::from(([203, 0, 113, 6], 6));
    let traversal = edge.traversal();
    let asks = tokio::spawn({
        let server = server.local_addr().unwrap();
        async move { traversal.mapped(server).await }
    });
    let mut request = [0; 512];
    let (length, edge_at) = timeout(PATIENCE, server.recv_from(&mut request)).await.unwrap().unwrap();
    let transaction = stun::Message::parse(&request[..length]).unwrap().transaction;
    let mut other = transaction;
    other[0] ^= 1;
    liar.send_to(&stun::binding_success(transaction, wrong), edge_at).await.unwrap();
    server.send_to(&stun::binding_success(other, wrong), edge_at).await.unwrap();
    server.send_to(&request[..length], edge_at).await.unwrap();
    // It goes on asking: none of these was an answer.
    let echo = timeout(PATIENCE, server.recv_from(&mut request)).await.unwrap().unwrap();
    let told = stun::Message::parse(&request[..echo.0]).unwrap();
    assert!(!asks.is_finished());
    if told.class == stun::Class::Success {
        timeout(PATIENCE, server.recv_from(&mut request)).await.unwrap().unwrap();
    }
    server.send_to(&stun::binding_success(transaction, right), edge_at).await.unwrap();
    assert_eq!(timeout(PATIENCE, asks).await.unwrap().unwrap(), Ok(right));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let edge = bind(1);
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let start = Instant::now();
    let outcome = timeout(PATIENCE, edge.traversal().mapped(server)).await.unwrap();
    assert_eq!(outcome, Err(Error::Unanswered(server)));
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
    let mut requests = 0;
    while silent.try_recv(&mut [0; 512]).is_ok() {
        requests += 1;
    }
    assert_eq!(requests, 5);
    let other = "[2001:4860::1]:3478".parse().unwrap();
    assert_eq!(edge.traversal().mapped(other).await, Err(Error::Family(other)));
}

#[tokio::test]
async fn a_viewer_is_believed_in_nothing_that_cannot_be() {
    let edge = bind(1);
    let reach = |viewer| edge.traversal().reach("session", viewer).err();
    let good: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for bad in [
        "0.0.0.0:9",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "192.0.2.7:9",
        "127.0.0.1:0",
        "[ff02::1]:9",
        "[::]:9",
        "[2001:db8::7]:9",
        "[::ffff:224.0.0.1]:9",
    ] {
        let bad = bad.parse().unwrap();
        assert_eq!(reach(candidates(&[good, bad])), Some(Error::Candidate(bad)));
    }
    assert_eq!(reach(candidates(&[])), Some(Error::Count(0)));
    let many = vec![good; CANDIDATES_MAX + 1];
    assert_eq!(reach(candidates(&many)), Some(Error::Count(CANDIDATES_MAX + 1)));
    let other = "[2001:4860::1]:9".parse().unwrap();
    assert_eq!(reach(candidates(&[other])), Some(Error::Family(other)));
    assert_eq!(reach(candidates(&[other, good])), None, "one of them will do");
    let spaced = Candidates { ufrag: "a viewer".into(), ..candidates(&[good]) };
    assert_eq!(reach(spaced), Some(Error::Credentials));
    let short = Candidates { password: "short".into(), ..candidates(&[good]) };
    assert_eq!(reach(short), Some(Error::Credentials));
}

#[tokio::test]
async fn checks_say_who_checks_whom_and_end_with_the_listener() {
    let edge = bind(1);
    let viewer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let told = candidates(&[viewer.local_addr().unwrap()]);
    let outcome = edge.traversal().reach("session", told.clone()).unwrap();
    let mut request = [0; 512];
    let (length, from) = timeout(PATIENCE, viewer.recv_from(&mut request)).await.unwrap().unwrap();
    assert_eq!(from, edge.local_addr(), "from the one port");
    let message = stun::Message::parse(&request[..length]).unwrap();
    assert_eq!(message.username, Some(format!("{}:{}", told.ufrag, edge.address().ufrag).as_str()));
    assert!(matches!(message.role, Some(stun::Role::Controlled(_))) && !message.use_candidate);
    assert!(message.is_authentic(&told.password));
    drop(edge);
    assert_eq!(timeout(PATIENCE, outcome).await.unwrap(), Outcome::Closed);
}

/// Without its edge's help a viewer cannot get through; with it, it does, and data flows.
async fn reach(cores: usize, maps_per_destination: bool) {
    let mut edge = bind(cores);
    let mut gate = Gate::start(edge.local_addr(), maps_per_destination).await;
    let server = bind(1);
    let way = gate.towards(server.local_addr()).await;
    let mapped = timeout(PATIENCE, edge.traversal().mapped(way)).await.unwrap().unwrap();
    assert_eq!(mapped == gate.front, !maps_per_destination);
    let address = Address { socket: mapped, ..edge.address().clone() };

    let impatient = dial::Config { timeout: Duration::from_secs(1), ..dial::Config::default() };
    let refused = Dial::prepare(&address, impatient).unwrap().connect().await;
    assert!(matches!(refused, Err(dial::Error::Timeout)), "{refused:?}");
    assert!(gate.refused.load(Ordering::Relaxed) > 0);

    let mut viewer = Dial::prepare(&address, dial::Config::default()).unwrap();
    let seen = viewer.mapped(server.local_addr()).await.unwrap();
    let mut told = viewer.candidates().unwrap();
    assert_eq!(told.candidates, [seen]);
    let dialling = tokio::spawn(viewer.connect());
    let start = Instant::now();
    // The address that the gate has for it, and one where nobody is.
    told.candidates = vec!["127.0.0.1:9".parse().unwrap(), gate.towards(seen).await];
    let outcome = edge.traversal().reach("session", told).unwrap();
    assert_eq!(timeout(PATIENCE, outcome).await.unwrap(), Outcome::Reached);
    let edge_side = timeout(PATIENCE, edge.accept()).await.unwrap().unwrap();
    let viewer_side = timeout(PATIENCE, dialling).await.unwrap().unwrap().unwrap();
    println!("open after {:?}", start.elapsed());
    assert_eq!(viewer_side.remote_addr() == gate.front, !maps_per_destination);
    deliver(&edge_side, &viewer_side, Channel::Pieces, 65_536).await;
    deliver(&viewer_side, &edge_side, Channel::Control, 100).await;
}

#[tokio::test]
async fn an_edge_behind_nat_lets_a_viewer_in_that_said_where_it_is() {
    reach(1, false).await;
}

#[tokio::test]
async fn an_edge_behind_nat_lets_a_viewer_in_whichever_core_it_meets() {
    reach(4, false).await;
}

/// Its checks come from a port that nobody could have told the viewer.
#[tokio::test]
async fn an_edge_whose_nat_maps_per_destination_reaches_a_viewer_that_takes_it_where_it_shows() {
    reach(1, true).await;
}

/// Who knows neither the viewer's password nor its name cannot show it another edge.
#[tokio::test]
async fn a_viewer_follows_nobody_but_its_edge() {
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let edge = bind(1);
    let address = Address { socket: silent.local_addr().unwrap(), ..edge.address().clone() };
    let config = dial::Config { timeout: Duration::from_secs(2), ..dial::Config::default() };
    let viewer = Dial::prepare(&address, config).unwrap();
    let told = viewer.candidates().unwrap();
    let dialling = tokio::spawn(viewer.connect());
    let check = |their_ufrag, our_ufrag, password| {
        let transaction = [9; 12];
        let check = stun::Check {
            transaction,
            their_ufrag,
            our_ufrag,
            priority: 1,
            tie_breaker: 1,
            use_candidate: false,
        };
        stun::controlled_request(&check, password)
    };
    for lie in [
        check(&told.ufrag, &address.ufrag, "another password that it is"),
        check("another", &address.ufrag, &told.password),
        check(&told.ufrag, "another", &told.password),
        stun::binding_success([9; 12], told.candidates[0]),
    ] {
        liar.send_to(&lie, told.candidates[0]).await.unwrap();
    }
    assert!(matches!(dialling.await.unwrap(), Err(dial::Error::Timeout)));
    assert!(liar.try_recv(&mut [0; 512]).is_err(), "it answers a liar");
}
