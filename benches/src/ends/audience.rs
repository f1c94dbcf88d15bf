//! Many receivers of a live stream in one process that cost as little as they can: each joins by the tracker, takes what
//! an edge pushes and vouches for it, but verifies nothing. On a machine that both share, what is measured then is the
//! edge. Real viewers, who verify every byte, are `millstream view`.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use millstream_datachannel::{Address, Certificate, Channel, Connection, dial};
use millstream_model::{RenditionId, StreamId};
use millstream_wire::{
    frame::{Frame, PROTOCOL, Subscription},
    media::{Catalog, Media, Record},
    session::{Grant, Hello, Voucher},
    sign::{Context, SessionSecret, Signed, Signer as _},
    tracker::{EdgeOffer, FromViewer, ToViewer, Welcome},
};
use serde_json::json;
use tokio::{
    net::TcpStream,
    task::LocalSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::say;
use crate::figures::quantile;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A grant is renewed at half of its two minutes (`docs/protocol/money.md`).
const RENEW_AFTER: Duration = Duration::from_secs(60);

/// What a receiver vouches for at once is a quarter of the window (`docs/protocol/peer.md`, *Credit*).
const VOUCHERS_A_WINDOW: u64 = 4;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is asked for.
pub(super) struct Show<'a> {
    pub(super) tracker: &'a str,
    pub(super) stream: &'a str,
    pub(super) viewers: u32,
    /// Time over which they come.
    pub(super) spread: Duration,
    /// What passes between when all are there and when parts count.
    pub(super) settle: Duration,
    /// How long parts count.
    pub(super) window: Duration,
}

/// What all receivers count together.
#[derive(Default)]
struct Tally {
    watching: Cell<u32>,
    counts: Cell<bool>,
    /// Milliseconds from a part's last frame until all of it was here.
    delays: RefCell<Vec<f64>>,
    bytes: Cell<u64>,
    missing: Cell<u64>,
}

/// Watches, says when all are there, and what came in the window; fails when one receiver does.
pub(super) async fn watch(show: &Show<'_>) -> anyhow::Result<()> {
    let url = format!("{}/v1/viewer", show.tracker.replacen("http", "ws", 1));
    let stream = StreamId::new(show.stream).context("not a stream's name")?;
    let certificate = Certificate::generate()?;
    let tally = Rc::new(Tally::default());
    let mut receivers = tokio::task::JoinSet::new();
    let local = LocalSet::new();
    for number in 0..show.viewers {
        let after = show.spread * number / show.viewers;
        let receiver = (url.clone(), stream.clone(), certificate.clone(), Rc::clone(&tally));
        let work = async move {
            sleep(after).await;
            let (url, stream, certificate, tally) = receiver;
            Receiver::join(&url, stream, &certificate, number).await?.run(&tally).await
        };
        receivers.spawn_local_on(work, &local);
    }
    let report = async {
        while tally.watching.get() < show.viewers {
            sleep(Duration::from_millis(100)).await;
        }
        say(&json!({ "watching": show.viewers }))?;
        sleep(show.settle).await;
        tally.counts.set(true);
        sleep(show.window).await;
        tally.counts.set(false);
        let delays = tally.delays.borrow();
        let at = |percent| quantile(&delays, percent).context("no part came");
        say(&json!({
            "parts": delays.len(), "bytes": tally.bytes.get(), "missing": tally.missing.get(),
            "p50_ms": at(50)?, "p99_ms": at(99)?, "max_ms": at(100)?,
        }))
    };
    local
        .run_until(async {
            tokio::select! {
                done = report => done,
                Some(ended) = receivers.join_next() => ended?,
            }
        })
        .await
}

struct Receiver {
    tracker: Socket,
    edge: Connection,
    secret: SessionSecret,
    grant: Grant,
    granted: Instant,
    is_renewing: bool,
    window: u64,
    catalog: Option<Catalog>,
    parts: HashMap<(RenditionId, u64), Part>,
    received: u64,
    vouched: u64,
    is_watching: bool,
}

/// What is known of a part that is not whole.
#[derive(Default)]
struct Part {
    arrived: u64,
    record: Option<Record>,
}

impl Receiver {
    /// Joins by the tracker and proves itself to the first edge that it names.
    async fn join(
        url: &str,
        stream: StreamId,
        certificate: &Certificate,
        number: u32,
    ) -> anyhow::Result<Self> {
        // Nobody is kept from anything by these keys: a number each, and 1 because 0 is none.
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let secret = SessionSecret::from_bytes(&seed).context("no key")?;
        let (mut tracker, _) = timeout(PATIENCE, connect_async(url)).await??;
        let welcome = welcomed(&mut tracker, stream, &secret).await?;
        let offer = welcome.edges.into_iter().next().context("no edge was named")?;
        let EdgeOffer { id: edge, address, grant } = offer;
        let address = Address {
            socket: *address.sockets.first().context("an edge without an address")?,
            ufrag: address.ufrag,
            password: address.password,
            fingerprint: address.fingerprint,
        };
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let connection = millstream_datachannel::dial(&address, config).await?;
        let hello = Hello { session: welcome.session, edge, fingerprint: certificate.fingerprint() };
        let hello = Signed::new(hello, Context::None, &secret);
        let receiver = Self {
            tracker,
            edge: connection,
            secret,
            grant: grant.unverified().clone(),
            granted: Instant::now(),
            is_renewing: false,
            window: u64::MAX,
            catalog: None,
            parts: HashMap::new(),
            received: 0,
            vouched: 0,
            is_watching: false,
        };
        receiver.tell(&Frame::Hello { protocol: PROTOCOL, grant, hello }).await?;
        Ok(receiver)
    }

    async fn run(mut self, tally: &Tally) -> anyhow::Result<()> {
        loop {
            let renews = self.granted + RENEW_AFTER;
            tokio::select! {
                message = self.edge.recv() => {
                    let message = message.context("the edge went away")?;
                    if let Some(frame) = Frame::decode(message.bytes)? {
                        self.take(frame, tally).await?;
                    }
                }
                said = hear(&mut self.tracker) => self.told(said?).await?,
                () = sleep_until(renews.into()), if !self.is_renewing => self.renew().await?,
            }
        }
    }

    async fn take(&mut self, frame: Frame, tally: &Tally) -> anyhow::Result<()> {
        match frame {
            Frame::Welcome { window, .. } => self.window = window.into(),
            Frame::Catalog(catalog) => {
                let is_first = self.catalog.is_none();
                let catalog = catalog.unverified().clone();
                for rendition in catalog.renditions.iter().filter(|_| is_first) {
                    let (rendition, want) = (rendition.id, Subscription::Pieces);
                    self.tell(&Frame::Subscribe { rendition, want, from: 0 }).await?;
                }
                self.catalog = Some(catalog);
            }
            Frame::Record(record) => {
                let record = record.unverified().clone();
                let key = (record.rendition, record.number);
                self.parts.entry(key).or_default().record = Some(record);
                self.look_at(key, tally);
            }
            Frame::Piece { rendition, number, data, .. } => {
                let bytes = data.len() as u64;
                self.received += bytes;
                if tally.counts.get() {
                    tally.bytes.set(tally.bytes.get() + bytes);
                }
                self.parts.entry((rendition, number)).or_default().arrived += bytes;
                self.look_at((rendition, number), tally);
                self.vouch(rendition, number).await?;
            }
            Frame::Missing(_) => tally.missing.set(tally.missing.get() + 1),
            Frame::Ping(value) => self.tell(&Frame::Pong(value)).await?,
            Frame::Refuse { reason, text } => bail!("the edge refuses: {reason:?}, {text}"),
            _ => {}
        }
        Ok(())
    }

    /// Counts a part, if it is whole now.
    fn look_at(&mut self, key: (RenditionId, u64), tally: &Tally) {
        let is_whole =
            |part: &Part| part.record.as_ref().is_some_and(|record| u64::from(record.size) == part.arrived);
        let Some(record) =
            self.parts.get(&key).filter(|part| is_whole(part)).and_then(|part| part.record.clone())
        else {
            return;
        };
        // Records are sent again when subscriptions change, and older parts do not come any more.
        self.parts.retain(|(rendition, number), _| *rendition != key.0 || *number > key.1);
        if !std::mem::replace(&mut self.is_watching, true) {
            tally.watching.set(tally.watching.get() + 1);
        }
        let rendition = self.catalog.as_ref().and_then(|catalog| catalog.rendition(key.0));
        let pictures = rendition.filter(|rendition| matches!(rendition.media, Media::Video { .. }));
        if let Some(rendition) = pictures.filter(|_| tally.counts.get()) {
            let length = f64::from(record.duration) * 1e3 / f64::from(rendition.timescale);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
            tally.delays.borrow_mut().push(now - record.program_date_time.0 as f64 - length);
        }
    }

    async fn vouch(&mut self, rendition: RenditionId, number: u64) -> anyhow::Result<()> {
        if self.received - self.vouched < self.window / VOUCHERS_A_WINDOW {
            return Ok(());
        }
        self.vouched = self.received;
        let voucher = Voucher {
            tracker: self.grant.tracker,
            session: self.grant.session,
            edge: self.grant.edge,
            stream: self.grant.stream.clone(),
            payable: self.received,
            received: self.received,
            segments: 1,
            rendition,
            number,
        };
        self.tell(&Frame::Voucher(Signed::new(voucher, Context::None, &self.secret))).await?;
        if !self.is_renewing && self.received > self.grant.cap_bytes / 2 {
            self.renew().await?;
        }
        Ok(())
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        self.is_renewing = true;
        let message = FromViewer::Renew { edge: self.grant.edge };
        Ok(self.tracker.send(Message::text(serde_json::to_string(&message)?)).await?)
    }

    async fn told(&mut self, message: ToViewer) -> anyhow::Result<()> {
        match message {
            ToViewer::Grants { grants, .. } => {
                for grant in grants {
                    (self.grant, self.granted) = (grant.unverified().clone(), Instant::now());
                    self.is_renewing = false;
                    self.tell(&Frame::Grant(grant)).await?;
                }
            }
            ToViewer::Error(fault) => bail!("the tracker refuses: {fault:?}"),
            _ => {}
        }
        Ok(())
    }

    async fn tell(&self, frame: &Frame) -> anyhow::Result<()> {
        Ok(self.edge.send(Channel::Control, frame.encode()).await?)
    }
}

async fn welcomed(tracker: &mut Socket, stream: StreamId, secret: &SessionSecret) -> anyhow::Result<Welcome> {
    let join = FromViewer::Join { stream, key: secret.public(), ticket: None };
    tracker.send(Message::text(serde_json::to_string(&join)?)).await?;
    loop {
        match timeout(PATIENCE, hear(tracker)).await?? {
            ToViewer::Welcome(welcome) => return Ok(*welcome),
            ToViewer::Error(fault) => bail!("the tracker refuses: {fault:?}"),
            _ => {}
        }
    }
}

async fn hear(tracker: &mut Socket) -> anyhow::Result<ToViewer> {
    loop {
        match tracker.next().await.context("the tracker went away")?? {
            Message::Text(text) => return Ok(serde_json::from_str(&text)?),
            Message::Close(_) => bail!("the tracker closed"),
            _ => {}
        }
    }
}
