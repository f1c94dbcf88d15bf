//! What the machine alone costs, without socket and encryption: CPU-seconds per gigabyte of sending and of receiving.
//!
//! ```text
//! cargo run --release -p millstream-sctp --example machine
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_sctp::{Association, Config, Entropy, Outgoing, Reliability};

/// Messages: a piece with its header.
const MESSAGE_BYTES: usize = 65_600;

/// Bytes sent in one measurement.
const BYTES: u64 = 2_000_000_000;

/// Packets that are handled at one time, as a driver does.
const BATCH: usize = 40;

fn main() {
    println!("{:<34} {:>14} {:>14}", "", "send, s/GB", "receive, s/GB");
    for (name, zero_checksum, interleaving, sack_each) in [
        ("I-DATA, no checksum", true, true, false),
        ("DATA, no checksum", true, false, false),
        ("DATA, CRC32c", false, false, false),
        ("DATA, a SACK a packet", true, false, true),
    ] {
        let (sending, receiving) = measure(zero_checksum, interleaving, sack_each);
        println!("{name:<34} {sending:>14.3} {receiving:>14.3}");
    }
}

fn measure(zero_checksum: bool, interleaving: bool, sack_each: bool) -> (f64, f64) {
    let config = Arc::new(Config {
        zero_checksum,
        interleaving,
        receive_window_bytes: 4 << 20,
        send_bytes_max: 4 << 20,
        ..Config::default()
    });
    let mut now = Instant::from_millis(1_000);
    let mut sender = Association::new(config.clone(), Entropy([1; 32]), now);
    let mut receiver = Association::new(config, Entropy([2; 32]), now);
    sender.connect(now);
    let piece = Bytes::from(vec![7; MESSAGE_BYTES]);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let (mut there_ends, mut back_ends) = (Vec::new(), Vec::new());
    while received < BYTES {
        now = now + Duration::from_micros(100);
        let began = Clock::now();
        let mut at = 0;
        for end in back_ends.drain(..) {
            sender.handle(&back[at..end], now);
            at = end;
        }
        back.clear();
        while sent < BYTES && sender.is_open() && sender.room() > MESSAGE_BYTES + Association::CHARGE {
            let message = Outgoing {
                stream: 1,
                ppi: 53,
                bytes: piece.clone(),
                is_unordered: true,
                reliability: Reliability::Reliable,
            };
            if sender.send(message, now).is_err() {
                break;
            }
            sent += MESSAGE_BYTES as u64;
        }
        if sender.next_timeout(now).is_some_and(|at| at <= now) {
            sender.handle_timeout(now);
        }
        while there_ends.len() < BATCH && sender.poll_transmit(now, &mut there) {
            there_ends.push(there.len());
        }
        sending += began.elapsed();

        let began = Clock::now();
        let mut at = 0;
        for end in there_ends.drain(..) {
            receiver.handle(&there[at..end], now);
            at = end;
            while sack_each && receiver.poll_transmit(now, &mut back) {
                back_ends.push(back.len());
            }
        }
        there.clear();
        while let Some(message) = receiver.recv() {
            received += message.bytes.len() as u64;
        }
        if receiver.next_timeout(now).is_some_and(|at| at <= now) {
            receiver.handle_timeout(now);
        }
        while receiver.poll_transmit(now, &mut back) {
            back_ends.push(back.len());
        }
        receiving += began.elapsed();
    }
    let gigabytes = received as f64 / 1e9;
    (sending.as_secs_f64() / gigabytes, receiving.as_secs_f64() / gigabytes)
}
