//! A delivery's signature, as Standard Webhooks has it (<https://www.standardwebhooks.com>), so that receivers check
//! it with a library that exists.
//!
//! Pure: `HMAC-SHA256(secret, "{id}.{timestamp}.{body}")` in base64, as `v1,…`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use millstream_service::Secret;
use sha2::Sha256;

/// What every secret begins with, so that one is known when it is seen where it does not belong.
const PREFIX: &str = "whsec_";

/// Bytes of a secret at least and at most, as the standard has them.
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;

/// Signs deliveries.
#[derive(Debug)]
pub(super) struct Key(Secret<Vec<u8>>);

/// A text is no secret. Does not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its secret must be `{PREFIX}` and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64; \
     make one with `echo {PREFIX}$(openssl rand -base64 32)`"
)]
pub(super) struct NoSecret;

impl Key {
    /// Reads a secret.
    pub(super) fn parse(text: &Secret<String>) -> Result<Self, NoSecret> {
        let encoded = text.expose().strip_prefix(PREFIX).ok_or(NoSecret)?;
        let bytes = Secret::new(STANDARD.decode(encoded).map_err(|_| NoSecret)?);
        let is_long_enough = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.expose().len());
        if is_long_enough { Ok(Self(bytes)) } else { Err(NoSecret) }
    }

    /// The value of `webhook-signature` for what is sent at `timestamp` (seconds since 1970).
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        // Any length will do for HMAC, so there is always one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose()) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Key, NoSecret> {
        Key::parse(&Secret::new(text.to_owned()))
    }

    /// By `printf %s 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac HMAC
    /// -macopt hexkey:… -binary | base64`.
    #[test]
    fn a_signature_is_what_openssl_says() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        for text in
            ["hunter2", "whsec_", "whsec_aHVudGVyMg==", "whsec_not base64 at all, but long enough", ""]
        {
            let error = key(text).unwrap_err().to_string();
            assert!(error.contains("openssl rand") && !error.contains("hunter2"), "{error}");
        }
        assert!(key(&format!("whsec_{}", STANDARD.encode([7; 65]))).is_err());
        assert!(
            format!("{:?}", key(&format!("whsec_{}", STANDARD.encode([7; 64]))).unwrap()).contains("***")
        );
    }
}
