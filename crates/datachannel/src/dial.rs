//! The native viewer's side: one UDP socket and one task a connection.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    Address, CANDIDATES_MAX, Candidates, Certificate, Connection, PASSWORD_CHARS, UFRAG_CHARS,
    address::{is_ice_text, is_same},
    demux::DATAGRAM_BYTES_MAX,
    link::Setup,
    listen::traversal::{QUERY_AT, QUERY_LIFE},
    random_token,
    socket::{self, Socket},
    stun::{self, Class, TransactionId},
};

mod attempts;
mod checklist;
mod driver;

pub use attempts::any;
use driver::{Credentials, Driver};

/// Characters of our ufrag: 48 bits.
const UFRAG_LENGTH: usize = 8;

/// Characters of our password (RFC 8839 §5.4 wants 22 at least).
const PASSWORD_LENGTH: usize = 24;

/// Addresses by which servers may see us: there is one more, our own.
const MAPPED_MAX: usize = CANDIDATES_MAX - 1;

/// Addresses that one edge is dialled at: as many as the tracker names.
const SOCKETS_MAX: usize = 4;

/// How to dial.
#[derive(Debug, Clone)]
pub struct Config {
    /// Local address to send from; none lets the system choose.
    pub bind: Option<IpAddr>,
    /// The certificate to show; none makes one for this connection.
    pub certificate: Option<Certificate>,
    /// Give up when the connection is not open by then.
    pub timeout: Duration,
    /// A peer that answers nothing for so long is gone.
    pub consent_timeout: Duration,
    /// Bytes of pieces buffered for sending before `send` waits.
    pub send_bytes_max: usize,
    /// The SCTP receive window: rate × round trip must fit.
    pub receive_window_bytes: u32,
    /// Bytes received that the application has not taken, beyond the window.
    pub inbox_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: None,
            certificate: None,
            timeout: Duration::from_secs(10),
            consent_timeout: Duration::from_secs(15),
            send_bytes_max: 256 * 1024,
            receive_window_bytes: 1024 * 1024,
            inbox_bytes_max: 1024 * 1024,
        }
    }
}

/// Why a connection did not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be dialled: credentials or port out of range.
    #[error("the address is not valid: {0}")]
    Address(&'static str),
    /// The socket could not be made.
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    /// No certificate could be made.
    #[error("no certificate: {0}")]
    Certificate(#[from] crate::CertificateError),
    /// The edge showed another certificate than the address promised.
    #[error("the edge's certificate is not the one that was promised")]
    Fingerprint,
    /// The edge refused or broke the handshake.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// Nobody listens there.
    #[error("nobody listens there")]
    Refused,
    /// It took longer than the timeout.
    #[error("no connection in time")]
    Timeout,
}

/// Connects to an edge: ICE check, DTLS, SCTP; both channels are ready when it returns. Spawns a task on the current
/// tokio runtime that ends with the connection. Cancel-safe: dropping the future gives the attempt up.
///
/// # Errors
///
/// When the edge does not answer in time, is not the one promised, or breaks the protocol.
pub async fn dial(address: &Address, config: Config) -> Result<Connection, Error> {
    let dial = Dial::prepare(address, config)?;
    // Connected: strangers' datagrams never reach us, and the network's refusals do.
    dial.socket.connect(address.socket)?;
    dial.connect().await
}

/// A viewer that has a port and has not dialled yet. For an edge behind NAT, which must be told first where the viewer
/// is, and may answer from another address than the one it is known by:
///
/// ```no_run
/// # async fn example(
/// #     address: millstream_datachannel::Address,
/// #     server: std::net::SocketAddr,
/// #     signal: impl Fn(millstream_datachannel::Candidates),
/// # ) -> Result<(), millstream_datachannel::dial::Error> {
/// use millstream_datachannel::{Dial, dial};
///
/// let mut dial = Dial::prepare(&address, dial::Config::default())?;
/// dial.mapped(server).await?; // without NAT on this side, its own address will do
/// signal(dial.candidates()?); // by way of the tracker
/// let connection = dial.connect().await?;
/// # Ok(())
/// # }
/// ```
pub struct Dial {
    address: Address,
    others: Vec<SocketAddr>,
    config: Config,
    setup: Setup,
    socket: std::net::UdpSocket,
    ufrag: String,
    password: String,
    mapped: Vec<SocketAddr>,
}

impl Dial {
    /// Takes a port and makes up the credentials.
    ///
    /// # Errors
    ///
    /// When the address cannot be dialled, or there is no socket, certificate or randomness.
    pub fn prepare(address: &Address, config: Config) -> Result<Self, Error> {
        if !is_ice_text(&address.ufrag, &UFRAG_CHARS) || !is_ice_text(&address.password, &PASSWORD_CHARS) {
            return Err(Error::Address("ICE credentials"));
        }
        if address.socket.port() == 0 || address.socket.ip().is_unspecified() {
            return Err(Error::Address("UDP address"));
        }
        let certificate = match &config.certificate {
            Some(certificate) => certificate.clone(),
            None => Certificate::generate()?,
        };
        let setup = Setup::new(&certificate, config.receive_window_bytes)?;
        let bind = config.bind.unwrap_or(unspecified(address.socket));
        Ok(Self {
            address: address.clone(),
            others: Vec::new(),
            config,
            setup,
            socket: socket::bind(SocketAddr::new(bind, 0), false)?,
            ufrag: random_token(UFRAG_LENGTH).map_err(io::Error::other)?,
            password: random_token(PASSWORD_LENGTH).map_err(io::Error::other)?,
            mapped: Vec::new(),
        })
    }

    /// Another address at which the same edge may be: all are checked in turn, 50 ms apart (RFC 8445 §14.2), and the first
    /// that answers is taken. One of the other family is passed over, for this port has but one, and so are those beyond
    /// four.
    pub fn or_at(&mut self, socket: SocketAddr) {
        let is_known = socket == self.address.socket || self.others.contains(&socket);
        let is_usable = socket.port() > 0 && socket.is_ipv4() == self.address.socket.is_ipv4();
        if is_usable && !is_known && self.others.len() + 1 < SOCKETS_MAX {
            self.others.push(socket);
        }
    }

    /// Where `server` sees this port come from; a candidate from now on. Asks five times in 1.5 s and gives up after 3 s.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or does not answer.
    pub async fn mapped(&mut self, server: SocketAddr) -> Result<SocketAddr, Error> {
        let socket = UdpSocket::from_std(self.socket.try_clone()?)?;
        let mut transaction = TransactionId::default();
        getrandom::fill(&mut transaction).map_err(io::Error::other)?;
        let request = stun::binding_request(transaction);
        let asked = Instant::now();
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        for wait in QUERY_AT.into_iter().skip(1).chain([QUERY_LIFE]) {
            socket.send_to(&request, server).await?;
            while let Ok(received) = timeout_at(asked + wait, socket.recv_from(&mut datagram)).await {
                // The network's complaints about others are not this server's answer.
                let Ok((length, from)) = received else { continue };
                let answer = stun::Message::parse(datagram.get(..length).unwrap_or_default());
                if let Ok(stun::Message {
                    class: Class::Success, transaction: of, mapped: Some(mapped), ..
                }) = answer
                    && of == transaction
                    && is_same(from, server)
                {
                    if !self.mapped.contains(&mapped) && self.mapped.len() < MAPPED_MAX {
                        self.mapped.push(mapped);
                    }
                    return Ok(mapped);
                }
            }
        }
        Err(Error::Timeout)
    }

    /// What the edge must be told: the credentials, and where this viewer is as far as it knows.
    ///
    /// # Errors
    ///
    /// When the network cannot say which address it would send from.
    pub fn candidates(&self) -> Result<Candidates, Error> {
        let mut own = self.socket.local_addr()?;
        if own.ip().is_unspecified() {
            // Connecting a UDP socket sends nothing; it asks the system which way it would go.
            let probe = std::net::UdpSocket::bind(SocketAddr::new(own.ip(), 0))?;
            probe.connect(self.address.socket)?;
            own.set_ip(probe.local_addr()?.ip());
        }
        let mut candidates = self.mapped.clone();
        if !candidates.contains(&own) {
            candidates.push(own);
        }
        Ok(Candidates { ufrag: self.ufrag.clone(), password: self.password.clone(), candidates })
    }

    /// Connects: as [`dial()`], but takes the edge where its own checks come from, too.
    ///
    /// # Errors
    ///
    /// When the edge does not answer in time, is not the one promised, or breaks the protocol.
    pub async fn connect(self) -> Result<Connection, Error> {
        let Self { address, others, config, setup, socket, ufrag, password, .. } = self;
        let timeout = config.timeout;
        let own = Credentials { ufrag, password };
        let driver = Driver::new(Socket::adopt(socket)?, address, &others, own, config, setup)?;
        let (opened, outcome) = oneshot::channel();
        tokio::spawn(driver.run(opened));
        match tokio::time::timeout(timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            // The driver ends without a word only when its runtime does.
            Ok(Err(_)) | Err(_) => Err(Error::Timeout),
        }
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("address", &self.address)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

const fn unspecified(towards: SocketAddr) -> IpAddr {
    match towards {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Channel, Listener, listen};

    #[tokio::test]
    async fn an_edge_is_found_at_whichever_of_its_addresses_answers() {
        let certificate = Certificate::generate().unwrap();
        let bound = listen::Config::new("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let mut listener = Listener::bind(bound).unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let real = listener.address().clone();
        let address = Address { socket: silent.local_addr().unwrap(), ..real };
        let mut dial = Dial::prepare(&address, Config::default()).unwrap();
        for socket in [address.socket, "[::1]:9".parse().unwrap(), "127.0.0.1:0".parse().unwrap()] {
            dial.or_at(socket);
        }
        assert_eq!(dial.others, [], "none of these is of use");
        dial.or_at(real.socket);
        let opening = async { tokio::join!(dial.connect(), listener.accept()) };
        let (viewer, _edge) = tokio::time::timeout(Duration::from_secs(20), opening).await.expect("it opens");
        assert_eq!(viewer.unwrap().remote_addr(), real.socket);
    }

    /// Checks that were sent elsewhere may come after the edge was found, and must not call it away from there.
    #[tokio::test]
    async fn a_check_that_comes_late_by_another_way_does_not_move_the_edge() {
        let certificate = Certificate::generate().unwrap();
        let bound = listen::Config::new("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let mut listener = Listener::bind(bound).unwrap();
        let real = listener.address().clone();
        let detour = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = Address { socket: detour.local_addr().unwrap(), ..real };
        let edge_at = real.socket;
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let delaying = tokio::spawn(async move {
            let mut datagram = [0; 2_048];
            while let Ok((length, from)) = detour.recv_from(&mut datagram).await {
                if from == edge_at {
                    let _ = answered.send(());
                } else {
                    // waits because it is a long way
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    detour.send_to(&datagram[..length], edge_at).await.unwrap();
                }
            }
        });
        let mut dial = Dial::prepare(&address, Config::default()).unwrap();
        dial.or_at(edge_at);
        let opening = async { tokio::join!(dial.connect(), listener.accept()) };
        let (viewer, edge) = tokio::time::timeout(Duration::from_secs(20), opening).await.expect("it opens");
        let (viewer, edge) = (viewer.unwrap(), edge.unwrap());
        let late = tokio::time::timeout(Duration::from_secs(20), answers.recv()).await;
        assert_eq!(late.expect("the edge answers by the detour"), Some(()));
        edge.send(Channel::Control, Bytes::from_static(b"here?")).await.unwrap();
        // The next check that is nominated would call it back.
        let patience = driver::CONSENT_INTERVAL - Duration::from_secs(1);
        let heard = tokio::time::timeout(patience, viewer.recv()).await.expect("it is where it was found");
        assert_eq!(heard.unwrap().bytes, b"here?"[..]);
        delaying.abort();
    }
}
