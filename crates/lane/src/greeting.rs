//! The hello, and renewed grants: is this the viewer whom our tracker pays for, on this very connection?

use millstream_model::{EdgeId, Fingerprint, Instant, TrackerId, WallTime};
use millstream_wire::{
    frame::{PROTOCOL, Reason},
    session::{Grant, Hello},
    sign::{Context, SessionVerifier, Signed},
};

use crate::limits::{CLOCK_MS, GRACE_MS, RETURN_MS};

/// What the edge knows before the viewer says anything.
#[derive(Debug, Clone, Copy)]
pub struct Local {
    /// Ourselves.
    pub edge: EdgeId,
    /// Who pays.
    pub tracker: TrackerId,
    /// SHA-256 of the DTLS certificate that the viewer showed.
    pub peer: Fingerprint,
}

/// Whether the tracker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No.
    Out,
    /// Yes, since then.
    Since(Instant),
}

/// Why a viewer is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: &'static str,
}

pub(crate) const fn refusal(reason: Reason, text: &'static str) -> Refusal {
    Refusal { reason, text }
}

/// The session's key, when the hello is good: the lane's vouchers are checked with it.
pub(crate) fn check_hello(
    local: &Local,
    protocol: u16,
    grant: &Signed<Grant>,
    hello: &Signed<Hello>,
    honoured: WallTime,
) -> Result<SessionVerifier, Refusal> {
    if protocol != PROTOCOL {
        return Err(refusal(Reason::Protocol, "this edge speaks version 1"));
    }
    let granted = check_grant(local, grant)?;
    if granted.expires <= honoured {
        return Err(refusal(Reason::Grant, "the grant has expired"));
    }
    let said = hello.unverified();
    if said.session != granted.session || said.edge != local.edge {
        return Err(refusal(Reason::Hello, "the hello is for another session or edge"));
    }
    if said.fingerprint != local.peer {
        return Err(refusal(Reason::Hello, "the hello is for another connection"));
    }
    let signed =
        SessionVerifier::new(&granted.key).and_then(|key| hello.verify(&key, Context::None).map(|_| key));
    signed.map_err(|_| refusal(Reason::Hello, "the hello is not signed by the session's key"))
}

pub(crate) fn check_grant<'a>(local: &Local, grant: &'a Signed<Grant>) -> Result<&'a Grant, Refusal> {
    let said = grant.unverified();
    if said.tracker != local.tracker {
        return Err(refusal(Reason::Grant, "the grant is by another tracker than this edge's"));
    }
    if said.edge != local.edge {
        return Err(refusal(Reason::Grant, "the grant is for another edge"));
    }
    grant
        .verify(&local.tracker, Context::None)
        .map_err(|_| refusal(Reason::Grant, "the grant is not signed by the tracker"))
}

/// Grants that expired at or before this time are no longer honoured.
pub(crate) fn honoured(reach: Reach, now: Instant, wall: WallTime) -> WallTime {
    let tolerance = match reach {
        Reach::Out => GRACE_MS,
        Reach::Since(since) if now.millis_since(since) < RETURN_MS => GRACE_MS,
        Reach::Since(_) => CLOCK_MS,
    };
    WallTime(wall.0.saturating_sub(tolerance))
}

/// When a grant that ends at `expires` stops being honoured, as things stand.
pub(crate) fn honoured_until(reach: Reach, expires: WallTime, now: Instant, wall: WallTime) -> Instant {
    let in_millis = |at: WallTime| Instant(now.0.saturating_add(at.millis_since(wall).saturating_mul(1_000)));
    let last = in_millis(expires.plus_millis(GRACE_MS));
    match reach {
        Reach::Out => last,
        Reach::Since(since) => {
            let returned = Instant(since.0.saturating_add(RETURN_MS * 1_000));
            in_millis(expires.plus_millis(CLOCK_MS)).max(returned).min(last)
        }
    }
}
