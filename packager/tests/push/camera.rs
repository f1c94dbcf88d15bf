//! A camera: RTSP over TCP, interleaved, in front of what ffmpeg packetizes in real time.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Child,
    sync::broadcast,
    task::{JoinHandle, JoinSet},
};

use crate::world::{ffmpeg, localhost, within};

/// `viewer:s3cret`, as Basic authentication has it.
const CREDENTIALS: &str = "Basic dmlld2VyOnMzY3JldA==";

/// A camera that is on. Dropping it pulls the plug.
pub(crate) struct Camera {
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
    _encoder: Child,
}

/// It reports each so many packets: some three times in two seconds, for the first are not always heard.
const REPORT_EVERY: u32 = 25;

/// Clock rates of the tracks.
const RATES: [f64; 2] = [90_000.0, 48_000.0];

/// An interleaved channel's packet.
type Packet = (u8, Arc<[u8]>);

/// Where each track began: its source and its first time stamp. What begins a clip begins at once.
type Begins = Arc<Mutex<HashMap<u8, ([u8; 4], u32)>>>;

impl Camera {
    /// Sends `file` over and over to whoever asks at `address`.
    pub(crate) async fn on(file: &Path, address: SocketAddr) -> Self {
        let (packets, _) = broadcast::channel(4096);
        let mut targets = Vec::new();
        let mut relays = JoinSet::new();
        let (begins, begun) = (Begins::default(), Instant::now());
        for track in 0..2 {
            // ffmpeg's own reports go to the second port: they know when ffmpeg opened a track and not when it began.
            let [media, reports] = pair().await;
            targets.push(format!("rtp://{}?pkt_size=1200", media.local_addr().unwrap()));
            let (packets, begins) = (packets.clone(), Arc::clone(&begins));
            relays.spawn(async move {
                let _reports = reports;
                let mut packet = vec![0; 2048];
                loop {
                    let length = media.recv(&mut packet).await.unwrap();
                    let source = packet[8..12].try_into().unwrap();
                    let time = u32::from_be_bytes(packet[4..8].try_into().unwrap());
                    begins.lock().unwrap().entry(track * 2).or_insert((source, time));
                    // Fails while nobody watches.
                    let _ = packets.send((track * 2, packet[..length].into()));
                }
            });
        }
        let mut encoder = ffmpeg(["-re", "-stream_loop", "-1", "-i"]);
        encoder.arg(file).args(["-map", "0:v", "-c", "copy", "-f", "rtp", &targets[0]]);
        encoder.args([
            "-map",
            "0:a",
            "-c",
            "copy",
            "-f",
            "rtp",
            "-cname",
            "camera",
            &targets[1],
            "-sdp_file",
            "pipe:1",
        ]);
        let mut encoder = encoder.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let description = description(&mut encoder).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let _relays = relays;
            let mut watchers = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                watchers.spawn(watch(
                    socket,
                    description.clone(),
                    packets.clone(),
                    (Arc::clone(&begins), begun),
                ));
            }
        });
        Self { address, server, _encoder: encoder }
    }

    pub(crate) async fn off(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

/// Two sockets, an even port and the one above.
async fn pair() -> [UdpSocket; 2] {
    loop {
        let first = UdpSocket::bind(localhost()).await.unwrap();
        let mut above = first.local_addr().unwrap();
        above.set_port(above.port() | 1);
        if above.port() == first.local_addr().unwrap().port() {
            continue;
        }
        if let Ok(second) = UdpSocket::bind(above).await {
            return [first, second];
        }
    }
}

/// What ffmpeg says of its tracks, with a control URL for each.
async fn description(encoder: &mut Child) -> String {
    let mut lines = BufReader::new(encoder.stdout.take().unwrap()).lines();
    let mut text = String::from(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n",
    );
    let mut tracks = 0;
    while let Some(line) = within(lines.next_line()).await.unwrap() {
        match line.split_once('=') {
            Some(("m", media)) => {
                let kind = media.split(' ').next().unwrap();
                let payload = media.rsplit(' ').next().unwrap();
                text += &format!("m={kind} 0 RTP/AVP {payload}\r\na=control:track{tracks}\r\n");
                tracks += 1;
            }
            Some(("a", _)) if tracks > 0 => text += &format!("{line}\r\n"),
            _ => {}
        }
        // The last line of the second track.
        if tracks == 2 && line.starts_with("a=fmtp") {
            return text;
        }
    }
    panic!("ffmpeg said no more than {text}");
}

/// Serves one that watches.
async fn watch(
    socket: TcpStream,
    description: String,
    packets: broadcast::Sender<Packet>,
    (begins, begun): (Begins, Instant),
) -> io::Result<()> {
    let address = socket.local_addr()?;
    let (read, mut write) = socket.into_split();
    let mut read = BufReader::new(read);
    let mut wanted = false;
    let mut sent = 0;
    let mut channels = HashMap::new();
    let mut feed = packets.subscribe();
    loop {
        let request = tokio::select! {
            request = request(&mut read) => request?,
            Ok((channel, packet)) = feed.recv(), if wanted => {
                let Some(channel) = channels.get(&channel) else { continue };
                write.write_all(&interleaved(*channel, &packet)).await?;
                sent += 1;
                if u32::is_multiple_of(sent, REPORT_EVERY) {
                    for (channel, report) in reports(&begins, begun.elapsed().as_secs_f64()) {
                        write.write_all(&interleaved(channels[&channel], &report)).await?;
                    }
                }
                continue;
            }
        };
        let header =
            |name: &str| request.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let sequence = header("CSeq:");
        let first = &request[0];
        let method = first.split(' ').next().unwrap();
        let answer =
            |status: &str, more: &str| format!("RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{more}\r\n");
        let text = if method != "OPTIONS" && header("Authorization:") != CREDENTIALS {
            answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"camera\"\r\n")
        } else {
            match method {
                "OPTIONS" => {
                    answer("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n")
                }
                "DESCRIBE" => {
                    let length = description.len();
                    let more = format!(
                        "Content-Base: rtsp://{address}/live/\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n"
                    );
                    answer("200 OK", &more) + &description
                }
                "SETUP" => {
                    let track = u8::from(first.contains("track1"));
                    let (_, numbers) = header("Transport:").split_once("interleaved=").expect("by TCP");
                    let number: u8 = numbers.split(['-', ';']).next().unwrap().parse().unwrap();
                    channels.insert(track * 2, number);
                    channels.insert(track * 2 + 1, number + 1);
                    let more = format!(
                        "Session: 1;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved={number}-{}\r\n",
                        number + 1
                    );
                    answer("200 OK", &more)
                }
                "PLAY" => {
                    feed = packets.subscribe();
                    wanted = true;
                    answer("200 OK", "Session: 1\r\n")
                }
                _ => answer("200 OK", "Session: 1\r\n"),
            }
        };
        write.write_all(text.as_bytes()).await?;
    }
}

/// A sender report of each track (RFC 3550 §6.4.1), with the name that says that they belong together (§6.5.1).
fn reports(begins: &Begins, seconds: f64) -> Vec<(u8, Vec<u8>)> {
    let begins = begins.lock().unwrap();
    let report = |(channel, (source, first)): (&u8, &([u8; 4], u32))| {
        let rate = RATES[usize::from(channel / 2)];
        let time = first.wrapping_add(u32::try_from(ticks(seconds * rate)).unwrap());
        // Any beginning does for the wall's clock, as long as it is the same one.
        let wall = (1_u64 << 60) + ticks(seconds * 4_294_967_296.0);
        let mut report = vec![0x80, 200, 0, 6];
        report.extend(source);
        report.extend(wall.to_be_bytes());
        report.extend(time.to_be_bytes());
        report.extend([0; 8]);
        report.extend([0x81, 202, 0, 4]);
        report.extend(source);
        report.extend(b"\x01\x06camera\0\0\0\0");
        (channel + 1, report)
    };
    begins.iter().map(report).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ticks of a few minutes")]
fn ticks(count: f64) -> u64 {
    count.round() as u64
}

fn interleaved(channel: u8, packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    [&[b'$', channel, length[0], length[1]][..], packet].concat()
}

/// The lines of a request; what is interleaved before it (reports of a receiver) is thrown away.
async fn request(read: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> io::Result<Vec<String>> {
    loop {
        if read.fill_buf().await?.first() == Some(&b'$') {
            let mut head = [0; 4];
            read.read_exact(&mut head).await?;
            let mut packet = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
            read.read_exact(&mut packet).await?;
            continue;
        }
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if read.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" if lines.is_empty() => {}
                "" => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }
}
