//! RTMPS: the listener behind TLS, and where its certificate comes from.
//!
//! What is decrypted is served like any other connection, in the seat that it took before its handshake. What never
//! belongs here: RTMP, limits.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context as _;
use millstream_service::{data::Folder, http};

millstream_service::settings! {
    /// RTMPS: the same behind TLS, on a port of its own. It listens where files are named, or `self_made` is set.
    pub struct Config {
        /// Address and port to listen on; port 0 takes a free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1936)),
        /// The certificate chain (PEM), the server's own first.
        pub certificate: PathBuf = PathBuf::new(),
        /// Its private key (PEM).
        pub key: PathBuf = PathBuf::new(),
        /// Seconds between two looks whether the files have changed.
        pub reload_seconds: u64 = 30,
        /// Without files: makes a certificate for `localhost` and keeps it in the data folder. For trying it out:
        /// nobody vouches for it, and encoders have to be told not to ask.
        pub self_made: bool = false,
    }
}

/// A certificate that was made here, and its key, in the data folder.
const CERTIFICATE_FILE: &str = "rtmps.crt";
const KEY_FILE: &str = "rtmps.key";

/// Bytes of such a file at most; one has under a kilobyte.
const FILE_BYTES_MAX: usize = 16 * 1024;

/// What a certificate that was made here is good for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Config {
    /// The certificate to use; `None` where RTMPS is not asked for.
    ///
    /// # Errors
    /// When files cannot be read or used, or are named beside `self_made`.
    pub fn load(&self, folder: &Folder) -> anyhow::Result<Option<http::Tls>> {
        let named = !(self.certificate.as_os_str().is_empty() && self.key.as_os_str().is_empty());
        anyhow::ensure!(
            !(named && self.self_made),
            "`rtmp.tls`: either `certificate` and `key`, or `self_made`"
        );
        let mut files = http::tls::Config {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reload_seconds: self.reload_seconds,
        };
        if self.self_made {
            make(folder).context("a certificate for RTMPS")?;
            files.certificate = folder.path().join(CERTIFICATE_FILE);
            files.key = folder.path().join(KEY_FILE);
        } else if !named {
            return Ok(None);
        }
        // RTMP has no name in ALPN.
        Ok(Some(http::Tls::load_for(&files, &[])?))
    }
}

/// Makes a certificate the first time; then it stays, so that whoever decided to trust it may go on.
fn make(folder: &Folder) -> anyhow::Result<()> {
    let certificate = folder.read(CERTIFICATE_FILE, FILE_BYTES_MAX)?;
    if certificate.is_some() && folder.read(KEY_FILE, FILE_BYTES_MAX)?.is_some() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(NAMES.map(String::from))?;
    folder.write(KEY_FILE, made.signing_key.serialize_pem().as_bytes())?;
    folder.write(CERTIFICATE_FILE, made.cert.pem().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_only_when_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert!(Config::default().load(&folder).unwrap().is_none());
        let config = Config { self_made: true, ..Config::default() };
        assert!(config.load(&folder).unwrap().is_some());
        let first = std::fs::read(place.path().join(CERTIFICATE_FILE)).unwrap();
        assert!(config.load(&folder).unwrap().is_some());
        assert_eq!(std::fs::read(place.path().join(CERTIFICATE_FILE)).unwrap(), first);
        let both = Config { certificate: "cert.pem".into(), ..config };
        assert!(both.load(&folder).unwrap_err().to_string().contains("either"));
        let absent = Config { certificate: "cert.pem".into(), key: "key.pem".into(), ..Config::default() };
        assert!(absent.load(&folder).unwrap_err().to_string().contains("cert.pem"));
    }
}
