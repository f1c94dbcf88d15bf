//! The origin: the packager's HTTP side, the last resort for every byte.
//!
//! LL-HLS for any player and CDN, `/start` for those who verify, feeds for edges. `docs/protocol/media.md` is the
//! normative text; the URLs are `millstream_playlist::path`'s, the playlists `millstream_playlist`'s, the bytes the
//! window's. Here stands who may have them, who has to wait, and what HTTP says about it.

mod access;
mod answer;
mod body;
mod feed;
mod kept;
mod meter;
mod range;

use std::{
    convert::Infallible,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use millstream_model::SessionId;
use millstream_playlist::{
    Path, multivariant, query,
    reload::{Reload, Verdict},
};
use millstream_service::{http as http_service, tasks::Drain};
use millstream_wire::{
    frame::{Frame, write_framed},
    sign::Signed,
};
use tokio::{sync::Semaphore, time::timeout};

use self::{
    access::{Access, Need},
    answer::{Answer, No},
    meter::Meter,
};
pub use self::{body::Body, meter::SessionBytes};
use crate::{
    clock::Clock,
    gate::Gate,
    metrics::Metrics,
    stream::{Asked, Inner, Stream},
    streams::Streams,
    window::Found,
};

/// Target durations after which a request that waits is answered with 503 (RFC 8216bis §6.2.5.2).
const HOLD_TARGETS: u32 = 3;

/// Segments whose records a receiver begins with: the open one, and one to begin with. More where a decoder could not start
/// in these (encoders set a keyframe every eight seconds when nobody told them otherwise), up to some sixteen seconds.
const START_SEGMENTS: RangeInclusive<u64> = 2..=8;

millstream_service::settings! {
    /// The origin: HTTP for players, edges and CDNs.
    pub struct Config {
        /// Address and port; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081)),
        /// Its base URL as viewers and edges reach it. Empty: made of the address.
        pub public_url: String = String::new(),
        /// Sites whose pages may fetch from here, e.g. `https://example.org`. Empty: all.
        pub allow_origins: Vec<String> = Vec::new(),
        /// Requests in hand at most, those that wait among them; more are answered with 503.
        pub requests_max: usize = 8_192,
        /// Requests that wait for what does not exist yet (blocking reloads, hinted parts) at most.
        pub waiters_max: usize = 4_096,
        /// Feeds of one stream at most.
        pub feeds_max: usize = 256,
        /// Bytes that a feed may be behind. Then it skips to the newest segment, and is closed if it stays behind.
        pub feed_behind_bytes_max: u64 = 4 * 1024 * 1024,
        /// Sessions whose bytes are counted one by one; those beyond are counted together.
        pub sessions_max: usize = 16_384,
        /// TLS, when certificate files are named.
        pub tls: http_service::tls::Config = Default::default(),
        /// Bounds on connections.
        pub http: http_service::Limits = Default::default(),
    }
}

/// The origin, as a service for [`http_service::serve`].
#[derive(Clone)]
pub struct Origin {
    desk: Arc<Desk>,
}

/// What all requests share.
struct Desk {
    config: Config,
    streams: Arc<Streams>,
    access: Access,
    meter: Meter,
    metrics: Arc<Metrics>,
    clock: Clock,
    drain: Drain,
    requests: Arc<Semaphore>,
    waiters: Semaphore,
}

impl Origin {
    /// An origin of `streams`.
    #[must_use]
    pub fn new(
        config: Config,
        streams: Arc<Streams>,
        gate: Arc<Gate>,
        metrics: Arc<Metrics>,
        clock: Clock,
        drain: Drain,
    ) -> Self {
        let desk = Desk {
            streams,
            access: Access::new(gate),
            meter: Meter::new(config.sessions_max, clock, Arc::clone(&metrics)),
            metrics,
            clock,
            drain,
            requests: Arc::new(Semaphore::new(config.requests_max)),
            waiters: Semaphore::new(config.waiters_max),
            config,
        };
        Self { desk: Arc::new(desk) }
    }

    /// Requests in hand.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.desk.config.requests_max - self.desk.requests.available_permits()
    }

    /// Those of them that wait.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.desk.config.waiters_max - self.desk.waiters.available_permits()
    }

    /// The sessions that took most, most first.
    #[must_use]
    pub fn sessions(&self, count: usize) -> Vec<SessionBytes> {
        self.desk.meter.sessions(count)
    }
}

impl hyper::service::Service<Request<Incoming>> for Origin {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let desk = Arc::clone(&self.desk);
        // Bodies of requests have no meaning here and are not read.
        let (head, _) = request.into_parts();
        Box::pin(async move { Ok(desk.respond(head).await) })
    }
}

/// One request, understood.
struct Ask<'a> {
    stream: &'a Arc<Stream>,
    query: &'a str,
    headers: &'a HeaderMap,
    session: Option<SessionId>,
}

impl Desk {
    async fn respond(self: Arc<Self>, head: http::request::Parts) -> http::Response<Body> {
        let path = Path::of_url(head.uri.path());
        let resource = path.as_ref().map_or("none", |(_, path)| kind(path));
        let mut answer = match head.method {
            Method::OPTIONS => answer::preflight(),
            Method::GET | Method::HEAD => match path {
                Some((id, path)) => self.find(&id, path, &head).await,
                None => Answer::refuse(StatusCode::NOT_FOUND, "there is nothing at this path\n"),
            },
            _ => answer::only_get(),
        };
        if head.method == Method::HEAD {
            answer.strip();
        }
        let status = answer.status();
        self.metrics.answers.with_label_values(&[resource, status.as_str()]).inc();
        answer.finish(head.headers.get(http::header::ORIGIN), &self.config.allow_origins)
    }

    async fn find(
        self: &Arc<Self>,
        id: &millstream_model::StreamId,
        path: Path<'_>,
        head: &http::request::Parts,
    ) -> Answer {
        let Ok(_permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Answer::busy("too many requests at a time\n");
        };
        let stream = match self.stream(id).await {
            Ok(stream) => stream,
            Err(no) => return no.into(),
        };
        let need = if path == Path::Feed { Need::Feed } else { Need::Media };
        let bearer = match self.access.check(&stream, &head.headers, need) {
            Ok(bearer) => bearer,
            Err(denied) => return Answer::denied(denied),
        };
        let query = head.uri.query().unwrap_or_default();
        let claimed = query::value(query, "session").and_then(|text| text.parse().ok());
        let ask = Ask { stream: &stream, query, headers: &head.headers, session: bearer.or(claimed) };
        let mut answer = match path {
            Path::Multivariant => self.multivariant(&ask).await,
            Path::Media { rendition } => self.media(&ask, rendition).await,
            Path::Init { rendition, generation, version } => init(&ask, rendition, generation, version),
            Path::Segment { rendition, segment } => self.segment(&ask, rendition, segment).await,
            Path::Part { rendition, number } => self.part(&ask, rendition, number).await,
            Path::Start => self.start(&ask).await,
            Path::Records => self.records(&ask).await,
            Path::Feed => self.feed(&ask).await,
        };
        if !stream.look(|inner| inner.permission.public) {
            answer.keep_private();
        }
        let tally = self.meter.open(kind(&path), &stream, ask.session, path == Path::Feed);
        answer.count(tally);
        answer
    }

    async fn multivariant(&self, ask: &Ask<'_>) -> Answer {
        let text = self.hold(ask.stream, |inner| match inner.window.newest_catalog() {
            Some(catalog) => Some(Ok(multivariant(catalog.unverified()))),
            None => nothing_yet(inner),
        });
        match text.await {
            Ok(text) => Answer::playlist(text.into(), false),
            Err(no) => no.into(),
        }
    }

    async fn media(&self, ask: &Ask<'_>, name: &str) -> Answer {
        let Ok(reload) = Reload::of_query(ask.query) else {
            return Answer::refuse(
                StatusCode::BAD_REQUEST,
                "_HLS_msn and _HLS_part are numbers, and go together\n",
            );
        };
        let found = self.hold(ask.stream, |inner| {
            let window = &inner.window;
            let Some(rendition) = window.named(name) else {
                return match window.newest_catalog() {
                    Some(_) => Some(Err(No(StatusCode::NOT_FOUND, "no such rendition\n"))),
                    None => nothing_yet(inner),
                };
            };
            let head = window.head(rendition);
            let verdict = match (reload, head) {
                (None, Some(_)) => Verdict::Ready,
                (None, None) if window.has_ended() => Verdict::Ready,
                (None, None) => Verdict::Wait,
                (Some(reload), head) => {
                    let catalog = window.newest_catalog().map(Signed::unverified);
                    let described = catalog.and_then(|catalog| catalog.rendition(rendition));
                    let part_target_ms = described.map_or(0, |rendition| rendition.part_target_ms);
                    reload.judge(head, part_target_ms, window.has_ended())
                }
            };
            match verdict {
                Verdict::Ready => Some(Ok(rendition)),
                Verdict::Wait => None,
                Verdict::Absurd => {
                    Some(Err(No(StatusCode::BAD_REQUEST, "that far ahead there is nothing\n")))
                }
            }
        });
        let rendition = match found.await {
            Ok(rendition) => rendition,
            Err(no) => return no.into(),
        };
        // `v2` may leave out date ranges, too; there are none.
        let delta = matches!(query::value(ask.query, "_HLS_skip"), Some("YES" | "v2"));
        match ask.stream.playlist(rendition, Asked { low_latency: true, delta }) {
            Some(text) => Answer::playlist(text, reload.is_some()),
            None => Answer::refuse(StatusCode::NOT_FOUND, "this rendition has no media\n"),
        }
    }

    async fn part(&self, ask: &Ask<'_>, name: &str, number: u64) -> Answer {
        let found = self.hold(ask.stream, |inner| {
            let window = &inner.window;
            let part = window.named(name).map_or(Found::Unknown, |rendition| window.part(rendition, number));
            match part {
                Found::Here(held) => Some(Ok(held.data.clone())),
                Found::Next => None,
                Found::Gone => Some(Err(No(StatusCode::GONE, "this part is no longer here\n"))),
                Found::Unknown => Some(Err(No(StatusCode::NOT_FOUND, "no such part\n"))),
            }
        });
        match found.await {
            Ok(data) => Answer::bytes(vec![data], media_type(name)).ranged(ask.headers),
            Err(no) => no.into(),
        }
    }

    async fn start(&self, ask: &Ask<'_>) -> Answer {
        let found = self.hold(ask.stream, |inner| {
            let records = inner.window.newest_records(None, START_SEGMENTS);
            if records.is_empty() {
                return nothing_yet(inner);
            }
            Some(Ok(frames(inner, &records)))
        });
        match found.await {
            Ok(frames) => Answer::frames(Body::from(frames)),
            Err(no) => no.into(),
        }
    }

    /// For viewers that no edge brings records to: waits until there is one, as a playlist's blocking reload does.
    async fn records(&self, ask: &Ask<'_>) -> Answer {
        let Some(name) = query::value(ask.query, "rendition") else {
            return Answer::refuse(
                StatusCode::BAD_REQUEST,
                "records are of one rendition: ?rendition=NAME\n",
            );
        };
        let Ok(from) = query::number(ask.query, "from") else {
            return Answer::refuse(StatusCode::BAD_REQUEST, "`from` is a record's number\n");
        };
        let found = self.hold(ask.stream, |inner| {
            let window = &inner.window;
            let Some(rendition) = window.named(name) else {
                return match window.newest_catalog() {
                    Some(_) => Some(Err(No(StatusCode::NOT_FOUND, "no such rendition\n"))),
                    None => nothing_yet(inner),
                };
            };
            let records = match from {
                Some(from) if from > 0 => window.records_from(rendition, from),
                _ => window.newest_records(Some(rendition), START_SEGMENTS),
            };
            let there = !records.is_empty() || window.has_ended();
            there.then(|| Ok(frames(inner, &records)))
        });
        match found.await {
            Ok(frames) => Answer::frames(Body::from(frames)),
            Err(no) => no.into(),
        }
    }

    async fn feed(&self, ask: &Ask<'_>) -> Answer {
        let Some(name) = query::value(ask.query, "rendition") else {
            return Answer::refuse(StatusCode::BAD_REQUEST, "a feed is of one rendition: ?rendition=NAME\n");
        };
        let Ok(from) = query::number(ask.query, "from") else {
            return Answer::refuse(StatusCode::BAD_REQUEST, "`from` is a record's number\n");
        };
        let found = self.hold(ask.stream, |inner| match inner.window.named(name) {
            Some(rendition) => Some(Ok(rendition)),
            None if inner.window.newest_catalog().is_none() => nothing_yet(inner),
            None => Some(Err(No(StatusCode::NOT_FOUND, "no such rendition\n"))),
        });
        let rendition = match found.await {
            Ok(rendition) => rendition,
            Err(no) => return no.into(),
        };
        let Some(seat) = feed::Seat::take(ask.stream, self.config.feeds_max) else {
            return Answer::busy("this stream has as many feeds as it may\n");
        };
        let feed = feed::Feed::new(
            seat,
            rendition,
            from.unwrap_or(0),
            self.config.feed_behind_bytes_max,
            self.clock,
            self.drain.clone(),
            Arc::clone(&self.metrics),
        );
        Answer::frames(feed.into_body())
    }

    /// Looks until there is an answer, within the time and the number of those that may wait.
    async fn hold<T>(
        &self,
        stream: &Stream,
        mut look: impl FnMut(&Inner) -> Option<Result<T, No>>,
    ) -> Result<T, No> {
        if let Some(found) = stream.look(&mut look) {
            return found;
        }
        let Ok(_place) = self.waiters.try_acquire() else {
            return Err(No(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already\n"));
        };
        let patience = Duration::from_millis(u64::from(stream.look(target_duration_ms))) * HOLD_TARGETS;
        tokio::select! {
            found = timeout(patience, stream.wait(look)) => {
                found.unwrap_or_else(|_| Err(No(StatusCode::SERVICE_UNAVAILABLE, "it did not come in time\n")))
            }
            () = self.drain.begun() => Err(No(StatusCode::SERVICE_UNAVAILABLE, "going down\n")),
        }
    }
}

/// Records with everything that is needed to believe them.
fn frames(inner: &Inner, records: &[&Signed<millstream_wire::media::Record>]) -> Bytes {
    let mut body = BytesMut::new();
    write_framed(&Frame::Delegation(inner.permission.delegation.clone()).encode(), &mut body);
    for catalog in inner.catalogs_in_force() {
        write_framed(&Frame::Catalog(catalog.clone()).encode(), &mut body);
    }
    for record in records {
        write_framed(&Frame::Record((*record).clone()).encode(), &mut body);
    }
    body.freeze()
}

/// Waits for a stream that begins; says no for one that is over.
fn nothing_yet<T>(inner: &Inner) -> Option<Result<T, No>> {
    if inner.is_recorded() {
        return Some(Err(No(
            StatusCode::NOT_FOUND,
            "the show is over: its playlists and segments are here\n",
        )));
    }
    let over = inner.state == millstream_wire::tracker::State::Ended;
    over.then(|| Err(No(StatusCode::NOT_FOUND, "the stream ended before it had media\n")))
}

fn init(ask: &Ask<'_>, name: &str, generation: u32, version: u32) -> Answer {
    let found = ask.stream.look(|inner| {
        let recorded = || inner.show.as_ref()?.init(name, generation, version);
        inner.window.init(name, generation, version).or_else(recorded)
    });
    match found {
        Some(init) => Answer::bytes(vec![init], media_type(name)).ranged(ask.headers),
        None => Answer::refuse(StatusCode::NOT_FOUND, "no such init segment\n"),
    }
}

fn target_duration_ms(inner: &Inner) -> u32 {
    let catalog = inner.window.newest_catalog().map(Signed::unverified);
    let first = catalog.and_then(|catalog| catalog.renditions.first());
    first.map_or(millstream_segmenter::TARGET_DURATION_MS, |rendition| rendition.target_duration_ms)
}

/// By the rendition's name: the packager gives `audio` to sound and `video` to pictures.
fn media_type(rendition: &str) -> &'static str {
    if rendition.starts_with("audio") { "audio/mp4" } else { "video/mp4" }
}

const fn kind(path: &Path<'_>) -> &'static str {
    match path {
        Path::Multivariant | Path::Media { .. } => "playlist",
        Path::Init { .. } => "init",
        Path::Segment { .. } => "segment",
        Path::Part { .. } => "part",
        Path::Start => "start",
        Path::Records => "records",
        Path::Feed => "feed",
    }
}

#[cfg(test)]
mod tests;
