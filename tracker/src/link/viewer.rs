//! A viewer's conversation: challenge, join or resume, then grants, vouchers and reports until it ends.

use std::{net::SocketAddr, sync::Arc};

use millstream_ledger::voucher::Bringer;
use millstream_model::SessionId;
use millstream_service::tasks::Drain;
use millstream_wire::tracker::{Challenge, FaultCode, FromViewer, ToViewer};
use tokio::sync::mpsc;

use super::{Budget, INTRODUCTION, PING_EVERY, spread_ms};
use crate::{
    hub::{Hub, QUEUE_MAX, ViewerReport, fault, now},
    socket::{Received, Socket},
};

/// Talks to one viewer until either side ends it.
pub(crate) async fn serve(hub: Arc<Hub>, mut socket: Socket, address: SocketAddr, drain: Drain) {
    let challenge = match hub.challenge() {
        Ok(challenge) => challenge,
        Err(fault) => return drop(socket.send(&ToViewer::Error(fault)).await),
    };
    if socket.send(&ToViewer::Challenge(challenge.clone())).await.is_err() {
        return;
    }
    let (link, queue) = mpsc::channel(QUEUE_MAX);
    let mut viewer = Viewer { hub, challenge, link, session: None, address };
    let leaves = viewer.talk(&mut socket, queue, &drain).await;
    if let Some(session) = viewer.session {
        if leaves {
            viewer.hub.leave(session);
        } else {
            viewer.hub.detach(session, &viewer.link);
        }
    }
    socket.close("goodbye").await;
}

struct Viewer {
    hub: Arc<Hub>,
    challenge: Challenge,
    link: mpsc::Sender<ToViewer>,
    session: Option<SessionId>,
    address: SocketAddr,
}

impl Viewer {
    /// True when the viewer said farewell.
    async fn talk(
        &mut self,
        socket: &mut Socket,
        mut queue: mpsc::Receiver<ToViewer>,
        drain: &Drain,
    ) -> bool {
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.reset();
        let mut silent = 0;
        let mut budget = Budget::new();
        let introduced_by = tokio::time::Instant::now() + INTRODUCTION;
        loop {
            let answer = tokio::select! {
                received = socket.receive::<FromViewer>() => {
                    silent = 0;
                    match received {
                        None => return false,
                        Some(_) if !budget.take() => {
                            Some(ToViewer::Error(fault(FaultCode::RateLimited, "too many messages")))
                        }
                        Some(Received::Message(FromViewer::Leave)) => return true,
                        Some(Received::Message(message)) => self.hear(message).await,
                        Some(Received::Malformed(why)) => {
                            Some(ToViewer::Error(fault(FaultCode::BadRequest, why)))
                        }
                        Some(Received::Nothing) => None,
                    }
                }
                message = queue.recv() => message,
                _ = ping.tick() => {
                    silent += 1;
                    if silent > 2 || socket.ping().await.is_err() {
                        return false;
                    }
                    None
                }
                () = tokio::time::sleep_until(introduced_by), if self.session.is_none() => return false,
                () = drain.begun() => {
                    let _ = socket.send(&ToViewer::Goaway { retry_ms: spread_ms() }).await;
                    return false;
                }
            };
            let Some(answer) = answer else { continue };
            let ends = matches!(&answer, ToViewer::Error(fault) if ends(fault.code));
            if socket.send(&answer).await.is_err() || ends {
                return false;
            }
        }
    }

    async fn hear(&mut self, message: FromViewer) -> Option<ToViewer> {
        match (message, self.session) {
            (FromViewer::Join { stream, key, ticket }, None) => {
                let ip = self.address.ip();
                let joined = self.hub.join(&stream, key, ticket.as_deref(), ip, self.link.clone()).await;
                Some(self.welcomed(joined))
            }
            (FromViewer::Resume { certificate, proof }, None) => {
                let (ip, nonce) = (self.address.ip(), self.challenge.nonce);
                let resumed = self.hub.resume(certificate, &proof, nonce, ip, self.link.clone()).await;
                Some(self.welcomed(resumed))
            }
            (FromViewer::Voucher { voucher }, Some(session)) => {
                let edge = voucher.unverified().edge;
                Some(match self.hub.voucher(Bringer::Session(session), voucher).await {
                    Ok(receipt) => ToViewer::Receipt { receipt },
                    Err(refused) => ToViewer::Rejected { edge, reason: refused.to_string() },
                })
            }
            (FromViewer::Renew { edge }, Some(session)) => Some(match self.hub.renew(session, edge).await {
                Ok((grant, token)) => ToViewer::Grants { grants: vec![grant], token },
                Err(fault) => ToViewer::Error(fault),
            }),
            (
                FromViewer::Report { buffer_ms, latency_ms, stalls, stalled_ms, origin_bytes, mut edges },
                Some(session),
            ) => {
                edges.truncate(16);
                let report = ViewerReport { buffer_ms, latency_ms, stalls, stalled_ms, origin_bytes, edges };
                self.hub.report(session, report, now()).await;
                None
            }
            (FromViewer::Signal(signal), Some(session)) => {
                self.hub.signal_edge(session, signal).err().map(ToViewer::Error)
            }
            (FromViewer::Leave, _) => None,
            (_, None) => Some(ToViewer::Error(fault(FaultCode::BadRequest, "join or resume comes first"))),
            (_, Some(_)) => {
                Some(ToViewer::Error(fault(FaultCode::BadRequest, "this connection has a session already")))
            }
        }
    }

    fn welcomed(
        &mut self,
        result: Result<millstream_wire::tracker::Welcome, millstream_wire::tracker::Fault>,
    ) -> ToViewer {
        match result {
            Ok(welcome) => {
                self.session = Some(welcome.session);
                ToViewer::Welcome(Box::new(welcome))
            }
            Err(fault) => ToViewer::Error(fault),
        }
    }
}

/// Whether a fault ends the connection: all but those that a running session survives.
const fn ends(code: FaultCode) -> bool {
    !matches!(code, FaultCode::NoFunds | FaultCode::Unavailable | FaultCode::BadRequest)
}
