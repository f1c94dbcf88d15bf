//! The native viewer's side: one UDP socket and one task a connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    Address, Certificate, Connection, PASSWORD_CHARS, UFRAG_CHARS,
    address::is_ice_text,
    link::Setup,
    socket::{self, Socket},
};

mod driver;

use driver::Driver;

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
    if !is_ice_text(&address.ufrag, &UFRAG_CHARS) || !is_ice_text(&address.password, &PASSWORD_CHARS) {
        return Err(Error::Address("ICE credentials"));
    }
    if address.socket.port() == 0 || address.socket.ip().is_unspecified() {
        return Err(Error::Address("UDP address"));
    }
    let unspecified = match address.socket {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let certificate = match &config.certificate {
        Some(certificate) => certificate.clone(),
        None => Certificate::generate()?,
    };
    let setup = Setup::new(&certificate, config.receive_window_bytes)?;
    let socket = socket::bind(SocketAddr::new(config.bind.unwrap_or(unspecified), 0), false)?;
    // Connected: strangers' datagrams never reach us, and the network's refusals do.
    socket.connect(address.socket)?;
    let timeout = config.timeout;
    let driver = Driver::new(Socket::adopt(socket)?, address.clone(), config, setup)?;
    let (opened, outcome) = oneshot::channel();
    tokio::spawn(driver.run(opened));
    match tokio::time::timeout(timeout, outcome).await {
        Ok(Ok(outcome)) => outcome,
        // The driver ends without a word only when its runtime does.
        Ok(Err(_)) | Err(_) => Err(Error::Timeout),
    }
}
