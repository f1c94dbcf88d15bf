//! TLS from certificate files, read anew when they change.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

pub use tokio_rustls::server::TlsStream;

use crate::tasks::Spawner;

/// HTTP/2's name in ALPN (RFC 9113).
pub(crate) const HTTP2: &[u8] = b"h2";

/// HTTP/1.1's name in ALPN (RFC 7301).
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// Longest certificate or key file read: chains have a few kilobytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

crate::settings! {
    /// Certificate files for TLS.
    pub struct Config {
        /// The certificate chain (PEM), the server's own first.
        pub certificate: PathBuf = PathBuf::new(),
        /// Its private key (PEM).
        pub key: PathBuf = PathBuf::new(),
        /// Seconds between two looks whether the files have changed.
        pub reload_seconds: u64 = 30,
    }
}

/// Why there is no TLS. After a failed reload the old certificate stays in use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The two do not fit each other, or are of a kind we cannot use.
    #[error("{certificate} with {key}: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The certificate's protocol versions are not available.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// A certificate in use, and how to renew it. Clones share it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").field("config", &self.current.config).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, for HTTP.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load(config: &Config) -> Result<Self, Error> {
        Self::load_for(config, &[HTTP2, HTTP1])
    }

    /// Reads the files, for these protocols by their names in ALPN (RFC 7301); none where it has no name.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub fn load_for(config: &Config, protocols: &[&[u8]]) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let files = Files::read(config)?;
        let pair = files.pair(config, &provider)?;
        let current = Arc::new(Current {
            config: config.clone(),
            provider: Arc::clone(&provider),
            state: RwLock::new((files, Arc::new(pair))),
        });
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), current })
    }

    /// Reads the files again; new connections use what changed. Says whether something did.
    ///
    /// # Errors
    /// When they cannot be read or used; the old certificate stays.
    pub fn reload(&self) -> Result<bool, Error> {
        let current = &self.current;
        let files = Files::read(&current.config)?;
        if current.state.read().unwrap_or_else(PoisonError::into_inner).0 == files {
            return Ok(false);
        }
        let pair = Arc::new(files.pair(&current.config, &current.provider)?);
        *current.state.write().unwrap_or_else(PoisonError::into_inner) = (files, pair);
        Ok(true)
    }

    /// Does the handshake with a client. Takes as long as the client does: bound it.
    ///
    /// # Errors
    /// When there is no handshake.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(socket).await
    }

    pub(super) const fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Looks for changed files as long as the program runs. By content: renewal tools swap links and keep times.
    pub fn spawn_reload(&self, tasks: &Spawner) {
        let this = self.clone();
        let every = Duration::from_secs(self.current.config.reload_seconds.max(1));
        tasks.spawn_until_drain("tls reload", async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            loop {
                ticks.tick().await;
                let look = this.clone();
                match tokio::task::spawn_blocking(move || look.reload()).await {
                    Ok(Ok(true)) => tracing::info!(config = ?this.current.config, "new certificate in use"),
                    Ok(Ok(false)) | Err(_) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "the old certificate stays in use"),
                }
            }
        });
    }
}

/// What the files held when they were last read.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: crate::Secret<Vec<u8>>,
}

impl Files {
    fn read(config: &Config) -> Result<Self, Error> {
        Ok(Self { certificate: read(&config.certificate)?, key: crate::Secret::new(read(&config.key)?) })
    }

    fn pair(&self, config: &Config, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
        let content = |path: &Path, error: &pem::Error| Error::Content {
            path: path.to_owned(),
            // The error for a damaged file may quote it; a key must not be quoted.
            reason: match error {
                pem::Error::NoItemsFound => String::from("holds none in PEM"),
                _ => String::from("is damaged PEM"),
            },
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| content(&config.certificate, &error))?;
        if chain.is_empty() {
            return Err(content(&config.certificate, &pem::Error::NoItemsFound));
        }
        let key =
            PrivateKeyDer::from_pem_slice(self.key.expose()).map_err(|error| content(&config.key, &error))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::Pair {
            certificate: config.certificate.clone(),
            key: config.key.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        let reason = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err(Error::Content { path: path.to_owned(), reason });
    }
    std::fs::read(path).map_err(failed)
}

struct Current {
    config: Config,
    provider: Arc<CryptoProvider>,
    state: RwLock<(Files, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Current {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Current").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).1))
    }
}
