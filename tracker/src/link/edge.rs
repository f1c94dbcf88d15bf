//! An edge's conversation: challenge, registration, then status, lookups and vouchers until it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use millstream_ledger::voucher::Bringer;
use millstream_model::EdgeId;
use millstream_service::tasks::{Drain, Spawner};
use millstream_wire::tracker::{Challenge, FaultCode, FromEdge, ToEdge};
use tokio::sync::mpsc;

use super::{Budget, PING_EVERY, spread_ms};
use crate::{
    hub::{EdgeOfferings, Hub, QUEUE_MAX, REPORT_MS, fault, now},
    socket::{Received, Socket},
};

/// An edge whose connection is lost may come back in this time before its viewers are given others.
const COMEBACK: Duration = Duration::from_secs(5);

/// Talks to one edge until either side ends it.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    mut socket: Socket,
    address: SocketAddr,
    drain: Drain,
    tasks: Spawner,
) {
    let challenge = match hub.challenge() {
        Ok(challenge) => challenge,
        Err(fault) => return drop(socket.send(&ToEdge::Error(fault)).await),
    };
    if socket.send(&ToEdge::Challenge(challenge.clone())).await.is_err() {
        return;
    }
    let (link, queue) = mpsc::channel(QUEUE_MAX);
    let mut edge = Edge { hub: Arc::clone(&hub), challenge, link, id: None };
    edge.talk(&mut socket, queue, &drain).await;
    if let Some(id) = edge.id
        && hub.unregister(id, &edge.link)
    {
        tracing::info!(edge = %id, %address, "edge gone");
        tasks.spawn_until_drain("edge comeback", async move {
            tokio::time::sleep(COMEBACK).await;
            if !hub.edges.contains_key(&id) {
                hub.replace(id, "the edge is gone").await;
            }
        });
    }
    socket.close("goodbye").await;
}

struct Edge {
    hub: Arc<Hub>,
    challenge: Challenge,
    link: mpsc::Sender<ToEdge>,
    id: Option<EdgeId>,
}

impl Edge {
    async fn talk(&mut self, socket: &mut Socket, mut queue: mpsc::Receiver<ToEdge>, drain: &Drain) {
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.reset();
        let mut silent = 0;
        let mut budget = Budget::new();
        loop {
            let answer = tokio::select! {
                received = socket.receive::<FromEdge>() => {
                    silent = 0;
                    match received {
                        None => return,
                        // An edge brings the vouchers of all its viewers: they are bounded by its viewers_max.
                        Some(Received::Message(FromEdge::Voucher { voucher })) => {
                            self.book(voucher).await
                        }
                        Some(_) if !budget.take() => {
                            Some(ToEdge::Error(fault(FaultCode::RateLimited, "too many messages")))
                        }
                        Some(Received::Message(message)) => self.hear(message).await,
                        Some(Received::Malformed(why)) => {
                            Some(ToEdge::Error(fault(FaultCode::BadRequest, why)))
                        }
                        Some(Received::Nothing) => None,
                    }
                }
                message = queue.recv() => message,
                _ = ping.tick() => {
                    silent += 1;
                    if silent > 2 || socket.ping().await.is_err() {
                        return;
                    }
                    None
                }
                () = drain.begun() => {
                    let _ = socket.send(&ToEdge::Goaway { retry_ms: spread_ms() }).await;
                    return;
                }
            };
            let Some(answer) = answer else { continue };
            let ends = matches!(&answer, ToEdge::Error(fault)
                if matches!(fault.code, FaultCode::RateLimited | FaultCode::BadProof));
            if socket.send(&answer).await.is_err() || ends {
                return;
            }
        }
    }

    async fn book(
        &self,
        voucher: millstream_wire::sign::Signed<millstream_wire::session::Voucher>,
    ) -> Option<ToEdge> {
        let Some(edge) = self.id else {
            return Some(ToEdge::Error(fault(FaultCode::BadRequest, "register comes first")));
        };
        let session = voucher.unverified().session;
        Some(match self.hub.voucher(Bringer::Edge(edge), voucher).await {
            Ok(receipt) => ToEdge::Receipt { receipt },
            Err(refused) => {
                let retry = refused.may_pass_later();
                ToEdge::Rejected { session, reason: refused.to_string(), retry }
            }
        })
    }

    async fn hear(&mut self, message: FromEdge) -> Option<ToEdge> {
        match (message, self.id) {
            (FromEdge::Register { proof, address, capacity, viewers_max, version }, known) => {
                let edge = proof.unverified().edge;
                if known.is_some_and(|known| known != edge) {
                    return Some(ToEdge::Error(fault(FaultCode::BadRequest, "another edge registered here")));
                }
                let offerings = EdgeOfferings { address, capacity, viewers_max, version };
                match self.hub.register(&proof, self.challenge.nonce, offerings, self.link.clone()) {
                    Ok(edge) => {
                        tracing::info!(%edge, "edge registered");
                        self.id = Some(edge);
                        let tracker = self.hub.id();
                        Some(ToEdge::Registered { edge, tracker, time: now(), status_ms: REPORT_MS })
                    }
                    Err(fault) => Some(ToEdge::Error(fault)),
                }
            }
            (FromEdge::Status { viewers, sending, warm }, Some(edge)) => {
                self.hub.status(edge, viewers, sending, warm);
                None
            }
            (FromEdge::Lookup { stream }, Some(edge)) => {
                Some(self.hub.lookup(edge, &stream).unwrap_or_else(ToEdge::Error))
            }
            (FromEdge::Drain, Some(edge)) => {
                self.hub.drain(edge).await;
                None
            }
            (FromEdge::Signal(_), Some(_)) => Some(ToEdge::Error(fault(
                FaultCode::Unavailable,
                "this tracker passes no signals: its edges are all public",
            ))),
            (FromEdge::Voucher { .. }, _) => None,
            (_, None) => Some(ToEdge::Error(fault(FaultCode::BadRequest, "register comes first"))),
        }
    }
}
