//! Whom a program believes when it connects by TLS: the system's authorities, and an operator's own.
//!
//! For every HTTP client and WebSocket that a program opens, so that all of them believe the same. What never belongs
//! here: whose key signs what (that is the domain's), and certificates that a program itself shows (`http::tls`).

use std::{error::Error as StdError, io, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::http::tls::{HTTP1, HTTP2};

/// Longest file of authorities read: the system's own bundle has 220 KB.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

crate::settings! {
    /// Whom to believe when connecting by TLS.
    pub struct Config {
        /// Certificates (PEM) of authorities that are believed besides the system's: a private one. Empty: none.
        pub ca_file: PathBuf = PathBuf::new(),
    }
}

/// Why an operator's authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("trust.ca_file {path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds nothing that can be used.
    #[error("trust.ca_file {path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no TLS version that both we and the library speak.
    #[error("TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Believed authorities. Clones share them.
#[derive(Debug, Clone)]
pub struct Trust {
    /// For WebSockets: no protocol is named, which means HTTP/1.1.
    socket: Arc<ClientConfig>,
}

impl Trust {
    /// The system's authorities, and those of the configured file.
    ///
    /// # Errors
    /// When the file cannot be read or used. A system without authorities is no error: then nobody is believed but
    /// the file's.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::debug!(%error, "an authority of the system cannot be read");
        }
        // Systems carry old certificates that today's rules refuse; the others are used.
        roots.add_parsable_certificates(found.certs);
        if !config.ca_file.as_os_str().is_empty() {
            add_own(&mut roots, config)?;
        }
        Self::of(roots)
    }

    /// The system's authorities alone.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn system() -> Result<Self, Error> {
        Self::load(&Config::default())
    }

    fn of(roots: RootCertStore) -> Result<Self, Error> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { socket: Arc::new(config) })
    }

    /// For an HTTP client, which may speak HTTP/2.
    #[must_use]
    pub fn http(&self) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.socket);
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config
    }

    /// For a WebSocket.
    #[must_use]
    pub fn socket(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.socket)
    }
}

/// An error of a connection with all its causes, and the way out where the certificate is of an authority that is
/// not believed.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if !text.ends_with(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
        if is_unknown_issuer(cause) {
            return format!(
                "{text}: the certificate is of an authority that is not known here; where it is your own, \
                 name its file in `trust.ca_file` (`--ca-file` of millstream view)"
            );
        }
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // What an I/O error carries is its cause, but `source` skips over it.
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    text
}

fn is_unknown_issuer(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

fn add_own(roots: &mut RootCertStore, config: &Config) -> Result<(), Error> {
    let path = &config.ca_file;
    let failed = |source| Error::Read { path: path.clone(), source };
    let content = |reason: String| Error::Content { path: path.clone(), reason };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(content(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read(path).map_err(failed)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| content(format!("is damaged PEM: {error}")))?;
        roots.add(certificate).map_err(|error| content(format!("is no authority's certificate: {error}")))?;
        count += 1;
    }
    if count == 0 {
        return Err(content(String::from("holds no certificate in PEM")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_authority_is_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let load = || Trust::load(&Config { ca_file: path.clone() }).map(|_| ()).unwrap_err().to_string();
        assert!(load().contains("ca.pem: cannot be read"), "{}", load());
        std::fs::write(&path, "nothing").unwrap();
        assert!(load().contains("ca.pem: holds no certificate"), "{}", load());
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(load().contains("ca.pem: is no authority's certificate"), "{}", load());
    }

    #[test]
    fn an_unknown_authority_is_explained_however_deep_it_lies() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let text = explain(&io::Error::other(io::Error::other(inner)));
        assert!(text.contains("UnknownIssuer") && text.contains("trust.ca_file"), "{text}");
        let other = explain(&io::Error::other(rustls::Error::HandshakeNotComplete));
        assert!(!other.contains("ca_file"), "{other}");
    }
}
