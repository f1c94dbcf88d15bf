//! The broadcaster's permission to watch.

use millstream_model::{SessionKey, StreamId, WallTime, base64url};
use millstream_wire::sign::{SecretKey, Signer as _};

use crate::script::Script;

// A private room of the tracker, and all that is needed of it.
#[allow(dead_code, reason = "the tracker uses the rest")]
#[path = "../../tracker/src/ticket.rs"]
mod ticket_rules;

use ticket_rules::{Claims, LIFE_SECONDS_MAX, Refused, check};

const NOW: WallTime = WallTime(1_800_000_000_000);
/// More than clocks may differ by, twice over.
const SKEW_SECONDS: u64 = 60;

/// An even first byte: the rest is a ticket. An odd one: the rest is what a broadcaster signs.
pub(crate) fn ticket(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let signer = SecretKey::from_seed(&[1; 32]);
    let (stream, key) = (StreamId::new("demo").unwrap(), SessionKey([2; 33]));
    let judge = |text: &str| check(Some(text), signer.public(), &stream, key.into(), NOW);
    if kind % 2 == 0 {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        // Nobody here knows the key, so nothing that is thought of is signed with it.
        assert!(matches!(judge(text), Err(Refused::Signature(_))), "{text}");
        return;
    }
    let (claims, says) = claims(rest, &stream, key);
    let input = format!("{}.{}", base64url(br#"{"alg":"EdDSA","typ":"JWT"}"#), base64url(claims.as_bytes()));
    let text = format!("{input}.{}", base64url(&signer.sign(input.as_bytes())));
    let Ok(admitted) = judge(&text) else { return };
    held(&admitted, says);
    // The same with one letter changed is another ticket, and nobody's.
    let mut changed = text.into_bytes();
    let at = usize::from(*kind) * changed.len() / 256;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    assert!(judge(std::str::from_utf8(&changed).unwrap()).is_err());
}

/// What an admitted ticket may be: its life is short from now on, and its `jti` need not be kept for long.
fn held(admitted: &Claims, exp: Option<u64>) {
    let (now, forget) = (NOW.0 / 1_000, admitted.forget_at().0 / 1_000);
    assert!(forget + SKEW_SECONDS >= now, "forgotten before it is over");
    assert!(forget <= now + LIFE_SECONDS_MAX + 2 * SKEW_SECONDS, "a ticket for {} s", forget - now);
    if let Some(exp) = exp {
        assert!(exp + SKEW_SECONDS >= now && exp <= now + LIFE_SECONDS_MAX + SKEW_SECONDS);
    }
    assert!((1..=64).contains(&admitted.jti.len()));
}

/// JSON as it stands, or claims that are nearly right, with their `exp`.
fn claims(data: &[u8], stream: &StreamId, key: SessionKey) -> (String, Option<u64>) {
    let mut script = Script::new(data);
    if script.byte().is_multiple_of(4) {
        return (String::from_utf8_lossy(script.rest()).into_owned(), None);
    }
    let now = NOW.0 / 1_000;
    let time = |script: &mut Script<'_>| match script.byte() % 4 {
        0 => script.long(),
        1 => now.saturating_add(u64::from(script.half())),
        2 => now.saturating_sub(u64::from(script.half())),
        _ => now.saturating_add(u64::from(script.byte())),
    };
    let exp = time(&mut script);
    let mut claims = serde_json::json!({"sub": stream, "key": key, "exp": exp});
    if script.flag() {
        claims["iat"] = time(&mut script).into();
    }
    if script.seldom() {
        claims["sub"] = "other".into();
    }
    claims["jti"] = String::from_utf8_lossy(script.rest()).into();
    (claims.to_string(), Some(exp))
}
