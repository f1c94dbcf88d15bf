//! The link to the tracker: registers by proof, tells how it goes, asks for streams, brings vouchers.
//!
//! One task keeps it, for as long as the edge lives: while the tracker is out of reach everything else goes on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use millstream_lane::Reach;
use millstream_model::{BitRate, StreamId, TrackerId};
use millstream_service::{Trust, tasks::Drain, trust};
use millstream_wire::{
    session::{Receipt, Registration},
    sign::{Context, Signed, Signer as _},
    tracker::{Challenge, EdgeAddress, FromEdge, MESSAGE_BYTES_MAX, ToEdge},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, Utf8Bytes, protocol::WebSocketConfig},
};

use crate::{edge::Shared, identity, nat, store::Source};

/// A tracker that does not get through its handshake in this time is tried again.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A message that the tracker does not take in this time means that it is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the link is tried when nothing is said.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Silence after which the tracker counts as gone: two pings were not answered.
const SILENCE: Duration = Duration::from_secs(40);

/// Waits between attempts to reach the tracker: doubles from the first to the last, with jitter.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How often vouchers that are due are looked for.
const BRING_EVERY: Duration = Duration::from_secs(1);

/// Bounds on how often the tracker may want a status.
const STATUS_MS: std::ops::RangeInclusive<u32> = 500..=60_000;

/// The longest wait that a tracker can ask for.
const RETRY_MS_MAX: u32 = 60_000;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How a connection to the tracker ended.
enum End {
    /// It was lost.
    Lost,
    /// The tracker asks to come back after this time.
    ComeBack(Duration),
    /// The edge stops, and everything is said.
    Done,
}

/// Keeps the link until the edge has stopped.
pub(crate) async fn keep(shared: Arc<Shared>, mut wanted: mpsc::Receiver<StreamId>, drain: Drain) {
    let mut wait = RECONNECT.0;
    loop {
        let (end, was_up) = {
            let mut link = Link { shared: &shared, was_up: false };
            let end = match link.talk(&mut wanted, &drain).await {
                Ok(end) => end,
                Err(error) => {
                    let url = &shared.config.tracker;
                    if link.was_up {
                        tracing::warn!(%url, "tracker lost: {error:#}");
                    } else {
                        tracing::info!(%url, "no tracker: {error:#}");
                    }
                    End::Lost
                }
            };
            (end, link.was_up)
        };
        shared.reach.send_if_modified(|reach| std::mem::replace(reach, Reach::Out) != Reach::Out);
        shared.gate.close("not registered with the tracker");
        shared.metrics.tracker_connected.set(0);
        if was_up {
            wait = RECONNECT.0;
        }
        let pause = match end {
            End::Done => return,
            End::ComeBack(after) => after + crate::spread(RECONNECT.0),
            End::Lost => crate::spread(wait),
        };
        wait = (wait * 2).min(RECONNECT.1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // There is nothing to bring, or nobody to bring it to: it is on disk.
            () = shared.emptied.notified() => return,
        }
    }
}

struct Link<'a> {
    shared: &'a Arc<Shared>,
    was_up: bool,
}

impl Link<'_> {
    async fn talk(&mut self, wanted: &mut mpsc::Receiver<StreamId>, drain: &Drain) -> anyhow::Result<End> {
        let shared = self.shared;
        let mut address = shared.nat.address.subscribe();
        let (mut socket, status_every) = tokio::select! {
            registered = timeout(HANDSHAKE_TIMEOUT, self.register(&mut address)) => registered.context("no answer")??,
            () = shared.emptied.notified() => return Ok(End::Done),
        };
        self.was_up = true;
        let mut status = tokio::time::interval(status_every);
        let mut bring = tokio::time::interval(BRING_EVERY);
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.reset();
        let mut heard = Instant::now();
        let mut sent = (shared.metrics.sent_bytes.get(), Instant::now());
        let mut draining = false;
        loop {
            tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    match message.context("closed by the tracker")?? {
                        Message::Text(text) => {
                            if let Some(end) = self.hear(&text)? {
                                return Ok(end);
                            }
                        }
                        Message::Close(_) => bail!("closed by the tracker"),
                        _ => {}
                    }
                }
                Some(stream) = wanted.recv() => {
                    say(&mut socket, &FromEdge::Lookup { stream }).await?;
                }
                Ok(()) = address.changed() => {
                    let address = address.borrow_and_update().clone();
                    say(&mut socket, &FromEdge::Address { address }).await?;
                }
                _ = status.tick() => {
                    let message = shared.status(&mut sent);
                    say(&mut socket, &message).await?;
                }
                _ = bring.tick() => self.bring(&mut socket).await?,
                () = shared.bring.notified() => self.bring(&mut socket).await?,
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        bail!("silent for {} s", heard.elapsed().as_secs());
                    }
                    put(&mut socket, Message::Ping(bytes::Bytes::new())).await?;
                }
                () = drain.begun(), if !draining => {
                    draining = true;
                    say(&mut socket, &FromEdge::Drain).await?;
                }
                () = shared.emptied.notified() => {
                    self.farewell(&mut socket).await?;
                    return Ok(End::Done);
                }
            }
        }
    }

    async fn register(
        &mut self,
        address: &mut watch::Receiver<EdgeAddress>,
    ) -> anyhow::Result<(Socket, Duration)> {
        let shared = self.shared;
        let mut socket = connect(&shared.config.tracker, &shared.trust).await?;
        let challenge = match next(&mut socket).await? {
            ToEdge::Challenge(challenge) => challenge,
            other => bail!("it began with {other:?}"),
        };
        let Challenge { nonce, tracker, time } = challenge;
        if shared.config.tracker_key.is_some_and(|pinned| pinned != tracker) {
            bail!("its key is {tracker}, and not the one that `tracker_key` names");
        }
        shared.clock.set(time);
        let key = &shared.identity.key;
        let address = address.borrow_and_update().clone();
        let proof =
            Registration { tracker, nonce: nonce.0, edge: key.public(), fingerprint: address.fingerprint };
        let register = FromEdge::Register {
            proof: Signed::new(proof, Context::None, key),
            address,
            capacity: BitRate(shared.config.capacity),
            viewers_max: shared.config.viewers_max,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        say(&mut socket, &register).await?;
        let (status_ms, stun) = match next(&mut socket).await? {
            ToEdge::Registered { edge, tracker: named, time, status_ms, stun }
                if named == tracker && edge == key.public() =>
            {
                shared.clock.set(time);
                (status_ms, stun)
            }
            ToEdge::Error(fault) => bail!("it refuses: {}", fault.message),
            other => bail!("it answered {other:?}"),
        };
        self.registered(tracker);
        shared.nat.name(stun);
        let status_ms = status_ms.clamp(*STATUS_MS.start(), *STATUS_MS.end());
        Ok((socket, Duration::from_millis(u64::from(status_ms))))
    }

    fn registered(&self, tracker: TrackerId) {
        let shared = self.shared;
        tracing::info!(url = %shared.config.tracker, %tracker, "registered with the tracker");
        if let Err(error) = identity::keep_tracker(&shared.folder, tracker) {
            tracing::warn!("the tracker's key cannot be kept: {error:#}");
        }
        shared.tracker.send_replace(Some(tracker));
        shared.reach.send_replace(Reach::Since(shared.clock.now()));
        shared.gate.open();
        shared.metrics.tracker_connected.set(1);
        shared.ledger.book().reconnected();
    }

    fn hear(&mut self, text: &str) -> anyhow::Result<Option<End>> {
        let shared = self.shared;
        // One that we do not know is of a newer tracker.
        let Ok(message) = serde_json::from_str(text) else {
            tracing::debug!("the tracker said something unknown");
            return Ok(None);
        };
        match message {
            ToEdge::Stream { stream, root, origin, token } => {
                shared.store.found(&stream, Some(Source { root, origin, token }));
            }
            ToEdge::NoStream { stream, code, message } => {
                tracing::debug!(%stream, ?code, "no such stream: {message}");
                shared.store.found(&stream, None);
            }
            ToEdge::Receipt { receipt } => self.receipt(&receipt),
            ToEdge::Rejected { session, reason, retry: true } => {
                tracing::debug!(%session, reason, "voucher not accepted yet");
            }
            ToEdge::Rejected { session, reason, retry: false } => {
                tracing::info!(%session, reason, "voucher not accepted");
                shared.metrics.vouchers_rejected.inc();
                shared.ledger.book().rejected(session, &reason, shared.clock.wall());
            }
            ToEdge::Goaway { retry_ms } => {
                tracing::info!(retry_ms, "the tracker asks to come back later");
                let after = Duration::from_millis(u64::from(retry_ms.min(RETRY_MS_MAX)));
                return Ok(Some(End::ComeBack(after)));
            }
            ToEdge::Error(fault) => {
                tracing::warn!(code = ?fault.code, "the tracker refuses: {}", fault.message);
            }
            ToEdge::Challenge(_) | ToEdge::Registered { .. } => bail!("it speaks out of turn"),
            ToEdge::Signal(signal) => nat::hear(shared, &signal),
        }
        Ok(None)
    }

    fn receipt(&self, receipt: &Signed<Receipt>) {
        let shared = self.shared;
        let Some(tracker) = *shared.tracker.borrow() else { return };
        let Ok(said) = receipt.verify(&tracker, Context::None) else {
            return tracing::warn!("a receipt that the tracker did not sign");
        };
        if said.edge == shared.identity.key.public() {
            shared.metrics.receipts.inc();
            shared.ledger.book().receipt(said);
        }
    }

    async fn bring(&self, socket: &mut Socket) -> anyhow::Result<()> {
        let due = self.shared.ledger.book().due(self.shared.clock.now());
        for voucher in due {
            say(socket, &FromEdge::Voucher { voucher }).await?;
        }
        Ok(())
    }

    /// Brings what the viewers vouched for at the very end, and waits a moment for the receipts.
    async fn farewell(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        self.shared.ledger.book().reconnected();
        self.bring(socket).await?;
        let receipts = async {
            while self.shared.ledger.book().open().0 > 0 {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        self.hear(&text)?;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            anyhow::Ok(())
        };
        let _ = timeout(FAREWELL, receipts).await;
        let _ = timeout(FAREWELL, socket.close(None)).await;
        Ok(())
    }
}

/// How long a stopping edge waits for the last receipts: a commit of the tracker, and a round trip.
const FAREWELL: Duration = Duration::from_secs(2);

async fn connect(tracker: &str, trust: &Trust) -> anyhow::Result<Socket> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(16 * 1024);
    let url = url(tracker)?;
    let tls = Connector::Rustls(trust.socket());
    let connected =
        tokio_tungstenite::connect_async_tls_with_config(url, Some(limits), true, Some(tls)).await;
    let (socket, _) = connected.map_err(|error| anyhow::anyhow!(trust::explain(&error)))?;
    Ok(socket)
}

/// `http://host` and `ws://host` mean the same tracker.
pub(crate) fn url(tracker: &str) -> anyhow::Result<String> {
    let (scheme, rest) = tracker.split_once("://").context("`tracker` begins with https:// or http://")?;
    let scheme = match scheme {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        other => bail!("`tracker` begins with {other}://; https:// or http:// would be right"),
    };
    Ok(format!("{scheme}://{}/v1/edge", rest.trim_end_matches('/')))
}

/// The address of this machine that packets to the tracker leave from: what viewers in the same network reach.
pub(crate) async fn own_address(tracker: &str, listen: SocketAddr) -> anyhow::Result<std::net::IpAddr> {
    let url = url(tracker)?;
    let uri: tokio_tungstenite::tungstenite::http::Uri = url.parse()?;
    let host = uri.host().context("`tracker` names no host")?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let towards = tokio::net::lookup_host((host, port)).await?;
    let towards = towards.filter(|address| address.is_ipv4() == listen.is_ipv4() || listen.is_ipv6());
    for address in towards {
        // Connecting a UDP socket sends nothing; it asks the system which way it would go.
        let socket = tokio::net::UdpSocket::bind((listen.ip(), 0)).await?;
        if socket.connect(address).await.is_ok() {
            return Ok(socket.local_addr()?.ip());
        }
    }
    bail!("no way to {host}")
}

async fn next(socket: &mut Socket) -> anyhow::Result<ToEdge> {
    loop {
        match socket.next().await.context("closed by the tracker")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Close(_) => bail!("closed by the tracker"),
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, message: &FromEdge) -> anyhow::Result<()> {
    let text = Utf8Bytes::from(serde_json::to_string(message)?);
    put(socket, Message::Text(text)).await
}

async fn put(socket: &mut Socket, message: Message) -> anyhow::Result<()> {
    Ok(timeout(SEND_TIMEOUT, socket.send(message)).await.context("it takes no more messages")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trackers_url_is_taken_in_any_scheme_and_a_wrong_one_is_explained() {
        assert_eq!(url("http://localhost:8080/").unwrap(), "ws://localhost:8080/v1/edge");
        assert_eq!(url("https://t.example").unwrap(), "wss://t.example/v1/edge");
        let error = url("ftp://t.example").unwrap_err().to_string();
        assert!(error.contains("https:// or http:// would be right"), "{error}");
        assert!(url("t.example").is_err());
    }

    #[tokio::test]
    async fn an_edge_that_listens_everywhere_is_reached_where_it_reaches_its_tracker_from() {
        let any = SocketAddr::from(([0, 0, 0, 0], 4443));
        let own = own_address("http://127.0.0.1:8080", any).await.unwrap();
        assert_eq!(own, std::net::IpAddr::from([127, 0, 0, 1]));
    }
}
