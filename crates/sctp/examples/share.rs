//! Who gets what: our controllers alone, beside each other, and beside CUBIC and Reno, as a table; with a folder as
//! argument, also as plots (`docs/transport/README.md` explains them).
//!
//! `cargo run --release -p millstream-sctp --example share [-- docs/transport]`

use std::{env, error::Error, fs, path::Path, time::Duration};

use millstream_netsim::{Outcome, percentile};

use plot::{Curve, Plot};
use scene::{Line, RUN, Who, alone, goodput, pair, share};

#[path = "share/plot.rs"]
mod plot;
#[path = "../tests/congestion/scene.rs"]
#[allow(dead_code, clippy::cast_precision_loss, reason = "shared with the tests, which use all of it")]
mod scene;
#[path = "../tests/congestion/sender.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use all of it")]
mod sender;

const SEEDS: u64 = 3;

fn line(mbit: u64, round_trip_ms: u64, queue_ms: u64, loss_per_million: u32) -> Line {
    Line { mbit, round_trip_ms, queue_ms, loss_per_million }
}

fn main() -> Result<(), Box<dyn Error>> {
    table_alone();
    table_pairs();
    if let Some(folder) = env::args().nth(1) {
        draw(Path::new(&folder))?;
    }
    Ok(())
}

fn milliseconds(outcome: &Outcome, percent: usize) -> f64 {
    f64::from(percentile(&outcome.counts.queued_micros, percent)) / 1e3
}

fn table_alone() {
    println!(
        "| Alone at 100 Mbit/s | Round trip | Queue | Loss | Goodput MB/s | Used | Queueing p50 ms | p99 ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for (name, who) in [
        ("ours", Who::Bbr),
        ("NewReno", Who::NewReno),
        ("CUBIC", Who::Cubic),
        ("CUBIC, HyStart++", Who::CubicHystart),
    ] {
        for (round_trip, loss, queues) in [
            (20, 0, &[10, 50, 500][..]),
            (80, 0, &[10, 50, 500]),
            (20, 5_000, &[50]),
            (80, 10_000, &[50]),
            (80, 15_000, &[50]),
        ] {
            for &queue in queues {
                let line = line(100, round_trip, queue, loss);
                let outcome = alone(who, line, 1);
                let rate = outcome.rate(0, Duration::ZERO, RUN);
                println!(
                    "| {name} | {round_trip} ms | {queue} ms | {:.1} % | {:.2} | {:.1} % | {:.1} | {:.1} |",
                    f64::from(loss) / 1e4,
                    goodput(rate) / 1e6,
                    rate / line.rate() * 100.0,
                    milliseconds(&outcome, 50),
                    milliseconds(&outcome, 99),
                );
            }
        }
    }
    println!();
}

fn table_pairs() {
    println!(
        "| First | Second | Path | Queue | First / second, three seeds | Used | Queueing p50 ms | p99 ms |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let ours = ("ours", Who::Bbr);
    let cubic = ("CUBIC", Who::Cubic);
    let hystart = ("CUBIC, HyStart++", Who::CubicHystart);
    let reno = ("Reno", Who::Reno);
    for ((first, first_s), (second, second_s)) in [
        ((ours, 0), (ours, 5)),
        ((ours, 0), (cubic, 0)),
        ((ours, 0), (hystart, 0)),
        ((ours, 0), (reno, 0)),
        ((ours, 5), (cubic, 0)),
        ((ours, 0), (cubic, 5)),
        ((ours, 5), (reno, 0)),
        ((ours, 0), (reno, 5)),
        ((cubic, 0), (reno, 0)),
        ((cubic, 0), (cubic, 5)),
    ] {
        for mbit in [100, 20] {
            for queue in [10, 50, 500] {
                let line = line(mbit, 40, queue, 0);
                let runs: Vec<Outcome> = (0..SEEDS)
                    .map(|seed| pair((first.1, first_s), (second.1, second_s), line, seed))
                    .collect();
                let both_s = first_s.max(second_s);
                let shares: Vec<String> =
                    runs.iter().map(|outcome| format!("{:.2}", share(outcome, both_s))).collect();
                let Some(outcome) = runs.first() else { continue };
                let from = Duration::from_secs(both_s);
                let used = outcome.rate(0, from, from + RUN) + outcome.rate(1, from, from + RUN);
                let name = |name: &str, at: u64| {
                    if at == 0 { name.to_owned() } else { format!("{name}, {at} s later") }
                };
                println!(
                    "| {} | {} | {mbit} Mbit/s | {queue} ms | {} | {:.1} % | {:.1} | {:.1} |",
                    name(first.0, first_s),
                    name(second.0, second_s),
                    shares.join(" "),
                    used / line.rate() * 100.0,
                    milliseconds(outcome, 50),
                    milliseconds(outcome, 99),
                );
            }
        }
    }
}

/// Draws the runs that the page shows.
fn draw(folder: &Path) -> Result<(), Box<dyn Error>> {
    for queue in [50, 500] {
        for (file, title, first, second) in [
            ("ours-ours", "Two of ours", ("ours", Who::Bbr, 0), ("ours, 5 s later", Who::Bbr, 5)),
            ("ours-cubic", "Ours beside CUBIC", ("ours", Who::Bbr, 0), ("CUBIC", Who::CubicHystart, 0)),
            ("ours-reno", "Ours beside Reno", ("ours", Who::Bbr, 0), ("Reno", Who::Reno, 0)),
        ] {
            let outcome = pair((first.1, first.2), (second.1, second.2), line(100, 40, queue, 0), 1);
            let plot = Plot {
                title: format!("{title}, 100 Mbit/s, 40 ms, queue of {queue} ms"),
                unit: "Mbit/s".to_owned(),
                top: 100.0,
                curves: vec![
                    Curve { name: first.0.to_owned(), points: megabits(&outcome.arrived[0]) },
                    Curve { name: second.0.to_owned(), points: megabits(&outcome.arrived[1]) },
                ],
            };
            fs::write(folder.join(format!("{file}-{queue}.svg")), plot.svg())?;
        }
        let waits = |who| {
            alone(who, line(100, 40, queue, 0), 1).waits.iter().map(|wait| f64::from(*wait) / 1e3).collect()
        };
        let plot = Plot {
            title: format!("What one flow queues, 100 Mbit/s, 40 ms, queue of {queue} ms"),
            unit: "ms".to_owned(),
            top: if queue == 50 { 50.0 } else { 500.0 },
            curves: vec![
                Curve { name: "ours".to_owned(), points: waits(Who::Bbr) },
                Curve { name: "CUBIC".to_owned(), points: waits(Who::CubicHystart) },
            ],
        };
        fs::write(folder.join(format!("queueing-{queue}.svg")), plot.svg())?;
    }
    Ok(())
}

/// Bytes in each tenth of a second, as megabits a second over half a second.
fn megabits(arrived: &[u64]) -> Vec<f64> {
    const SMOOTHED: usize = 5;
    (0..arrived.len())
        .map(|at| {
            let window = &arrived[at.saturating_sub(SMOOTHED - 1)..=at];
            let bytes = u32::try_from(window.iter().sum::<u64>()).unwrap_or(u32::MAX);
            f64::from(bytes) * 8.0 / 1e6 / (0.1 * f64::from(u32::try_from(window.len()).unwrap_or(1)))
        })
        .collect()
}
