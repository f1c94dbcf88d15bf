//! One connection from its first byte to its last: TLS, HTTP version, drain.

use std::{future::Future, net::SocketAddr, pin::Pin, time::Duration};

use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{
    BoxError, Limits, Peer,
    count::Seat,
    socket::Socket,
    tls::{HTTP2, Tls},
};
use crate::tasks::{Drain, Spawner};

/// hyper's floor for its read buffer; the head has its own, lower bound.
const BUFFER_BYTES: usize = 16 * 1024;

/// An HTTP/2 client is asked for a sign of life after this long without a frame.
const PING_EVERY: Duration = Duration::from_secs(30);

/// What all connections of a listener share.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) tls: Option<Tls>,
    pub(super) limits: Limits,
    pub(super) tasks: Spawner,
    pub(super) drain: Drain,
}

impl Connections {
    pub(super) fn spawn<S, B>(&self, stream: TcpStream, address: SocketAddr, seat: Seat, service: S)
    where
        S: Service<hyper::Request<Incoming>, Response = hyper::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let this = self.clone();
        let stall = Duration::from_millis(this.limits.stall_ms);
        let socket = Socket::new(stream, stall, seat);
        self.tasks.spawn("http connection", async move {
            if let Err(error) = this.run(socket, address, service).await {
                // The client's doing, as a rule; nothing an operator could act on.
                tracing::debug!(%address, error = &*error, "connection ended");
            }
        });
    }

    async fn run<S, B>(self, socket: Socket, address: SocketAddr, service: S) -> Result<(), BoxError>
    where
        S: Service<hyper::Request<Incoming>, Response = hyper::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let peer = Peer { address, tls: self.tls.is_some() };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let Some(tls) = &self.tls else {
            return drive(self.http1(socket, service), &self.drain).await;
        };
        let handshake = tls.acceptor().accept(socket);
        let patience = Duration::from_millis(self.limits.handshake_ms);
        let stream = tokio::select! {
            stream = timeout(patience, handshake) => stream??,
            () = self.drain.begun() => return Ok(()),
        };
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
            drive(self.http2(stream, service), &self.drain).await
        } else {
            drive(self.http1(stream, service), &self.drain).await
        }
    }

    fn http1<I, S, B>(&self, io: I, service: S) -> http1::UpgradeableConnection<TokioIo<I>, S>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: hyper::service::HttpService<Incoming, ResBody = B>,
        S::Error: Into<BoxError>,
        B: Body + 'static,
        B::Error: Into<BoxError>,
    {
        let header_bytes = usize::try_from(self.limits.header_bytes_max).unwrap_or(usize::MAX);
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.limits.header_ms))
            .max_buf_size(header_bytes.max(BUFFER_BYTES))
            .max_header_size(header_bytes)
            .max_headers(self.limits.headers_max)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
    }

    fn http2<I, S, B>(&self, io: I, service: S) -> http2::Connection<TokioIo<I>, S, Spawner>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: hyper::service::HttpService<Incoming, ResBody = B>,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        http2::Builder::new(self.tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_header_list_size(self.limits.header_bytes_max)
            .max_concurrent_streams(self.limits.http2_streams_max)
            .serve_connection(TokioIo::new(io), service)
    }
}

async fn drive(connection: impl Connection, drain: &Drain) -> Result<(), BoxError> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // The drain first, so that the last response says `connection: close`.
        biased;
        () = drain.begun() => connection.as_mut().finish(),
        ended = connection.as_mut() => return Ok(ended?),
    }
    Ok(connection.await?)
}

/// What the two kinds of connection have in common.
trait Connection: Future<Output = Result<(), hyper::Error>> {
    /// Takes no new request, and ends after those in hand.
    fn finish(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for http1::UpgradeableConnection<TokioIo<I>, S>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Connection for http2::Connection<TokioIo<I>, S, Spawner>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
