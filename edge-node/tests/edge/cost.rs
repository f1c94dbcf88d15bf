//! What an edge costs, as a process of its own: says numbers (`cargo test -p millstream-edge --test edge --
//! --nocapture cost`), and holds them within bounds that only a blunder passes.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use millstream_wire::{frame::Subscription::Pieces, sign::Signer as _};

use crate::{
    broadcast::VIDEO,
    viewer::{Viewer, session},
    world::{World, get},
};

const VIEWERS: u8 = 24;
const PARTS: u32 = 20;

/// An idle viewer takes a fifth of this.
const IDLE_KIB_MAX: u64 = 512;

/// A quarter of a second of 4 Mbit/s.
const PART: u32 = 125_000;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Seconds of CPU so far, in user code and in the kernel.
    fn cpu(&self) -> (f64, f64) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("running");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        // Fields 14 and 15 of proc(5), in ticks of 10 ms.
        let seconds = |at: usize| fields[at].parse::<f64>().expect("a number") / 100.0;
        (seconds(11), seconds(12))
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("resident");
        line.split_whitespace().nth(1).expect("a size").parse().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dozen_viewers_cost_within_bounds() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let ops = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sets = [
        String::from("listen=127.0.0.1:0"),
        format!("data={}", folder.path().display()),
        format!("tracker=http://{}", world.tracker.address),
        format!("ops.listen={ops}"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-edge"));
    command.args(sets.iter().flat_map(|set| ["--set", set])).stdout(Stdio::null());
    let program = Program(command.spawn().unwrap());
    let seen = world.tracker.saw("the program", |seen| seen.registered == 2).await;
    let (edge, address) = (seen.edge.unwrap(), seen.address.unwrap());
    while get(ops, "/readyz").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await; // waits because HTTP answers only when asked
    }
    let before_kib = program.resident_kib();
    let mut viewers = Vec::new();
    for number in 1..=VIEWERS {
        let (session, secret) = session(number);
        let grant = world.tracker.grant(session, secret.public(), edge);
        let mut viewer = Viewer::dial(&address, grant, secret, world.root()).await;
        let grant = world.tracker.sign(&viewer.grant);
        viewer.greet(grant).await;
        viewer.subscribe(VIDEO, Pieces).await;
        viewers.push(viewer);
    }
    let open_kib = program.resident_kib();
    let (user, system) = program.cpu();
    let mut delays = Vec::new();
    let watching: Vec<_> = viewers
        .into_iter()
        .map(|mut viewer| {
            tokio::spawn(async move {
                for number in 0..PARTS {
                    viewer.until(VIDEO, u64::from(number)).await;
                    if number % 4 == 3 {
                        viewer.vouch().await;
                    }
                }
                viewer
            })
        })
        .collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let mut probe = world.viewer(200).await;
    probe.subscribe(VIDEO, Pieces).await;
    for _ in 0..PARTS {
        ticks.tick().await;
        let began = std::time::Instant::now();
        let number = world.origin.publish(VIDEO, PART);
        probe.until(VIDEO, number).await;
        delays.push(began.elapsed());
        probe.vouch().await;
    }
    let mut bytes = 0;
    let mut bad = 0;
    for watched in watching {
        let viewer = watched.await.unwrap();
        bytes += viewer.verified;
        bad += viewer.bad;
        viewer.close().await;
    }
    let (user_after, system_after) = program.cpu();
    delays.sort();
    let gigabytes = bytes as f64 / 1e9;
    let (user, system) = (user_after - user, system_after - system);
    println!("{VIEWERS} viewers at 4 Mbit/s, {gigabytes:.3} GB verified, {bad} bad pieces");
    println!("{:.2} CPU-s/GB ({user:.2} s user, {system:.2} s system)", (user + system) / gigabytes);
    println!("{} KiB a viewer when idle", (open_kib - before_kib) / u64::from(VIEWERS));
    println!(
        "publish to whole at a viewer: p50 {:?}, max {:?}",
        delays[delays.len() / 2],
        delays[delays.len() - 1]
    );
    assert_eq!(bad, 0);
    assert!((open_kib - before_kib) / u64::from(VIEWERS) < IDLE_KIB_MAX, "{before_kib} to {open_kib} KiB");
    let (_, status) = get(ops, "/v1/status").await;
    assert!(status.contains("earnings"), "{status}");
    world.edge.stop().await;
}
