//! An origin: `/start` and `/feed` over real HTTP, from a broadcast that the test publishes part by part.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, StatusCode, body::Frame as BodyFrame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use millstream_model::RenditionId;
use millstream_playlist::{Path, query};
use millstream_wire::frame::{Frame, write_framed};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::broadcast::{AUDIO, Broadcast, VIDEO};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A part with its frames, ready to be sent.
#[derive(Clone)]
struct Published {
    rendition: RenditionId,
    number: u64,
    first: bool,
    frames: Bytes,
}

#[derive(Default)]
struct State {
    parts: Vec<Published>,
    /// Feeds that began before this was counted up are cut.
    cut: u64,
}

pub(crate) struct Origin {
    pub(crate) broadcast: Mutex<Broadcast>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// Feeds asked for so far.
    pub(crate) feeds: AtomicUsize,
    pub(crate) descriptions: AtomicUsize,
    /// Bytes of feeds handed to the network so far.
    pub(crate) bytes: AtomicU64,
    pub(crate) tokens: Mutex<Vec<String>>,
    pub(crate) address: SocketAddr,
}

impl Origin {
    pub(crate) async fn start(tasks: &mut JoinSet<()>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = Arc::new(Self {
            broadcast: Mutex::new(Broadcast::new("demo")),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            feeds: AtomicUsize::new(0),
            descriptions: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            tokens: Mutex::default(),
            address: listener.local_addr().expect("bound"),
        });
        let served = Arc::clone(&origin);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let origin = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let origin = Arc::clone(&origin);
                        async move { Ok::<_, Infallible>(origin.answer(&request)) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        origin
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes the next part; gives its number.
    pub(crate) fn publish(&self, rendition: RenditionId, size: u32) -> u64 {
        self.publish_as(rendition, size, |_| {})
    }

    /// Publishes a part whose pieces were changed after they were signed.
    pub(crate) fn publish_as(
        &self,
        rendition: RenditionId,
        size: u32,
        change: impl FnOnce(&mut Vec<Frame>),
    ) -> u64 {
        let (record, mut pieces) = self.broadcast.lock().expect("sound").part(rendition, size);
        change(&mut pieces);
        let Frame::Record(signed) = &record else { unreachable!() };
        let (number, first) = (signed.unverified().number, signed.unverified().first);
        let mut frames = BytesMut::new();
        for frame in std::iter::once(&record).chain(&pieces) {
            write_framed(&frame.encode(), &mut frames);
        }
        let published = Published { rendition, number, first, frames: frames.freeze() };
        self.state.lock().expect("sound").parts.push(published);
        self.changes.send_modify(|count| *count += 1);
        number
    }

    /// Takes a part back as if it had been another one: the feed's next answer has `size` good bytes.
    pub(crate) fn mend(&self, number: u64, frames: &[Frame]) {
        let mut state = self.state.lock().expect("sound");
        let part = state.parts.iter_mut().find(|part| part.number == number).expect("published");
        let mut body = BytesMut::new();
        for frame in frames {
            write_framed(&frame.encode(), &mut body);
        }
        part.frames = body.freeze();
    }

    /// Ends all feeds.
    pub(crate) fn cut(&self) {
        self.state.lock().expect("sound").cut += 1;
        self.changes.send_modify(|count| *count += 1);
    }

    fn answer(self: &Arc<Self>, request: &Request<Incoming>) -> Response<Body> {
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        self.tokens.lock().expect("sound").push(token.unwrap_or_default().to_owned());
        let query = request.uri().query().unwrap_or_default();
        match Path::of_url(request.uri().path()) {
            Some((_, Path::Start)) => {
                self.descriptions.fetch_add(1, Ordering::Relaxed);
                Response::new(Full::new(self.head()).boxed_unsync())
            }
            Some((_, Path::Feed)) => {
                self.feeds.fetch_add(1, Ordering::Relaxed);
                let rendition = match query::value(query, "rendition") {
                    Some("video") => VIDEO,
                    Some("audio") => AUDIO,
                    _ => return refuse(StatusCode::NOT_FOUND),
                };
                let from = query::number(query, "from").ok().flatten().unwrap_or(0);
                self.feed(rendition, from)
            }
            _ => refuse(StatusCode::NOT_FOUND),
        }
    }

    fn head(&self) -> Bytes {
        let broadcast = self.broadcast.lock().expect("sound");
        let mut head = BytesMut::new();
        for frame in [broadcast.delegation(), broadcast.catalog()] {
            write_framed(&frame.encode(), &mut head);
        }
        head.freeze()
    }

    fn feed(self: &Arc<Self>, rendition: RenditionId, from: u64) -> Response<Body> {
        let cut = self.state.lock().expect("sound").cut;
        let next = match from {
            0 => {
                let state = self.state.lock().expect("sound");
                let mut firsts = state.parts.iter().filter(|part| part.rendition == rendition && part.first);
                firsts.next_back().map_or(0, |part| part.number)
            }
            from => from,
        };
        let changes = self.changes.subscribe();
        let state = (Arc::clone(self), changes, next, Some(self.head()));
        let body = stream::unfold(state, move |(origin, mut changes, next, head)| async move {
            if let Some(head) = head {
                return Some((head, (origin, changes, next, None)));
            }
            loop {
                changes.mark_unchanged();
                let found = {
                    let state = origin.state.lock().expect("sound");
                    if state.cut != cut {
                        return None;
                    }
                    let mut parts = state.parts.iter();
                    parts.find(|part| part.rendition == rendition && part.number >= next).cloned()
                };
                if let Some(part) = found {
                    origin.bytes.fetch_add(part.frames.len() as u64, Ordering::Relaxed);
                    return Some((part.frames, (origin, changes, part.number + 1, None)));
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        });
        let frames = futures_util::StreamExt::map(body, |bytes| Ok::<_, Infallible>(BodyFrame::data(bytes)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn refuse(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *response.status_mut() = status;
    response
}
