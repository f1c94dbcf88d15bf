//! The other end of the socket, and small services to talk to.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use millstream_service::{
    Tasks,
    http::{Counts, Limits, Tls, bind, serve},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A listener that answers with `answer`.
pub(crate) async fn listen(
    tls: Option<Tls>,
    limits: &Limits,
    tasks: &Tasks,
    answer: impl Fn(Request<Incoming>) -> Answer + Clone + Send + 'static,
) -> (SocketAddr, Arc<Counts>) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, serve(listener, tls, limits, service_fn(answer), tasks))
}

pub(crate) fn hello(_: Request<Incoming>) -> Answer {
    say("hello")
}

pub(crate) fn say(text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).boxed_unsync();
    Box::pin(async { Ok(Response::new(body)) })
}

pub(crate) fn nothing() -> Body {
    Empty::new().boxed_unsync()
}

/// A response that is as long as its sender lives.
pub(crate) fn streamed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    (sender, StreamBody::new(stream).boxed_unsync())
}

pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Sends `text` as it is.
pub(crate) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// All that comes until the other end closes.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What comes until `end` has come.
pub(crate) async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = stream.read_u8().await.unwrap_or_else(|error| panic!("{error} after {text:?}"));
        text.push(char::from(byte));
    }
    text
}
