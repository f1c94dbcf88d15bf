//! Tickets: the broadcaster's permission to watch, a JWT (RFC 7519) signed with EdDSA (RFC 8037).
//!
//! ```json
//! {"sub": "<stream>", "key": "<session key, base64url>", "jti": "<once>", "iat": 1764000000, "exp": 1764000240}
//! ```

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use millstream_model::{PublicKey, SessionKey, StreamId, WallTime};
use serde::Deserialize;

/// Longest life of a ticket in seconds: it opens a session, which then lives by itself.
pub(crate) const LIFE_SECONDS_MAX: u64 = 300;

/// Seconds by which clocks may differ.
const SKEW_SECONDS: u64 = 30;

/// Bytes of a ticket at most.
const TICKET_BYTES_MAX: usize = 4 * 1024;

/// Characters of a `jti` at most: a UUID has 36.
const JTI_CHARS_MAX: usize = 64;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Claims {
    sub: StreamId,
    key: SessionKey,
    /// Used once.
    pub(crate) jti: String,
    exp: u64,
    #[serde(default)]
    iat: Option<u64>,
}

impl Claims {
    /// When a used `jti` may be forgotten: no ticket with it can be valid any more.
    pub(crate) fn forget_at(&self) -> WallTime {
        WallTime(self.exp.saturating_add(SKEW_SECONDS).saturating_mul(1_000))
    }
}

/// Why a ticket does not admit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no ticket: this stream wants one from its broadcaster")]
    Missing,
    #[error("the ticket is not a JWT signed with EdDSA by the stream's ticket key: {0}")]
    Signature(String),
    #[error("the ticket is for the stream {0}")]
    Stream(StreamId),
    #[error("the ticket is for another session key")]
    Key,
    #[error("the ticket expired")]
    Expired,
    #[error("the ticket lives longer than 5 minutes")]
    Life,
    #[error("the ticket was issued in the future")]
    Early,
    #[error("the ticket's jti is empty or too long")]
    Jti,
}

/// Checks everything but whether the `jti` was used. `key` is whose ticket it has to be; none where nobody has a key,
/// because no session begins.
pub(crate) fn check(
    ticket: Option<&str>,
    signer: PublicKey,
    stream: &StreamId,
    key: Option<SessionKey>,
    now: WallTime,
) -> Result<Claims, Refused> {
    let ticket = ticket.ok_or(Refused::Missing)?;
    if ticket.len() > TICKET_BYTES_MAX {
        return Err(Refused::Signature("too long".into()));
    }
    let mut rules = Validation::new(Algorithm::EdDSA);
    // Times are checked below, against the tracker's own clock and with our limits.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let signer = DecodingKey::from_ed_der(signer.as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(ticket, &signer, &rules)
        .map_err(|error| Refused::Signature(error.to_string()))?
        .claims;
    if claims.sub != *stream {
        return Err(Refused::Stream(claims.sub));
    }
    if key.is_some_and(|key| claims.key != key) {
        return Err(Refused::Key);
    }
    if claims.jti.is_empty() || claims.jti.len() > JTI_CHARS_MAX {
        return Err(Refused::Jti);
    }
    let seconds = now.0 / 1_000;
    if claims.exp.saturating_add(SKEW_SECONDS) <= seconds {
        return Err(Refused::Expired);
    }
    if claims.iat.is_some_and(|iat| iat > seconds.saturating_add(SKEW_SECONDS)) {
        return Err(Refused::Early);
    }
    // By its own word and by our clock: whoever dates it ahead would have it live as long as they like, and its `jti`
    // kept as long.
    let own = claims.iat.map_or(0, |iat| claims.exp.saturating_sub(iat));
    let left = claims.exp.saturating_sub(seconds);
    if own > LIFE_SECONDS_MAX || left > LIFE_SECONDS_MAX + SKEW_SECONDS {
        return Err(Refused::Life);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use millstream_wire::sign::{SecretKey, Signer as _};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn signer() -> SecretKey {
        SecretKey::from_seed(&[1; 32])
    }

    fn key() -> SessionKey {
        SessionKey([2; 33])
    }

    fn stream() -> StreamId {
        StreamId::new("show").unwrap()
    }

    fn ticket(header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let input =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = encode(&signer().sign(input.as_bytes()));
        format!("{input}.{signature}")
    }

    fn claims(exp: u64) -> serde_json::Value {
        serde_json::json!({"sub": "show", "key": key(), "jti": "one", "exp": exp})
    }

    fn eddsa() -> serde_json::Value {
        serde_json::json!({"alg": "EdDSA", "typ": "JWT"})
    }

    fn judge(ticket: &str) -> Result<Claims, Refused> {
        check(Some(ticket), signer().public(), &stream(), Some(key()), NOW)
    }

    #[test]
    fn a_good_ticket_admits() {
        let claims = judge(&ticket(&eddsa(), &claims(1_800_000_240))).unwrap();
        assert_eq!(claims.jti, "one");
    }

    #[test]
    fn a_ticket_that_is_dated_ahead_lives_no_longer() {
        for iat in [1_800_000_020, 1_900_000_000, u64::MAX] {
            let mut ahead = claims(iat.saturating_add(240));
            ahead["iat"] = iat.into();
            let result = judge(&ticket(&eddsa(), &ahead));
            if iat == 1_800_000_020 {
                assert!(result.is_ok(), "the broadcaster's clock may be ahead a little");
            } else {
                assert_eq!(result, Err(Refused::Early), "{iat}");
            }
        }
    }

    #[test]
    fn every_fault_has_its_reason() {
        let good = claims(1_800_000_240);
        assert_eq!(check(None, signer().public(), &stream(), Some(key()), NOW), Err(Refused::Missing));
        assert!(matches!(judge("a.b.c"), Err(Refused::Signature(_))));
        let none = serde_json::json!({"alg": "none"});
        assert!(matches!(judge(&ticket(&none, &good)), Err(Refused::Signature(_))));
        let mut forged = ticket(&eddsa(), &good);
        forged.replace_range(forged.len() - 8.., "AAAAAAAA");
        assert!(matches!(judge(&forged), Err(Refused::Signature(_))));
        assert_eq!(judge(&ticket(&eddsa(), &claims(1_799_999_000))), Err(Refused::Expired));
        assert_eq!(judge(&ticket(&eddsa(), &claims(1_800_009_000))), Err(Refused::Life));
        let other = check(
            Some(&ticket(&eddsa(), &good)),
            signer().public(),
            &StreamId::new("other").unwrap(),
            Some(key()),
            NOW,
        );
        assert_eq!(other, Err(Refused::Stream(stream())));
        let thief = check(
            Some(&ticket(&eddsa(), &good)),
            signer().public(),
            &stream(),
            Some(SessionKey([3; 33])),
            NOW,
        );
        assert_eq!(thief, Err(Refused::Key));
    }

    #[test]
    fn a_ticket_lives_five_minutes_whatever_it_says_of_its_beginning() {
        let issued = |iat: u64, exp: u64| {
            let mut claims = claims(exp);
            claims["iat"] = iat.into();
            judge(&ticket(&eddsa(), &claims))
        };
        let now = NOW.0 / 1_000;
        assert!(issued(now, now + LIFE_SECONDS_MAX).is_ok());
        assert!(issued(now + SKEW_SECONDS, now + SKEW_SECONDS + LIFE_SECONDS_MAX).is_ok(), "a clock ahead");
        assert!(issued(now - 250, now + 50).is_ok());
        assert_eq!(issued(now - 1, now + LIFE_SECONDS_MAX), Err(Refused::Life));
        assert_eq!(issued(now + SKEW_SECONDS + 1, now + 60), Err(Refused::Early));
        let years = now + 10 * 365 * 86_400;
        assert_eq!(issued(years, years + 60), Err(Refused::Early));
        assert_eq!(issued(u64::MAX - 60, u64::MAX), Err(Refused::Early));
        assert_eq!(issued(now, u64::MAX), Err(Refused::Life));
        assert_eq!(judge(&ticket(&eddsa(), &claims(u64::MAX))), Err(Refused::Life));
    }

    #[test]
    fn the_end_of_time_is_no_beginning() {
        let claims = Claims { sub: stream(), key: key(), jti: "one".into(), exp: u64::MAX, iat: None };
        assert_eq!(claims.forget_at(), WallTime(u64::MAX));
    }
}
