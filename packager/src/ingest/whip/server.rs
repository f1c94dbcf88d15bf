//! HTTP for publishers: a key and an offer in, an answer out; and who is there.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use millstream_rtmp::StreamKey;
use millstream_service::{Spawner, Tasks, exit, http as http_service};
use tokio::{net::UdpSocket, sync::Notify, time::timeout};
use tracing::{Instrument as _, debug, debug_span, info};

use super::{
    Config,
    answer::{self, Answer},
    peer::{self, Peer},
    router::Router,
    session::Session,
};
use crate::ingest::{Gate, Gone, Reception, reception::Source, seat::Seats};

/// Bytes of an offer at most. Browsers send 8 KiB; with every codec there is and many interfaces twice that.
const OFFER_BYTES_MAX: usize = 64 * 1024;

/// Time for an offer to arrive.
const OFFER_PATIENCE: Duration = Duration::from_secs(10);

/// Random bytes of a session's id: who knows it may end the session.
const ID_BYTES: usize = 16;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Publishers, and offers that are not answered yet.
    pub connections: usize,
    /// Those of them whose key was not found good yet.
    pub waiting: usize,
    /// Offers refused because there was no seat, ever.
    pub turned_away: u64,
}

/// A WHIP endpoint. Dropping it ends all its publishers.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    media_addr: SocketAddr,
    seats: Seats,
    turned_away: Arc<AtomicU64>,
    tasks: Tasks,
}

impl Server {
    /// Listens, and brings publishers to `reception`.
    ///
    /// # Errors
    /// When an address cannot be listened on, or the certificate is not usable.
    pub async fn bind<G: Gate>(config: Config, reception: Arc<Reception<G>>) -> anyhow::Result<Self> {
        let tls = &config.tls;
        let tls = if tls.certificate.as_os_str().is_empty() && tls.key.as_os_str().is_empty() {
            None
        } else {
            Some(http_service::Tls::load(tls)?)
        };
        let listener = http_service::bind(config.listen).await?;
        let router = Router::bind(config.media).map_err(|error| exit::cannot_listen(config.media, &error))?;
        let (local_addr, media_addr) = (listener.local_addr()?, router.local_addr()?);
        let seats = Seats::new(config.seats());
        let tasks = Tasks::new();
        let turned_away = Arc::new(AtomicU64::new(0));
        let limits = config.http.clone();
        // To the end: sessions say goodbye through its socket, which they hold; nothing waits for it.
        tasks.spawn_until_drain("whip media", router.clone().run());
        let desk = Desk {
            config,
            reception,
            router,
            media_addr,
            seats: seats.clone(),
            turned_away: Arc::clone(&turned_away),
            sessions: Sessions::default(),
            spawner: tasks.spawner(),
        };
        http_service::serve(listener, tls, &limits, Service(Arc::new(desk)), &tasks);
        info!(listen = %local_addr, media = %media_addr, "whip ingest listens");
        Ok(Self { local_addr, media_addr, seats, turned_away, tasks })
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for media (UDP).
    #[must_use]
    pub fn media_addr(&self) -> SocketAddr {
        self.media_addr
    }

    /// What is going on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (connections, waiting) = self.seats.counts();
        Counts { connections, waiting, turned_away: self.turned_away.load(Relaxed) }
    }

    /// Takes nobody new, tells all publishers that it stops, and waits for their tasks up to `grace`.
    pub async fn shutdown(self, grace: Duration) -> Vec<String> {
        self.tasks.shutdown(grace).await
    }
}

/// Sessions by id, and how each is told that its publisher ended it.
#[derive(Debug, Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, Arc<Notify>>>>);

/// A session's entry; taken out when dropped.
struct Entry {
    sessions: Sessions,
    id: String,
}

impl Sessions {
    fn enter(&self, id: &str, end: Arc<Notify>) -> Entry {
        self.all().insert(id.to_owned(), end);
        Entry { sessions: self.clone(), id: id.to_owned() }
    }

    /// Whether there was one to end.
    fn end(&self, id: &str) -> bool {
        let found = self.all().remove(id);
        found.inspect(|end| end.notify_one()).is_some()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.all().remove(&self.id);
    }
}

struct Desk<G> {
    config: Config,
    reception: Arc<Reception<G>>,
    router: Router,
    media_addr: SocketAddr,
    seats: Seats,
    turned_away: Arc<AtomicU64>,
    sessions: Sessions,
    spawner: Spawner,
}

struct Service<G>(Arc<Desk<G>>);

impl<G> Clone for Service<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G: Gate> hyper::service::Service<Request<Incoming>> for Service<G> {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let desk = Arc::clone(&self.0);
        Box::pin(async move { Ok(desk.respond(request).await) })
    }
}

impl<G: Gate> Desk<G> {
    async fn respond(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().trim_end_matches('/');
        let session = match path.strip_prefix("/whip") {
            Some("") => None,
            Some(rest) if rest.starts_with('/') => rest.get(1..).map(str::to_owned),
            _ => return answer::refuse(StatusCode::NOT_FOUND, "POST an offer to /whip"),
        };
        match (request.method(), session) {
            (&Method::OPTIONS, session) => answer::preflight(session.is_some()),
            (&Method::POST, None) => self.publish(request).await.unwrap_or_else(|refusal| refusal),
            (&Method::DELETE, Some(id)) => {
                if self.sessions.end(&id) {
                    answer::ended()
                } else {
                    answer::refuse(StatusCode::NOT_FOUND, "no such session, or it is over")
                }
            }
            (_, session) => answer::other_method(session.is_some()),
        }
    }

    async fn publish(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<http_service::Peer>().map(|peer| peer.address);
        let from = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let key = key(&head.headers).map_err(|text| answer::refuse(StatusCode::UNAUTHORIZED, text))?;
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if kind != Some(answer::SDP) {
            return Err(answer::refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an offer is application/sdp"));
        }
        let mut seat = self.seats.take(from.ip()).map_err(|full| {
            self.turned_away.fetch_add(1, Relaxed);
            debug!(peer = %from, limit = full.0, "no seat");
            answer::refuse(StatusCode::SERVICE_UNAVAILABLE, "too many publishers at a time")
        })?;
        let offer = timeout(OFFER_PATIENCE, Limited::new(body, OFFER_BYTES_MAX).collect()).await;
        let offer = match offer {
            Ok(Ok(offer)) => offer.to_bytes(),
            Ok(Err(_)) => {
                let text = format!("an offer has {OFFER_BYTES_MAX} bytes at most");
                return Err(answer::refuse(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
            Err(_) => return Err(answer::refuse(StatusCode::REQUEST_TIMEOUT, "the offer did not come")),
        };
        let drain = self.spawner.drain();
        let source = Source::Whip(from);
        let seated = self.reception.admit(&key, source, self.config.terms(), &drain).await;
        // Why it may not is for people to read: a wrong key, or a key that is in use, or nobody who can say.
        let seated = seated.map_err(|refusal| {
            let status = if refusal.is_key { StatusCode::UNAUTHORIZED } else { StatusCode::CONFLICT };
            answer::refuse(status, refusal.reason)
        })?;
        seat.admitted();
        let made = match std::str::from_utf8(&offer) {
            Ok(offer) => Peer::accept(offer, self.local(from.ip()).await, Instant::now()),
            Err(_) => Err(peer::Error::Offer(String::from("it is not text"))),
        };
        let (peer, sdp) = match made {
            Ok(made) => made,
            Err(error) => {
                let status = match error {
                    peer::Error::Offer(_) => StatusCode::BAD_REQUEST,
                    peer::Error::Codecs | peer::Error::Video => StatusCode::UNPROCESSABLE_ENTITY,
                    peer::Error::Ours(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                let text = error.to_string();
                seated.end(Gone::Broken(text.clone()));
                return Err(answer::refuse(status, text));
            }
        };
        let Ok(id) = id() else {
            seated.end(Gone::Stopped);
            return Err(answer::refuse(StatusCode::INTERNAL_SERVER_ERROR, "no randomness"));
        };
        let end = Arc::new(Notify::new());
        let entry = self.sessions.enter(&id, Arc::clone(&end));
        let line = self.router.open(&peer.name);
        let session = Session { peer, line, seated, seat, config: self.config.clone(), end };
        let work = async move {
            session.run(drain).await;
            drop(entry);
        };
        self.spawner.spawn("whip publisher", work.instrument(debug_span!("ingest", peer = %from)));
        Ok(answer::created(&id, sdp))
    }

    /// Where a publisher at `theirs` reaches the UDP port.
    async fn local(&self, theirs: IpAddr) -> Vec<SocketAddr> {
        let port = self.media_addr.port();
        if !self.config.public_addresses.is_empty() {
            return self.config.public_addresses.iter().map(|&ip| SocketAddr::from((ip, port))).collect();
        }
        let own = self.media_addr.ip();
        let ip =
            if own.is_unspecified() { route_to(theirs.to_canonical()).await.unwrap_or(own) } else { own };
        vec![SocketAddr::from((ip, port))]
    }
}

/// The address that this machine has towards `theirs`. Nothing is sent.
async fn route_to(theirs: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if theirs.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Any port: a route goes by address.
    socket.connect((theirs, 9)).await?;
    Ok(socket.local_addr()?.ip())
}

/// The stream key, which is the bearer token (RFC 6750 §2.1).
fn key(headers: &HeaderMap) -> Result<StreamKey, String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()));
    let missing = "the stream key is wanted as bearer token: \"Authorization: Bearer <stream key>\"";
    StreamKey::parse(token.ok_or(missing)?).map_err(|error| error.to_string())
}

fn id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
