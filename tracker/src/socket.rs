//! WebSockets with small buffers: what an idle viewer costs decides how many a tracker carries.
//!
//! warp's own WebSocket takes 128 KiB of read buffer per connection and has no setting for it, so the upgrade is
//! answered here and the socket made with buffers of our choice.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use millstream_service::{Spawner, http::Peer};
use millstream_wire::tracker::MESSAGE_BYTES_MAX;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use warp::{Filter, Reply, http::StatusCode, reject::Rejection, reply::Response};

/// The read buffer: a voucher or report fits with room.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Written to the socket at once.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Unwritten bytes at most: a peer that takes none is cut off.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// A message that the peer does not take in this time ends the connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// One WebSocket that speaks JSON.
pub(crate) struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
}

/// What the other side sent.
pub(crate) enum Received<T> {
    /// A message.
    Message(T),
    /// Text that is no message; the reason for the sender's eyes.
    Malformed(String),
    /// A ping was answered, or something else that needs no attention.
    Nothing,
}

impl Socket {
    /// The next message; `None` when the connection is over.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Option<Received<T>> {
        match self.stream.next().await?.ok()? {
            Message::Text(text) => Some(match serde_json::from_str(&text) {
                Ok(message) => Received::Message(message),
                Err(error) => Received::Malformed(error.to_string()),
            }),
            Message::Binary(_) => Some(Received::Malformed("binary messages have no meaning here".into())),
            Message::Close(_) => None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Some(Received::Nothing),
        }
    }

    /// Sends a message. An error means that the connection is over.
    pub(crate) async fn send(&mut self, message: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(message)?;
        Ok(timeout(SEND_TIMEOUT, self.stream.send(Message::text(text))).await??)
    }

    /// Asks for a sign of life.
    pub(crate) async fn ping(&mut self) -> anyhow::Result<()> {
        Ok(timeout(SEND_TIMEOUT, self.stream.send(Message::Ping(bytes::Bytes::new()))).await??)
    }

    /// Says why, and closes.
    pub(crate) async fn close(mut self, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
        let _ = timeout(SEND_TIMEOUT, self.stream.close(Some(frame))).await;
    }
}

/// A route that accepts WebSockets at `path` and gives each to `serve`.
pub(crate) fn route<F, W>(
    path: &'static str,
    tasks: Spawner,
    serve: F,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone
where
    F: Fn(Socket, SocketAddr) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    warp::path!("v1" / String)
        .and_then(move |name: String| async move {
            if name == path { Ok(()) } else { Err(warp::reject::not_found()) }
        })
        .untuple_one()
        .and(warp::get())
        .and(warp::header::optional::<String>("sec-websocket-key"))
        .and(warp::header::optional::<String>("upgrade"))
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::get::<Peer>())
        .then(move |key: Option<String>, upgrade: Option<String>, on: Option<OnUpgrade>, peer: Peer| {
            let (serve, tasks) = (Arc::clone(&serve), tasks.clone());
            async move {
                let asked = upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
                let (Some(key), true, Some(on)) = (key, asked, on) else {
                    return plain(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: send an Upgrade\n");
                };
                let name = format!("{path} {}", peer.address);
                tasks.spawn(name, async move {
                    let Ok(upgraded) = on.await else { return };
                    let limits = WebSocketConfig::default()
                        .read_buffer_size(READ_BUFFER_BYTES)
                        .write_buffer_size(WRITE_BUFFER_BYTES)
                        .max_write_buffer_size(WRITE_BYTES_MAX)
                        .max_message_size(Some(MESSAGE_BYTES_MAX))
                        .max_frame_size(Some(MESSAGE_BYTES_MAX));
                    let io = TokioIo::new(upgraded);
                    let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
                    serve(Socket { stream }, peer.address).await;
                });
                let mut response = warp::reply().into_response();
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let headers = response.headers_mut();
                headers.insert("connection", warp::http::HeaderValue::from_static("upgrade"));
                headers.insert("upgrade", warp::http::HeaderValue::from_static("websocket"));
                if let Ok(accept) = derive_accept_key(key.as_bytes()).parse() {
                    headers.insert("sec-websocket-accept", accept);
                }
                response
            }
        })
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    warp::reply::with_status(text, status).into_response()
}
