//! An edge at home and a viewer at home, each behind a router that lets nobody in (real namespaces, the kernel's NAT), and
//! servers between them. Needs nftables and root; without root nothing is tested.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use millstream_e2e::{
    browser,
    media::PLAIN,
    namespace::{self, Home, Internet},
    pressure::Pressure,
    process::Process,
    program::{EDGE, Program},
    stack::{Apart, Created, Stack},
    viewers::Watch,
};
use serde_json::{Value, json};

/// A home has an address of its own, so the port is free.
const PORT: u16 = 4443;

/// Longer than any answer takes here.
const NO_ANSWER: Duration = Duration::from_millis(500);

/// Two homes and what stands between them.
struct World {
    // Programs end before their networks do.
    behind: Program,
    public: Program,
    _publisher: Process,
    created: Created,
    apart: Apart,
    edge_home: Home,
    viewer_home: Home,
    internet: Internet,
}

impl World {
    /// A stream on the air, an edge behind NAT, and a public one that takes no viewers: it says where others are.
    fn new() -> Option<Self> {
        if !namespace::are_allowed() {
            eprintln!("not root: no namespaces, nothing is tested");
            return None;
        }
        let mut internet = Internet::new().unwrap();
        let (edge_home, viewer_home) = (internet.home().unwrap(), internet.home().unwrap());
        let (apart, publisher, created, public) = internet
            .space
            .within(|| {
                let apart = Stack::apart_at(Internet::ADDRESS)?;
                let (publisher, created) = apart.stack.publish("show", &PLAIN)?;
                let listen = format!("{}:0", Internet::ADDRESS);
                let public = apart.stack.edge_with("public", &[("listen", &listen), ("viewers_max", "0")])?;
                Ok((apart, publisher, created, public))
            })
            .unwrap();
        let settings = [
            ("tracker", apart.stack.ready.tracker.clone()),
            ("listen", format!("0.0.0.0:{PORT}")),
            ("behind_nat", "true".to_owned()),
            ("drain_ms", "1000".to_owned()),
        ];
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let folder = apart.stack.folder();
        let behind = edge_home.space.within(|| Program::start(EDGE, "behind", folder, &settings)).unwrap();
        internet.space.within(|| apart.stack.knows(behind.said("edge")?)).unwrap();
        Some(Self { behind, public, _publisher: publisher, created, apart, edge_home, viewer_home, internet })
    }

    /// A browser in the viewer's home; `before` is JavaScript that is run before the page's.
    fn watch(&self, browser: &str, seconds: u32, before: &str) -> Value {
        let stack = &self.apart.stack;
        let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, self.created.root_public_key);
        let argument =
            json!({ "url": page, "browser": browser, "seconds": seconds, "warmup": 10, "before": before });
        let space = &self.viewer_home.space;
        space.within(|| browser::start("watch.mjs", &argument, stack.folder())?.finish()).unwrap()
    }

    /// Where the edge's router shows it.
    fn mapped(&self) -> SocketAddr {
        (self.edge_home.address, PORT).into()
    }

    fn public(&self) -> SocketAddr {
        self.public.said("udp").unwrap().parse().unwrap()
    }
}

/// Whether whoever is at `to` answers a bare binding request, as an edge does: says what it answers.
fn asks(to: SocketAddr) -> anyhow::Result<Option<Vec<u8>>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(NO_ANSWER))?;
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(&[7; 12]);
    socket.send_to(&request, to)?;
    let mut answer = vec![0; 1_500];
    match socket.recv(&mut answer) {
        Ok(length) => Ok(Some(answer[..length].to_vec())),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn of_edge<'a>(seen: &'a Value, id: &str) -> Option<&'a Value> {
    seen["edges"].as_array()?.iter().find(|edge| edge["id"] == id)
}

fn lives_on_an_edge_behind_nat(browser: &str) {
    let Some(world) = World::new() else { return };
    let id = world.behind.said("edge").unwrap().to_owned();

    // The routers are as they should be: an edge answers whoever reaches it, and nobody reaches the one at home.
    let viewers = &world.viewer_home.space;
    assert!(viewers.within(|| asks(world.public())).unwrap().is_some(), "an edge says where one is seen");
    for space in [viewers, &world.internet.space] {
        assert_eq!(space.within(|| asks(world.mapped())).unwrap(), None, "its router lets nobody in");
    }

    let pressure = Pressure::begin();
    let seen = world.watch(browser, 40, "");
    eprintln!("{seen}\n{pressure}");
    assert_eq!(seen["mode"], "swarm", "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert_eq!(seen["parts_hashed_wrong"], 0, "{seen}");
    assert_eq!(seen["pieces"]["rejected"], 0, "{seen}");
    assert!(seen["played_parts"].as_u64().unwrap() > 200, "{seen}");
    let since = |source: &str| {
        seen["bytes"][source].as_u64().unwrap() - seen["bytes_at_warmup"][source].as_u64().unwrap()
    };
    let (edge, origin) = (since("edge"), since("origin"));
    assert!(edge * 10 >= (edge + origin) * 9, "{edge} by edges, {origin} by the origin: {seen}");
    let by_it = of_edge(&seen, &id).unwrap()["payableBytes"].as_u64().unwrap();
    assert_eq!(by_it, seen["bytes"]["edge"].as_u64().unwrap(), "no other edge takes viewers: {seen}");
    assert_eq!(seen["stalls"]["count"], 0, "{pressure}: {seen}");
    println!("{by_it} bytes through two NATs, {origin} by the origin after the warm-up");
}

#[test]
fn a_viewer_behind_nat_lives_on_an_edge_behind_nat() {
    lives_on_an_edge_behind_nat("chromium");
}

#[test]
fn a_viewer_with_firefox_does_too() {
    lives_on_an_edge_behind_nat("firefox");
}

#[test]
fn a_viewer_without_a_screen_comes_through_two_nats_too() {
    let Some(world) = World::new() else { return };
    let stack = &world.apart.stack;
    let mut watch = Watch::new(&stack.ready.tracker, "show", 20);
    watch.viewers = 2;
    let pressure = Pressure::begin();
    let viewers = world.viewer_home.space.within(|| watch.start(stack.folder())?.report()).unwrap();
    eprintln!("{viewers:?}\n{pressure}");
    assert!(viewers.bytes.edge > viewers.bytes.origin, "{viewers:?}");
    assert_eq!(viewers.pieces.rejected, 0, "{viewers:?}");
    assert_eq!(viewers.stalls.count, 0, "{pressure}: {viewers:?}");
}

#[test]
fn without_signals_nobody_comes_through_two_nats() {
    let Some(world) = World::new() else { return };
    let id = world.behind.said("edge").unwrap().to_owned();
    let mute = r#"
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (text) { if (!text.includes('"signal"')) send.call(this, text); };
    "#;
    let seen = world.watch("chromium", 20, mute);
    eprintln!("{seen}");
    assert_eq!(seen["mode"], "swarm", "{seen}");
    assert!(of_edge(&seen, &id).is_some(), "it was offered the edge: {seen}");
    assert_eq!(seen["bytes"]["edge"], 0, "{seen}");
    assert!(seen["bytes"]["origin"].as_u64().unwrap() > 0, "and plays all the same: {seen}");
}
