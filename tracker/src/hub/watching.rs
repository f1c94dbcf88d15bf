//! How viewers fare with their edges, and what follows from it; and what both pass each other through us.

use millstream_model::{EdgeId, SessionId, WallTime};
use millstream_placement::standing::{Delivery, Subscriber};
use millstream_wire::tracker::{Fault, FaultCode, SIGNAL_BYTES_MAX, Signal, ToEdge, ToViewer};
use tokio::sync::mpsc;

use super::{Hub, QUEUE_MAX, ViewerReport, fault};

impl Hub {
    /// Notes how a viewer fares. An edge that fails it is replaced.
    pub(crate) async fn report(&self, id: SessionId, report: ViewerReport, now: WallTime) {
        let said: Vec<Delivery> = report
            .edges
            .iter()
            .map(|said| Delivery {
                edge: said.edge,
                received: said.received,
                bad: said.bad,
                ready: said.ready,
            })
            .collect();
        let (failures, stream, mut keep, subscriber) = {
            let Some(mut session) = self.sessions.get_mut(&id) else { return };
            let has = session.edges.clone();
            let failures = session.watch.report(&has, &said, report.origin_bytes, now);
            session.report = report;
            (failures, session.stream.clone(), has, Subscriber::of(session.address))
        };
        if failures.is_empty() {
            return;
        }
        for failure in &failures {
            tracing::info!(session = %id, edge = %failure.edge, bad = failure.bad, "an edge fails its viewer");
            if failure.counts {
                self.standings.entry(failure.edge).or_default().complain(subscriber, now);
            }
        }
        keep.retain(|edge| failures.iter().all(|failure| failure.edge != *edge));
        let Some(stream) = self.streams.get(&stream) else { return };
        let edges = self.place(id, &stream, &keep).await;
        self.reassign(id, edges, "an edge failed");
    }

    /// Passes a viewer's text on to one of its edges.
    pub(crate) fn signal_edge(&self, session: SessionId, signal: Signal) -> Result<(), Fault> {
        let edge = peer::<EdgeId>(&signal)?;
        self.check_pair(session, edge)?;
        let link = self.edges.get(&edge).map(|edge| edge.link.clone());
        pass(link.as_ref(), ToEdge::Signal(Signal { peer: session.to_string(), data: signal.data }))
    }

    /// Passes an edge's text on to one of its viewers.
    pub(crate) fn signal_viewer(&self, edge: EdgeId, signal: Signal) -> Result<(), Fault> {
        let session = peer::<SessionId>(&signal)?;
        self.check_pair(session, edge)?;
        let link = self.sessions.get(&session).and_then(|session| session.link.clone());
        pass(link.as_ref(), ToViewer::Signal(Signal { peer: edge.to_string(), data: signal.data }))
    }

    fn check_pair(&self, session: SessionId, edge: EdgeId) -> Result<(), Fault> {
        let is_pair = self.sessions.get(&session).is_some_and(|session| session.edges.contains(&edge));
        if is_pair { Ok(()) } else { Err(fault(FaultCode::BadRequest, "you have no lane with this peer")) }
    }
}

fn peer<T: std::str::FromStr>(signal: &Signal) -> Result<T, Fault> {
    if signal.data.len() > SIGNAL_BYTES_MAX {
        let right = format_args!("a signal has {SIGNAL_BYTES_MAX} bytes at most");
        return Err(fault(FaultCode::BadRequest, right));
    }
    signal.peer.parse().map_err(|_| fault(FaultCode::BadRequest, "a peer is an edge's or a session's id"))
}

/// Half of each queue is kept for what we say ourselves.
fn pass<T>(link: Option<&mpsc::Sender<T>>, message: T) -> Result<(), Fault> {
    let link = link.filter(|link| link.capacity() > QUEUE_MAX / 2);
    let passed = link.is_some_and(|link| link.try_send(message).is_ok());
    if passed { Ok(()) } else { Err(fault(FaultCode::Unavailable, "the peer takes nothing at the moment")) }
}
