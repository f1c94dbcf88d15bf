//! An edge that everybody reaches, by several addresses: whichever leads there. Each attempt is a dial of its own, so that
//! the families mix, and the network's refusals are heard.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{Config, Error, SOCKETS_MAX, dial};
use crate::{Address, Connection};

/// Before the next address is tried beside those before it, if none of them has failed (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// As [`dial()`] for an edge that is at `others`, too, the best first: each is tried 250 ms after the one before it, or when
/// that fails (RFC 8305 §5), and the first that opens is kept. Four at most are tried. Cancel-safe.
///
/// # Errors
///
/// The last one, when none opens.
pub async fn any(address: &Address, others: &[SocketAddr], config: Config) -> Result<Connection, Error> {
    let others = others.iter().take(SOCKETS_MAX - 1);
    let mut waiting = others.map(|socket| Address { socket: *socket, ..address.clone() });
    let mut attempts = JoinSet::new();
    let mut next = Some(address.clone());
    let mut failed = Error::Timeout;
    loop {
        let is_last = next.is_none();
        if let Some(address) = next {
            let config = config.clone();
            attempts.spawn(async move { dial(&address, config).await });
        } else if attempts.is_empty() {
            return Err(failed);
        }
        let delay = if is_last { Duration::MAX } else { ATTEMPT_DELAY };
        match timeout(delay, attempts.join_next()).await {
            // The others end with their set.
            Ok(Some(Ok(Ok(connection)))) => return Ok(connection),
            Ok(Some(Ok(Err(error)))) => failed = error,
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
        next = waiting.next();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::UdpSocket;

    use super::*;
    use crate::{Certificate, Listener, listen};

    fn edge() -> Listener {
        let certificate = Certificate::generate().unwrap();
        Listener::bind(listen::Config::new("127.0.0.1:0".parse().unwrap(), certificate).unwrap()).unwrap()
    }

    /// Of `dead` and then the edge; one try of several need not be disturbed by others on the machine.
    async fn opens(listener: &mut Listener, dead: &[SocketAddr]) -> Duration {
        let real = listener.address().clone();
        let sockets = [dead, &[real.socket]].concat();
        let first = Address { socket: sockets[0], ..real };
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            let began = Instant::now();
            let opening =
                async { tokio::join!(any(&first, &sockets[1..], Config::default()), listener.accept()) };
            let (viewer, edge) = timeout(Duration::from_secs(20), opening).await.expect("it opens");
            fastest = fastest.min(began.elapsed());
            assert_eq!(viewer.unwrap().remote_addr(), real.socket);
            drop(edge);
        }
        fastest
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_the_next_for_no_longer_than_a_moment() {
        let mut listener = edge();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let refusing = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (silent_at, refusing_at) = (silent.local_addr().unwrap(), refusing.local_addr().unwrap());
        drop(refusing);
        let fastest = opens(&mut listener, &[silent_at]).await;
        assert!((ATTEMPT_DELAY..4 * ATTEMPT_DELAY).contains(&fastest), "{fastest:?} behind a silent one");
        let fastest = opens(&mut listener, &[refusing_at]).await;
        assert!(fastest < ATTEMPT_DELAY, "{fastest:?} behind one that refuses");
        let _ = opens(&mut listener, &[silent_at, refusing_at, "[2001:db8::1]:9".parse().unwrap()]).await;
    }

    #[tokio::test]
    async fn none_that_answers_is_an_error() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        let address = Address { socket: at, ..edge().address().clone() };
        let config = Config { timeout: Duration::from_millis(500), ..Config::default() };
        assert!(matches!(any(&address, &[at, at], config).await, Err(Error::Timeout)));
    }
}
