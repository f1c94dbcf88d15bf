//! A broadcaster's own server that gives tickets to whoever asks: one JWT (RFC 7519) for each session key.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use millstream_model::{PublicKey, base64url};
use millstream_playlist::query;
use millstream_wire::sign::{SecretKey, Signer as _};
use serde_json::{Value, json};

/// Seconds for which a ticket is good.
const LIFE_S: u64 = 200;

/// The server. It is gone with the process.
#[derive(Debug)]
pub struct TicketOffice {
    /// Where tickets are had.
    pub url: String,
    /// The key that signs them.
    pub key: PublicKey,
    given: Arc<AtomicU32>,
}

impl TicketOffice {
    /// Opens one on loopback.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn open() -> anyhow::Result<Self> {
        let secret = SecretKey::from_seed(&[0x71; 32]);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (url, key) = (format!("http://{}/ticket", listener.local_addr()?), secret.public());
        let given = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&given);
        std::thread::spawn(move || {
            for asked in listener.incoming().flatten() {
                // Who hangs up before the answer wants none.
                let _ = answer(asked, &secret, &count);
            }
        });
        Ok(Self { url, key, given })
    }

    /// Tickets given so far.
    #[must_use]
    pub fn given(&self) -> u32 {
        self.given.load(Relaxed)
    }
}

fn answer(mut asked: TcpStream, secret: &SecretKey, given: &AtomicU32) -> std::io::Result<()> {
    let lines: Vec<String> =
        BufReader::new(&asked).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let target = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
    let asked_for = target.split_once('?').map_or("", |(_, query)| query);
    let site = lines.iter().find_map(|line| line.strip_prefix("Origin: ")).unwrap_or("*");
    let text = match (query::value(asked_for, "stream"), query::value(asked_for, "key")) {
        (Some(stream), Some(key)) => ticket(secret, stream, key, given.fetch_add(1, Relaxed)),
        _ => String::new(),
    };
    let status = if text.is_empty() { "400 Bad Request" } else { "200 OK" };
    // The player sends the viewer's cookies along, so the page's site is to be named.
    write!(
        asked,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\
         Access-Control-Allow-Origin: {site}\r\nAccess-Control-Allow-Credentials: true\r\n\r\n{text}",
        text.len()
    )
}

fn ticket(secret: &SecretKey, stream: &str, key: &str, number: u32) -> String {
    let encode = |value: Value| base64url(value.to_string().as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = json!({ "sub": stream, "key": key, "jti": format!("ticket-{number}"), "exp": now + LIFE_S });
    let signed = format!("{}.{}", encode(json!({ "alg": "EdDSA", "typ": "JWT" })), encode(claims));
    format!("{signed}.{}", base64url(&secret.sign(signed.as_bytes())))
}
