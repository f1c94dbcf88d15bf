//! Serving HTTP: one accept loop for every program, with bounds, TLS and a drain.
//!
//! HTTP/1.1 (with upgrades, so WebSockets work) everywhere, HTTP/2 over TLS when the client asks for it. The service
//! finds the [`Peer`] in the request's extensions. Routes of `warp` go through [`tower`]:
//! `serve(listener, None, &Limits::default(), http::tower(warp::service(routes)), &tasks)`.

mod connection;
mod count;
mod socket;
pub mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::body::{Body, Incoming};
pub use hyper_util::service::TowerToHyperService as Tower;
use tokio::net::{TcpListener, TcpStream};

pub use self::{count::Counts, tls::Tls};
use crate::{
    exit,
    tasks::{Drain, Spawner},
};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// When the system has no more file descriptors, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Being full is told once in this time, not once for each refused connection.
const FULL_WARN_EVERY: Duration = Duration::from_secs(10);

crate::settings! {
    /// Bounds on what clients may take of an HTTP listener.
    pub struct Limits {
        /// Connections at a time, WebSockets included; more are closed at once.
        pub connections_max: usize = 10_000,
        /// Bytes of a request's head.
        pub header_bytes_max: u32 = 16 * 1024,
        /// Fields of a request's head.
        pub headers_max: usize = 64,
        /// Milliseconds for a TLS handshake.
        pub handshake_ms: u64 = 10_000,
        /// Milliseconds a connection may be without a request, or take to send the head of one.
        pub header_ms: u64 = 30_000,
        /// Milliseconds a client may refuse to take what is sent to it, on WebSockets as well.
        pub stall_ms: u64 = 30_000,
        /// Requests at a time on one HTTP/2 connection.
        pub http2_streams_max: u32 = 100,
    }
}

/// Who sent a request; in the extensions of every request that [`serve`] passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the TCP connection.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Makes a `tower` service, such as `warp::service(routes)`, fit for [`serve`].
pub fn tower<S>(service: S) -> Tower<S> {
    Tower::new(service)
}

/// Binds `address`; port 0 takes a free one.
///
/// # Errors
/// With the address in the text, when it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| exit::cannot_listen(address, &error))
}

/// Serves `service` on `listener` with tasks of `tasks` until the drain: then the listener closes, requests in
/// hand are finished, and idle connections are closed. A long-lived response or WebSocket has to watch the drain
/// itself, else it is cut off after the grace.
pub fn serve<S, B>(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: &Limits,
    service: S,
    tasks: &Spawner,
) -> Arc<Counts>
where
    S: hyper::service::Service<hyper::Request<Incoming>, Response = hyper::Response<B>>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let counts = Arc::new(Counts::default());
    if let Some(tls) = &tls {
        tls.spawn_reload(tasks);
    }
    let door = Door {
        listener,
        connections: connection::Connections {
            tls,
            limits: limits.clone(),
            tasks: tasks.clone(),
            drain: tasks.drain(),
        },
        counts: Arc::clone(&counts),
        drain: tasks.drain(),
        warned: None,
    };
    tasks.spawn_vital("http accept", door.run(service));
    counts
}

/// The accept loop.
struct Door {
    listener: TcpListener,
    connections: connection::Connections,
    counts: Arc<Counts>,
    drain: Drain,
    warned: Option<tokio::time::Instant>,
}

impl Door {
    async fn run<S, B>(mut self, service: S)
    where
        S: hyper::service::Service<hyper::Request<Incoming>, Response = hyper::Response<B>>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.drain.begun() => return,
            };
            match accepted {
                Ok((stream, address)) => self.welcome(stream, address, service.clone()),
                Err(error) if is_clients_fault(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome<S, B>(&mut self, stream: TcpStream, address: SocketAddr, service: S)
    where
        S: hyper::service::Service<hyper::Request<Incoming>, Response = hyper::Response<B>>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let max = self.connections.limits.connections_max;
        if self.counts.open() >= max {
            self.counts.refuse();
            if self.warned.is_none_or(|at| at.elapsed() >= FULL_WARN_EVERY) {
                self.warned = Some(tokio::time::Instant::now());
                tracing::warn!(connections_max = max, "full: connections are closed at once");
            }
            return;
        }
        let seat = count::Seat::take(&self.counts);
        self.connections.spawn(stream, address, seat, service);
    }
}

/// Errors of one connection that was given up before it was accepted: not ours to wait for.
fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
