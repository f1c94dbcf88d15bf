//! What the edge is known by, made at the first start and kept 0600: device key, DTLS certificate, ICE credentials.

use anyhow::Context as _;
use millstream_datachannel::{Certificate, random_token};
use millstream_model::TrackerId;
use millstream_service::data::Folder;
use millstream_wire::sign::SecretKey;

/// A P-256 certificate with its key has some 700 bytes of PEM.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Two short words.
const ICE_BYTES_MAX: usize = 1_024;

/// Characters of the ICE user name fragment: enough that two edges never share one.
const UFRAG_CHARS: usize = 8;

/// Characters of the ICE password (RFC 8839 §5.4 wants 22 at least).
const PASSWORD_CHARS: usize = 24;

pub(crate) struct Identity {
    pub(crate) key: SecretKey,
    pub(crate) certificate: Certificate,
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Identity {
    /// Reads what is kept, and makes what is not there yet. Browsers that were given the edge's address by the
    /// tracker find it there after a restart, because all of it stays the same.
    pub(crate) fn load(folder: &Folder) -> anyhow::Result<Self> {
        let key = SecretKey::from_seed(folder.seed("device.key")?.expose());
        let (ufrag, password) = ice(folder)?;
        Ok(Self { key, certificate: certificate(folder)?, ufrag, password })
    }
}

fn certificate(folder: &Folder) -> anyhow::Result<Certificate> {
    const NAME: &str = "certificate.pem";
    if let Some(pem) = folder.secret_text(NAME, CERTIFICATE_BYTES_MAX)? {
        let path = folder.path().join(NAME);
        return Certificate::from_pem(pem.expose()).with_context(|| path.display().to_string());
    }
    let made = Certificate::generate().context("the DTLS certificate could not be made")?;
    folder.write(NAME, made.to_pem()?.as_bytes())?;
    Ok(made)
}

fn ice(folder: &Folder) -> anyhow::Result<(String, String)> {
    const NAME: &str = "ice.txt";
    if let Some(text) = folder.secret_text(NAME, ICE_BYTES_MAX)? {
        let mut words = text.expose().split_whitespace().map(str::to_owned);
        if let (Some(ufrag), Some(password), None) = (words.next(), words.next(), words.next()) {
            return Ok((ufrag, password));
        }
        anyhow::bail!(
            "{}: two words belong there; delete it and new ones are made",
            folder.path().join(NAME).display()
        );
    }
    let random = |chars| random_token(chars).map_err(|error| anyhow::anyhow!("no randomness: {error}"));
    let (ufrag, password) = (random(UFRAG_CHARS)?, random(PASSWORD_CHARS)?);
    folder.write(NAME, format!("{ufrag} {password}\n").as_bytes())?;
    Ok((ufrag, password))
}

/// The key of the tracker that was last talked to: with it, grants are checked while the tracker is out of reach.
pub(crate) fn last_tracker(folder: &Folder) -> anyhow::Result<Option<TrackerId>> {
    let Some(bytes) = folder.read("tracker.txt", ICE_BYTES_MAX)? else { return Ok(None) };
    Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok()))
}

pub(crate) fn keep_tracker(folder: &Folder, tracker: TrackerId) -> anyhow::Result<()> {
    if last_tracker(folder)? != Some(tracker) {
        folder.write("tracker.txt", format!("{tracker}\n").as_bytes())?;
    }
    Ok(())
}
