//! A real Chromium connects to an edge without signalling: the page writes the SDP answer itself.
#![cfg(test)]

use std::{
    collections::HashMap,
    fmt::Write as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use millstream_datachannel::{
    Certificate, Channel, CloseReason, Connection, Listener, dtls::Version, listen,
};
use millstream_model::Fingerprint;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);
const PIECE_BYTES: usize = 65_536 + 64;
const BYTES: usize = 20_000_000;
const ECHOES: usize = 200;
const PAGE: &str = include_str!("chromium/page.html");

/// How a page makes its channels, and who closes.
struct Story {
    control: &'static str,
    pieces: &'static str,
    page_closes: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_uses_negotiated_channels_without_signalling() {
    run(&Story {
        control: "{negotiated: true, id: 0}",
        pieces: "{negotiated: true, id: 1, ordered: false}",
        page_closes: true,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_sees_the_edge_close() {
    run(&Story {
        control: "{negotiated: true, id: 0}",
        pieces: "{negotiated: true, id: 1, ordered: false}",
        page_closes: false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_may_open_the_control_channel_by_dcep() {
    run(&Story {
        // The DTLS client's first own channel has id 0.
        control: "{}",
        pieces: "{negotiated: true, id: 1, ordered: false}",
        page_closes: true,
    })
    .await;
}

async fn run(story: &Story) {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    let mut listener = Listener::bind(config).unwrap();
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let chromium = Chromium::start(&format!("http://{}/", web.local_addr().unwrap()));

    let page = page(&listener, story);
    let result = tokio::spawn(async move { serve(&web, &page).await });
    let connection = timeout(PATIENCE, listener.accept()).await.expect("Chromium connects").unwrap();
    let served = tokio::spawn(edge(connection.clone(), story.page_closes));
    let result = timeout(PATIENCE, result).await.expect("the page reports").unwrap();
    drop(chromium);

    println!("{result:?}");
    let said = |key: &str| result.get(key).unwrap_or_else(|| panic!("no {key} in {result:?}")).as_str();
    assert_eq!(said("closed"), "true");
    assert_eq!(said("bytes").parse::<usize>().unwrap(), BYTES.div_ceil(PIECE_BYTES) * PIECE_BYTES);
    assert_eq!(said("numbers").parse::<usize>().unwrap(), BYTES.div_ceil(PIECE_BYTES));
    assert_eq!((said("wrong"), said("disorder"), said("max_message_size")), ("0", "0", "65600"));
    assert_eq!(said("fingerprint"), sdp(connection.remote_fingerprint()));
    let reason = timeout(PATIENCE, served).await.unwrap().unwrap();
    assert_eq!(connection.stats().dtls, Some(Version::Dtls13));
    assert_eq!(reason, if story.page_closes { CloseReason::Peer } else { CloseReason::Local });
}

/// The edge's part: echoes control, sends and receives pieces, closes when told.
async fn edge(connection: Connection, page_closes: bool) -> CloseReason {
    let mut received = 0;
    let mut sender = None;
    while let Some(message) = timeout(PATIENCE, connection.recv()).await.unwrap() {
        match (message.channel, message.bytes.as_ref()) {
            (Channel::Control, b"begin") => sender = Some(tokio::spawn(send_pieces(connection.clone()))),
            (Channel::Control, b"done") => {
                if !page_closes {
                    connection.close();
                }
            }
            (Channel::Control, _) => connection.send(Channel::Control, message.bytes).await.unwrap(),
            (Channel::Pieces, bytes) => {
                assert_eq!((bytes.len(), bytes[0] == bytes[65_599]), (65_600, true));
                received += 1;
                if received == 20 {
                    connection.send(Channel::Control, Bytes::from_static(b"taken")).await.unwrap();
                }
            }
        }
    }
    assert_eq!(received, 20);
    sender.unwrap().await.unwrap();
    timeout(PATIENCE, connection.closed()).await.unwrap()
}

async fn send_pieces(connection: Connection) {
    for number in 0..u32::try_from(BYTES.div_ceil(PIECE_BYTES)).unwrap() {
        let piece: Bytes = number
            .to_be_bytes()
            .into_iter()
            .chain((4..PIECE_BYTES).map(|at| u8::try_from((at + number as usize) % 251).unwrap()))
            .collect();
        connection.send(Channel::Pieces, piece).await.unwrap();
    }
}

fn page(listener: &Listener, story: &Story) -> String {
    let address = listener.address();
    let edge = format!(
        r#"{{"ip":"{}","port":{},"ufrag":"{}","password":"{}","fingerprint":"{}"}}"#,
        address.socket.ip(),
        address.socket.port(),
        address.ufrag,
        address.password,
        sdp(address.fingerprint),
    );
    PAGE.replace("__EDGE__", &edge)
        .replace("CONTROL_OPTIONS", story.control)
        .replace("PIECES_OPTIONS", story.pieces)
        .replace("PAGE_CLOSES", &story.page_closes.to_string())
        .replace("ECHOES", &ECHOES.to_string())
        .replace("BYTES", &BYTES.to_string())
}

/// As it stands in an SDP.
fn sdp(fingerprint: Fingerprint) -> String {
    let mut text = String::new();
    for byte in fingerprint.as_bytes() {
        write!(text, "{byte:02X}:").unwrap();
    }
    text.trim_end_matches(':').to_owned()
}

/// Serves the page and waits for what it posts, one `key=value` a line.
async fn serve(web: &TcpListener, page: &str) -> HashMap<String, String> {
    loop {
        let (mut stream, _) = web.accept().await.unwrap();
        let request = request(&mut stream).await;
        let body = if request.starts_with("GET / ") { page } else { "" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        if request.starts_with("POST /result") {
            let (_, said) = request.split_once("\r\n\r\n").unwrap();
            return said
                .lines()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        }
    }
}

/// One request, body included.
async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse::<usize>().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        if timeout(PATIENCE, stream.read_buf(&mut bytes)).await.unwrap().unwrap() == 0 {
            return text;
        }
    }
}

/// A headless browser with a profile of its own, killed when dropped.
struct Chromium {
    child: Child,
    profile: std::path::PathBuf,
}

impl Chromium {
    fn start(url: &str) -> Self {
        let profile = std::env::temp_dir().join(format!(
            "millstream-chromium-{}-{}",
            std::process::id(),
            millstream_datachannel::random_token(8).unwrap().replace(['/', '+'], "_")
        ));
        std::fs::create_dir_all(&profile).unwrap();
        let child = Command::new("/usr/bin/chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs /usr/bin/chromium (Debian: apt install chromium)");
        Self { child, profile }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
