//! Edges behind NAT: when viewers are given them, and who says where everybody is.

use std::collections::BTreeMap;

use super::*;

fn behind_nat(sockets: &[&str]) -> EdgeAddress {
    EdgeAddress { behind_nat: true, stun: vec!["its.own.example:1".into()], ..at(sockets) }
}

#[tokio::test]
async fn an_edge_behind_nat_is_given_to_viewers_once_it_knows_where_it_is() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (edge, _edge_end) = world.edge_at(1, 100, behind_nat(&[])).unwrap();
    let (welcome, mut end) = world.join(&show, 9).await;
    assert!(welcome.edges.is_empty());
    world.hub.sweep(now()).await;
    assert!(end.try_recv().is_err(), "it still looks for itself");
    world.hub.moved(edge, behind_nat(&["198.51.100.1:4443", "192.168.1.2:4443"])).unwrap();
    world.hub.sweep(now()).await;
    let offers = offered(&mut end);
    assert_eq!((offers.len(), offers[0].id), (1, edge));
    let address = &offers[0].address;
    assert!(address.behind_nat && address.sockets.len() == 2, "{address:?}");
    assert!(address.stun.is_empty(), "nobody is public, and what the edge names does not count: {address:?}");
}

#[tokio::test]
async fn who_tries_to_reach_an_edge_that_moves_is_told_where_it_is() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let (edge, _edge_end) = world.edge_at(1, 100, behind_nat(&["192.168.1.2:4443"])).unwrap();
    let (_tries, mut end) = world.join(&show, 9).await;
    let (has, mut other_end) = world.join(&show, 10).await;
    world.hub.report(has.session, report(&[(edge, 100, 0, true)], 0), now()).await;
    let there = behind_nat(&["198.51.100.1:4443", "192.168.1.2:4443"]);
    world.hub.moved(edge, there.clone()).unwrap();
    world.hub.sweep(now()).await;
    assert_eq!(offered(&mut end)[0].address.sockets, there.sockets);
    assert!(other_end.try_recv().is_err(), "it has its connection");
    world.hub.moved(edge, there).unwrap();
    world.hub.sweep(now()).await;
    assert!(end.try_recv().is_err(), "the same again is nothing new");
}

#[tokio::test]
async fn an_address_that_no_host_could_have_is_refused() {
    let world = World::new().await;
    let (edge, _end) = world.edge(1);
    let wrong: [&[&str]; 9] = [
        &[],
        &["0.0.0.0:4443"],
        &["[::]:4443"],
        &["[::ffff:0.0.0.0]:4443"],
        &["224.0.0.1:4443"],
        &["[ff02::1]:4443"],
        &["255.255.255.255:4443"],
        &["198.51.100.1:4443", "198.51.100.1:0"],
        &["198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3", "198.51.100.1:4", "198.51.100.1:5"],
    ];
    for sockets in wrong {
        let refused = [
            world.edge_at(2, 100, at(sockets)).unwrap_err(),
            world.hub.moved(edge, at(sockets)).unwrap_err(),
        ];
        assert!(
            refused.iter().all(|refused| refused.code == FaultCode::BadRequest),
            "{sockets:?}: {refused:?}"
        );
    }
    let other = EdgeAddress { fingerprint: Fingerprint([4; 32]), ..at(&["198.51.100.1:4443"]) };
    assert_eq!(world.hub.moved(edge, other).unwrap_err().code, FaultCode::BadRequest);
    world.hub.moved(edge, at(&["[::ffff:198.51.100.1]:4443", "192.168.1.2:4443"])).unwrap();
}

#[tokio::test]
async fn public_edges_are_named_as_stun_servers_after_the_operators_own() {
    let mut world = World::new().await;
    world.hub.stun = vec!["stun.example:3478".into()];
    let show = world.stream("show", true, 1_000_000_000).await;
    let mut ends = Vec::new();
    for n in 1..=20 {
        ends.push(world.edge_at(n, 0, at(&[&format!("198.51.100.{n}:4443")])).unwrap());
    }
    world.hub.drain(ends[0].0).await;
    let _nat = world.edge_at(30, 100, behind_nat(&["203.0.113.1:4443"])).unwrap();
    let mut named = BTreeMap::<String, u32>::new();
    for n in 1..=100 {
        let (welcome, _end) = world.join(&show, n).await;
        let stun = &welcome.edges[0].address.stun;
        assert_eq!((stun.len(), stun[0].as_str()), (4, "stun.example:3478"));
        for server in &stun[1..] {
            *named.entry(server.clone()).or_default() += 1;
        }
    }
    // Each of 19 is one of three for 100 viewers: 16 on average.
    assert!(named.len() == 19 && !named.contains_key("198.51.100.1:4443"), "{named:?}");
    assert!(named.values().all(|count| (2..=40).contains(count)), "{named:?}");
    let of_itself = world.hub.stun(&ends[1].0, Some(ends[1].0));
    assert!(!of_itself.contains(&"198.51.100.2:4443".to_owned()), "{of_itself:?}");
    world.hub.stun = (0..4).map(|n| format!("stun{n}.example:3478")).collect();
    assert_eq!(world.hub.stun(&1, None), world.hub.stun);
}

#[tokio::test]
async fn a_viewer_that_can_have_a_public_edge_has_one_beside_those_behind_nat() {
    let world = World::new().await;
    let show = world.stream("show", true, 1_000_000_000).await;
    let mut ends = Vec::new();
    for n in 1..=5 {
        ends.push(world.edge_at(n, 100, behind_nat(&["203.0.113.1:4443"])).unwrap());
    }
    let (public, _end) = world.edge(6);
    for n in 9..30 {
        let (welcome, _end) = world.join(&show, n).await;
        assert!(world.has(welcome.session).contains(&public));
        let offer = welcome.edges.iter().find(|offer| offer.id == public).unwrap();
        assert!(!offer.address.behind_nat && offer.address.stun.is_empty(), "nobody needs to ask: {offer:?}");
    }
}

#[tokio::test]
async fn an_edge_behind_nat_that_came_before_all_others_comes_again_when_somebody_can_tell_it_where_it_is() {
    let world = World::new().await;
    let (early, mut early_end) = world.edge_at(1, 100, behind_nat(&[])).unwrap();
    let (_other, mut other_end) = world.edge_at(2, 100, behind_nat(&["203.0.113.1:4443"])).unwrap();
    world.hub.sweep(now()).await;
    assert!(early_end.try_recv().is_err(), "nobody can tell");
    let (_public, mut public_end) = world.edge(3);
    world.hub.sweep(now()).await;
    for end in [&mut early_end, &mut other_end] {
        let told = end.try_recv();
        assert!(matches!(told, Ok(ToEdge::Goaway { retry_ms: 0..5_000 })), "{told:?}");
    }
    let (again, mut again_end) = world.edge_at(1, 100, behind_nat(&[])).unwrap();
    assert_eq!(again, early);
    world.hub.sweep(now()).await;
    assert!(again_end.try_recv().is_err() && other_end.try_recv().is_err(), "once");
    assert!(public_end.try_recv().is_err(), "it lacks nothing");
}
