//! A viewer's sockets: carries out what the swarm asks for and hands back what happened. Decides nothing.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use millstream_datachannel::Certificate;
use millstream_model::EdgeId;
use millstream_service::{Trust, trust};
use millstream_swarm::{FetchId, Input};
use millstream_wire::tracker::{EdgeAddress, FromViewer, MESSAGE_BYTES_MAX, ToViewer};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_tungstenite::{
    Connector,
    tungstenite::{Message, protocol::WebSocketConfig},
};

mod edge;

use edge::Way;

/// Inputs waiting for the mind at most: half a second of a fast stream's pieces.
const INPUTS_MAX: usize = 256;

/// Messages waiting for a socket at most: requests and vouchers are few.
const OUTGOING_MAX: usize = 256;

/// A tracker that does not answer its handshake in this time is tried again.
const TRACKER_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP response that is not whole in this time has failed. Requests for records wait for what does not exist
/// yet, up to three target durations.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits between attempts to reach the tracker: doubles from the first to the last, with jitter.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What viewers of one process share.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) http: reqwest::Client,
    pub(crate) trust: Trust,
    /// Shown to all edges.
    pub(crate) certificate: Certificate,
}

/// All of a viewer's sockets. Dropping it closes them.
pub(crate) struct Net {
    inputs: mpsc::Sender<Input>,
    tracker: mpsc::Sender<FromViewer>,
    edges: HashMap<EdgeId, Edge>,
    fetches: HashMap<FetchId, AbortHandle>,
    means: Means,
    tasks: JoinSet<()>,
}

struct Edge {
    outgoing: mpsc::Sender<Bytes>,
    task: AbortHandle,
}

impl Net {
    /// Starts to reach the tracker.
    pub(crate) fn new(tracker: &str, means: Means) -> anyhow::Result<(Self, mpsc::Receiver<Input>)> {
        let (inputs, received) = mpsc::channel(INPUTS_MAX);
        let (say, said) = mpsc::channel(OUTGOING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_tracker(tracker_url(tracker)?, means.trust.clone(), said, inputs.clone()));
        let net = Self { inputs, tracker: say, edges: HashMap::new(), fetches: HashMap::new(), means, tasks };
        Ok((net, received))
    }

    pub(crate) fn tell_tracker(&mut self, message: FromViewer) {
        if self.tracker.try_send(message).is_err() {
            tracing::debug!("the tracker does not take messages");
        }
    }

    pub(crate) fn connect(&mut self, edge: EdgeId, address: &EdgeAddress) {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        let way = Way {
            address: address.clone(),
            certificate: self.means.certificate.clone(),
            tracker: self.tracker.clone(),
        };
        let work = edge::keep(edge, way, messages, self.inputs.clone());
        let task = self.tasks.spawn(work);
        if let Some(old) = self.edges.insert(edge, Edge { outgoing, task }) {
            old.task.abort();
        }
    }

    /// Lets what was already queued go out, then closes.
    pub(crate) fn disconnect(&mut self, edge: EdgeId) {
        // Dropping the queue's sender ends the task once the queue is empty.
        self.edges.remove(&edge);
    }

    pub(crate) fn send(&mut self, edge: EdgeId, message: Bytes) {
        if let Some(edge) = self.edges.get(&edge)
            && edge.outgoing.try_send(message).is_err()
        {
            // An edge that takes nothing for so long is no use: end it, and the swarm hears that it closed.
            edge.task.abort();
        }
    }

    pub(crate) fn fetch(
        &mut self,
        id: FetchId,
        url: &str,
        range: Option<(u64, u64)>,
        token: Option<String>,
        bytes_max: usize,
    ) {
        let mut request = self.means.http.get(url);
        if let Some((first, last)) = range {
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let inputs = self.inputs.clone();
        let task = self.tasks.spawn(async move {
            let input = match timeout(FETCH_TIMEOUT, get(request, bytes_max)).await {
                Ok(Ok(body)) => Input::Fetched { fetch: id, body },
                Ok(Err(status)) => Input::FetchFailed { fetch: id, status },
                Err(_) => Input::FetchFailed { fetch: id, status: None },
            };
            let _ = inputs.send(input).await;
        });
        self.fetches.insert(id, task);
        self.fetches.retain(|_, task| !task.is_finished());
        while self.tasks.try_join_next().is_some() {}
    }

    pub(crate) fn abort(&mut self, id: FetchId) {
        if let Some(task) = self.fetches.remove(&id) {
            task.abort();
        }
    }

    /// Gives what was said last a moment to leave: vouchers and the farewell.
    pub(crate) async fn close(mut self, grace: Duration) {
        self.edges.clear();
        drop(self.tracker);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(grace, all).await;
        self.tasks.abort_all();
    }
}

/// `http://host` and `ws://host` mean the same tracker.
fn tracker_url(tracker: &str) -> anyhow::Result<String> {
    let (scheme, rest) =
        tracker.split_once("://").context("the tracker's URL begins with http:// or https://")?;
    let scheme = match scheme {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        other => bail!("the tracker's URL begins with {other}://, http:// or https:// would be right"),
    };
    Ok(format!("{scheme}://{}/v1/viewer", rest.trim_end_matches('/')))
}

async fn get(request: reqwest::RequestBuilder, bytes_max: usize) -> Result<Bytes, Option<u16>> {
    let mut response = request.send().await.map_err(|error| error.status().map(|status| status.as_u16()))?;
    if !response.status().is_success() {
        return Err(Some(response.status().as_u16()));
    }
    let mut body = BytesMut::new();
    while let Some(data) = response.chunk().await.map_err(|_| None)? {
        if body.len() + data.len() > bytes_max {
            return Err(None);
        }
        body.extend_from_slice(&data);
    }
    Ok(body.freeze())
}

/// Talks to the tracker, again and again, until the viewer has said farewell.
async fn keep_tracker(
    url: String,
    trust: Trust,
    mut said: mpsc::Receiver<FromViewer>,
    inputs: mpsc::Sender<Input>,
) {
    let mut wait = RECONNECT.0;
    let mut is_told = false;
    loop {
        match talk_to_tracker(&url, &trust, &mut said, &inputs, &mut wait).await {
            Ok(()) => return,
            Err(error) if is_told => tracing::debug!(%url, "tracker: {error:#}"),
            Err(error) => {
                is_told = true;
                tracing::warn!(%url, "no tracker: {error:#}");
            }
        }
        if inputs.send(Input::TrackerClosed).await.is_err() {
            return;
        }
        let mut random = [0; 2];
        let _ = getrandom::fill(&mut random);
        let jitter = wait.mul_f64(f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX));
        tokio::time::sleep(wait / 2 + jitter).await;
        wait = (wait * 2).min(RECONNECT.1);
    }
}

async fn talk_to_tracker(
    url: &str,
    trust: &Trust,
    said: &mut mpsc::Receiver<FromViewer>,
    inputs: &mpsc::Sender<Input>,
    wait: &mut Duration,
) -> anyhow::Result<()> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(4 * 1024);
    let tls = Connector::Rustls(trust.socket());
    let connect = tokio_tungstenite::connect_async_tls_with_config(url, Some(limits), true, Some(tls));
    let connected = timeout(TRACKER_TIMEOUT, connect).await.context("no answer")?;
    let (mut socket, _) = connected.map_err(|error| anyhow::anyhow!(trust::explain(&error)))?;
    // What was said to a connection that is gone means nothing to this one.
    while said.try_recv().is_ok() {}
    inputs.send(Input::TrackerOpen).await?;
    loop {
        tokio::select! {
            message = said.recv() => {
                let Some(message) = message else {
                    socket.close(None).await?;
                    return Ok(());
                };
                socket.send(Message::text(serde_json::to_string(&message)?)).await?;
                if message == FromViewer::Leave {
                    socket.close(None).await?;
                    return Ok(());
                }
            }
            message = socket.next() => match message.context("closed")?? {
                Message::Text(text) => {
                    *wait = RECONNECT.0;
                    let message: ToViewer = serde_json::from_str(&text)?;
                    inputs.send(Input::Tracker(message)).await?;
                }
                Message::Close(_) => bail!("closed"),
                _ => {}
            },
        }
    }
}
