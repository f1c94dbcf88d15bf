//! How many viewers of a live stream one core serves: parts of 3 Mbit/s each 250 ms to every one of them, and how long
//! a part takes from the edge's `send` to the viewer's `recv`. Linux only.
//!
//! ```text
//! cargo run --release -p millstream-datachannel --example paced -- 100 200 400
//! ```
//!
//! The edge is one process whose listener has one thread; the viewers are another process. All share the machine's
//! cores, so the cost of each side is told from its own processor time. Every viewer gets the same bytes, as from a
//! cache, with the time of sending in front; viewers are served one after the other, spread over the 250 ms as
//! publishers' parts are not: all at once is the harder case, and `--at-once` measures it.

use std::{
    env, io,
    io::{BufRead as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_datachannel::{Address, Certificate, Channel, Connection, Listener, dial, listen};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// 3 Mbit/s in a quarter of a second, as two pieces.
const PIECES: [usize; 2] = [65_600, 28_150];
const INTERVAL: Duration = Duration::from_millis(250);

/// Parts that are measured, after those that are not.
const PARTS: usize = 40;
const WARM_UP: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, count, port, ufrag, password, fingerprint] = &arguments[..]
        && role == "viewers"
    {
        let address = Address {
            socket: format!("127.0.0.1:{port}").parse()?,
            ufrag: ufrag.clone(),
            password: password.clone(),
            fingerprint: fingerprint.parse()?,
        };
        return viewers(&address, count.parse()?).await;
    }
    let at_once = arguments.iter().any(|argument| argument == "--at-once");
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>10} {:>10}",
        "viewers", "edge, core", "viewers, core", "p50, ms", "p99, ms", "worst, ms", "MB/s"
    );
    for count in arguments.iter().filter(|argument| !argument.starts_with("--")) {
        serve(count.parse()?, at_once).await?;
    }
    Ok(())
}

async fn serve(count: usize, at_once: bool) -> Outcome<()> {
    let made = listen::Config::new("127.0.0.1:0".parse()?, Certificate::generate()?)?;
    let many = u32::try_from(count)?.max(1_024);
    let config = listen::Config {
        connections_max: count + 64,
        prefix_burst: many,
        prefix_per_second: many,
        accept_queue_max: count + 64,
        ..made
    };
    let mut listener = Listener::bind(config)?;
    let address = listener.address();
    let mut child = Viewers(
        Command::new(env::current_exe()?)
            .arg("viewers")
            .arg(count.to_string())
            .arg(address.socket.port().to_string())
            .args([&address.ufrag, &address.password, &address.fingerprint.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut connections = Vec::new();
    while connections.len() < count {
        connections.push(listener.accept().await.ok_or("no connection")?);
    }
    let fill = [0, 1].map(|piece| Bytes::from(vec![7; PIECES[piece]]));
    let (mut own, mut theirs, mut began) = (0.0, 0.0, Instant::now());
    for part in 0..WARM_UP + PARTS {
        if part == WARM_UP {
            (own, theirs) = (cpu_seconds(std::process::id())?, cpu_seconds(child.0.id())?);
            began = Instant::now();
        }
        let turn = Instant::now();
        for (number, connection) in connections.iter().enumerate() {
            let at =
                if at_once { turn } else { turn + INTERVAL * u32::try_from(number)? / u32::try_from(count)? };
            if at > Instant::now() + Duration::from_millis(1) {
                tokio::time::sleep_until(at.into()).await;
            }
            send_part(connection, part, &fill);
        }
        tokio::time::sleep_until((turn + INTERVAL).into()).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    let own = (cpu_seconds(std::process::id())? - own) / seconds;
    let theirs = (cpu_seconds(child.0.id())? - theirs) / seconds;
    let mut line = String::new();
    child.0.stdin.take().ok_or("no stdin")?.write_all(b"over\n")?;
    io::BufReader::new(child.0.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    let mut told = line.split_whitespace();
    let mut next = || told.next().unwrap_or("-").to_owned();
    let (p50, p99, worst, bytes) = (next(), next(), next(), next());
    let rate = bytes.parse::<f64>().unwrap_or(0.0) / 1e6 / (PARTS + WARM_UP) as f64 * 4.0;
    println!("{count:>8} {own:>12.2} {theirs:>12.2} {p50:>12} {p99:>12} {worst:>10} {rate:>10.1}");
    drop(connections);
    listener.close().await;
    Ok(())
}

/// The part, with its number and the time in the first piece. What has no room any more is left out, and seen as late.
fn send_part(connection: &Connection, part: usize, fill: &[Bytes; 2]) {
    let mut head = BytesMut::with_capacity(16);
    head.put_u64(u64::try_from(part).unwrap_or(0));
    head.put_u64(micros());
    let _ = connection.try_send(Channel::Control, head.freeze());
    for piece in fill {
        let _ = connection.try_send(Channel::Pieces, piece.clone());
    }
}

async fn viewers(address: &Address, count: usize) -> Outcome<()> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let certificate = Certificate::generate()?;
    for _ in 0..count {
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let connection = dial(address, config).await?;
        let tell = tell.clone();
        tokio::spawn(async move {
            let (mut sent, mut pieces) = (std::collections::VecDeque::new(), 0_usize);
            while let Some(message) = connection.recv().await {
                match message.channel {
                    Channel::Control => {
                        let number = |at: usize| {
                            message
                                .bytes
                                .get(at..at + 8)
                                .and_then(|bytes| bytes.try_into().ok())
                                .map_or(0, u64::from_be_bytes)
                        };
                        sent.push_back((number(0), number(8)));
                    }
                    Channel::Pieces => pieces += 1,
                }
                // Both pieces of the oldest part are here.
                while pieces >= PIECES.len()
                    && let Some((part, at)) = sent.pop_front()
                {
                    pieces -= PIECES.len();
                    let _ = tell.send((part, micros().saturating_sub(at)));
                }
            }
        });
    }
    drop(tell);
    // Read on a thread of its own: standard input blocks.
    let over = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new()));
    let _ = over.await;
    let (mut late, mut bytes) = (Vec::new(), 0_usize);
    while let Ok((part, micros)) = told.try_recv() {
        bytes += PIECES.iter().sum::<usize>();
        if part >= u64::try_from(WARM_UP)? {
            late.push(micros);
        }
    }
    late.sort_unstable();
    let at =
        |percent: usize| late.get((late.len() * percent / 100).min(late.len().saturating_sub(1))).copied();
    let ms = |micros: Option<u64>| {
        micros.map_or_else(|| "-".to_owned(), |micros| format!("{:.1}", micros as f64 / 1e3))
    };
    println!("{} {} {} {bytes}", ms(at(50)), ms(at(99)), ms(late.last().copied()));
    Ok(())
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(0)
}

struct Viewers(Child);

impl Drop for Viewers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User and system time of a process, of 100 ticks a second.
fn cpu_seconds(process: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().ok_or("no fields")?.split_whitespace().collect();
    let ticks = |at: usize| -> Outcome<f64> { Ok(fields.get(at).ok_or("no field")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
