//! The one place that knows WebRTC: data channels over one UDP port.
//!
//! An edge is an ICE-lite agent with a fixed password and certificate: whoever was told its [`Address`] connects
//! without a signalling round trip, a browser by writing the SDP answer itself, a native viewer by [`dial()`].
//! `docs/protocol/transport.md` is the normative text. An edge behind NAT must be told first where the viewer is
//! ([`listen::traversal`], [`Dial`]); all else stays as it is.
//!
//! ```text
//! UDP ─ demux ─┬─ stun ── the ICE agent: who may connect, where a peer is now
//!              └─ link ── DTLS 1.3 or 1.2, `millstream_sctp`, two data channels for one peer
//!                  └── Connection: what the rest of Millstream holds
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use millstream_datachannel::{Certificate, Channel, Listener, dial, listen};
//!
//! let config = listen::Config::new("0.0.0.0:4443".parse()?, Certificate::generate()?)?;
//! let mut listener = Listener::bind(config)?;
//! let address = listener.address().clone(); // the tracker hands it out
//!
//! let (viewer, edge) = tokio::join!(dial(&address, dial::Config::default()), listener.accept());
//! let (viewer, edge) = (viewer?, edge.ok_or("the listener failed")?);
//! edge.send(Channel::Pieces, Bytes::from_static(b"a piece")).await?;
//! let message = viewer.recv().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`Listener`] owns one address and [`listen::Config::cores`] threads, each with a socket and the connections that the
//! kernel gives it; [`dial()`] owns one socket and one task. [`Connection`] is a handle to either. What never belongs
//! here: what the messages mean.
#![forbid(unsafe_code)]

mod address;
mod certificate;
pub mod connection;
pub mod demux;
pub mod dial;
mod link;
pub mod listen;
mod session;
mod socket;
pub mod stun;

pub use address::{Address, CANDIDATES_MAX, Candidates, PASSWORD_CHARS, UFRAG_CHARS, random_token};
pub use certificate::{Certificate, CertificateError};
pub use connection::{
    Channel, CloseReason, Closed, Connection, MESSAGE_BYTES_MAX, Message, SendError, Stats,
};
pub use dial::{Dial, dial};
pub use link::dtls;
pub use listen::Listener;
