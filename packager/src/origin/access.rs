//! Who may have what: tokens of the tracker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, header};
use millstream_model::{SessionId, TrackerId};
use millstream_wire::{
    session::{Bearer, Token},
    sign::{Context, Signed},
};

use crate::{gate::Gate, stream::Stream};

/// Characters of a token at most: it has some 250.
const TOKEN_CHARS_MAX: usize = 1_024;

/// Tokens that were found good and are not checked again: a signature costs more than all the rest of a request.
const REMEMBERED_MAX: usize = 8_192;

/// What a request needs permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Playlists, media, `/start`.
    Media,
    /// A feed.
    Feed,
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no token.
    Missing,
    /// It is malformed, forged or expired.
    Invalid,
    /// It is for something else.
    Other,
}

/// Checks tokens.
pub(super) struct Access {
    gate: Arc<Gate>,
    good: Mutex<HashMap<Box<str>, (TrackerId, Token)>>,
}

impl Access {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, good: Mutex::default() }
    }

    /// Says whose session asks, where a token says so.
    pub(super) fn check(
        &self,
        stream: &Stream,
        headers: &HeaderMap,
        need: Need,
    ) -> Result<Option<SessionId>, Denied> {
        let (public, tracker) = stream.look(|inner| (inner.permission.public, inner.permission.tracker));
        // Without a tracker nobody could give tokens.
        let Some(tracker) = tracker else { return Ok(None) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        let checked = match given {
            Some(given) => self.bearer(given, tracker, stream, need),
            None => Err(Denied::Missing),
        };
        match checked {
            // Who needs no token is not turned away for one that has expired.
            Err(_) if public && need == Need::Media => Ok(None),
            checked => checked,
        }
    }

    fn bearer(
        &self,
        given: &str,
        tracker: TrackerId,
        stream: &Stream,
        need: Need,
    ) -> Result<Option<SessionId>, Denied> {
        let token = self.token(given, tracker)?;
        if token.stream != *stream.id() {
            return Err(Denied::Other);
        }
        match (token.bearer, need) {
            (Bearer::Session(session), Need::Media) => Ok(Some(session)),
            (Bearer::Edge(_), _) => Ok(None),
            (Bearer::Session(_), Need::Feed) => Err(Denied::Other),
        }
    }

    fn token(&self, given: &str, tracker: TrackerId) -> Result<Token, Denied> {
        if given.len() > TOKEN_CHARS_MAX {
            return Err(Denied::Invalid);
        }
        let now = self.gate.time();
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, token)) = good.get(given)
            && *by == tracker
        {
            return if token.expires > now { Ok(token.clone()) } else { Err(Denied::Invalid) };
        }
        drop(good);
        let signed: Signed<Token> = given.parse().map_err(|_| Denied::Invalid)?;
        let token = signed.verify(&tracker, Context::None).map_err(|_| Denied::Invalid)?;
        if token.expires <= now {
            return Err(Denied::Invalid);
        }
        good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED_MAX {
            good.retain(|_, (_, token)| token.expires > now);
        }
        if good.len() >= REMEMBERED_MAX {
            good.clear();
        }
        good.insert(given.into(), (tracker, token.clone()));
        Ok(token.clone())
    }
}
