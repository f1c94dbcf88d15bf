//! The way to one edge, and what goes over it until one side ends it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use millstream_datachannel::{Address, Certificate, Channel, Connection, Dial, dial};
use millstream_model::EdgeId;
use millstream_swarm::Input;
use millstream_wire::tracker::{Candidates, EdgeAddress, FromViewer, Signal};
use tokio::{sync::mpsc, time::timeout};

/// A name server that has not answered by then will not be waited for: a viewer's own address may do.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How an edge is reached.
pub(super) struct Way {
    pub(super) address: EdgeAddress,
    /// Shown to it.
    pub(super) certificate: Certificate,
    /// By which an edge behind NAT is told where we are.
    pub(super) tracker: mpsc::Sender<FromViewer>,
}

/// Connects to an edge, and passes on what either side says.
pub(super) async fn keep(
    edge: EdgeId,
    way: Way,
    messages: mpsc::Receiver<Bytes>,
    inputs: mpsc::Sender<Input>,
) {
    let fingerprint = way.certificate.fingerprint();
    if let Some(connection) = open(edge, way).await
        && inputs.send(Input::EdgeOpen { edge, fingerprint }).await.is_ok()
    {
        talk(edge, &connection, messages, &inputs).await;
    }
    let _ = inputs.send(Input::EdgeClosed { edge }).await;
}

/// By whichever of its addresses leads there.
async fn open(edge: EdgeId, way: Way) -> Option<Connection> {
    let Way { address: at, certificate, tracker } = way;
    let config = dial::Config { certificate: Some(certificate), ..dial::Config::default() };
    let families = if at.behind_nat { families(&at.sockets) } else { vec![at.sockets.clone()] };
    for sockets in families {
        let Some((first, others)) = sockets.split_first() else { continue };
        let EdgeAddress { ufrag, password, fingerprint, .. } = at.clone();
        let address = Address { socket: *first, ufrag, password, fingerprint };
        let opened = if at.behind_nat {
            meet(edge, &address, others, config.clone(), &at.stun, &tracker).await
        } else {
            dial::any(&address, others, config.clone()).await
        };
        match opened {
            Ok(connection) => return Some(connection),
            Err(error) => tracing::debug!(%edge, ?sockets, "edge: {error}"),
        }
    }
    None
}

/// Addresses of IPv4 and of IPv6 apart: whoever is let in is so at one port, and that has one family.
fn families(sockets: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    let (mut first, mut other) = (Vec::new(), Vec::new());
    for socket in sockets {
        let is_other = sockets.first().is_some_and(|best| best.is_ipv4() != socket.is_ipv4());
        if is_other { &mut other } else { &mut first }.push(*socket);
    }
    vec![first, other]
}

/// Tells an edge behind NAT where we are, so that it lets us in, and connects.
async fn meet(
    edge: EdgeId,
    address: &Address,
    others: &[SocketAddr],
    config: dial::Config,
    stun: &[String],
    tracker: &mpsc::Sender<FromViewer>,
) -> Result<Connection, dial::Error> {
    let mut dial = Dial::prepare(address, config)?;
    others.iter().for_each(|socket| dial.or_at(*socket));
    let said = dial.candidates()?;
    // In the same network, or without NAT on this side, that is enough.
    signal(edge, &said, tracker);
    for server in stun {
        match seen_by(&mut dial, server, address.socket).await {
            Some(mapped) => {
                tracing::debug!(%edge, %server, %mapped, "seen from there");
                break;
            }
            None => tracing::debug!(%edge, %server, "no STUN answer"),
        }
    }
    let all = dial.candidates()?;
    if all.candidates != said.candidates {
        signal(edge, &all, tracker);
    }
    dial.connect().await
}

/// Where a STUN server sees us, in the family of whom we want to reach.
async fn seen_by(dial: &mut Dial, server: &str, towards: SocketAddr) -> Option<SocketAddr> {
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(server)).await.ok()?.ok()?;
    let server = found.into_iter().find(|found| found.is_ipv4() == towards.is_ipv4())?;
    dial.mapped(server).await.ok()
}

fn signal(edge: EdgeId, own: &millstream_datachannel::Candidates, tracker: &mpsc::Sender<FromViewer>) {
    let candidates = Candidates {
        ufrag: own.ufrag.clone(),
        password: own.password.clone(),
        candidates: own.candidates.clone(),
    };
    let Ok(data) = serde_json::to_string(&candidates) else { return };
    if tracker.try_send(FromViewer::Signal(Signal { peer: edge.to_string(), data })).is_err() {
        tracing::debug!(%edge, "the tracker does not take signals");
    }
}

async fn talk(
    edge: EdgeId,
    connection: &Connection,
    mut messages: mpsc::Receiver<Bytes>,
    inputs: &mpsc::Sender<Input>,
) {
    loop {
        tokio::select! {
            outgoing = messages.recv() => {
                let Some(bytes) = outgoing else { return connection.close() };
                if connection.send(Channel::Control, bytes).await.is_err() {
                    return;
                }
            }
            incoming = connection.recv() => {
                let Some(message) = incoming else { return };
                if inputs.send(Input::EdgeMessage { edge, message: message.bytes }).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_of_the_best_address_goes_first() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (one, other) = (at("203.0.113.7:1"), at("192.168.1.2:1"));
        let (ipv6, own) = (at("[2001:db8::7]:1"), at("[fd00::7]:1"));
        assert_eq!(families(&[one, ipv6, other]), [vec![one, other], vec![ipv6]]);
        assert_eq!(families(&[ipv6, one, own]), [vec![ipv6, own], vec![one]]);
        assert_eq!(families(&[one]), [vec![one], vec![]]);
    }
}
