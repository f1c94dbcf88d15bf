//! What time alone brings: sessions that did not come back, tokens that end, edges that are lacking.

use millstream_model::{SessionId, WallTime};
use millstream_wire::tracker::ToViewer;

use super::{Hub, RESUME_MS, TOKEN_MS};

/// Sessions of before the start that are ended in one sweep: each is a row to write.
const ENDED_PER_SWEEP: usize = 1_000;

impl Hub {
    /// Does what is due. To be called every few seconds.
    pub(crate) async fn sweep(&self, now: WallTime) {
        self.end_detached(now);
        self.end_inherited(now);
        self.renew_tokens(now);
        self.renew_sources(now);
        self.standings.retain(|_, standing| standing.complaints(now) > 0);
        self.carried.retain(|_, carried| now.millis_since(carried.heard) < RESUME_MS);
        self.call_back();
        self.tell_moved().await;
        self.complete(now).await;
    }

    fn end_detached(&self, now: WallTime) {
        let gone: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|session| session.detached.is_some_and(|at| now.millis_since(at) >= RESUME_MS))
            .map(|session| *session.key())
            .collect();
        for session in gone {
            self.leave(session);
        }
    }

    /// Ends the sessions of before the start whose viewers had their time to come back and did not.
    fn end_inherited(&self, now: WallTime) {
        if now.millis_since(self.began) < RESUME_MS {
            return;
        }
        let due: Vec<SessionId> = {
            let mut inherited = self.inherited();
            let from = inherited.len().saturating_sub(ENDED_PER_SWEEP);
            inherited.split_off(from)
        };
        for session in due {
            if !self.sessions.contains_key(&session) {
                self.money.close_session(session);
            }
        }
    }

    /// Brings viewers another token when theirs is half through its life.
    fn renew_tokens(&self, now: WallTime) {
        let due: Vec<_> = self
            .sessions
            .iter()
            .filter(|session| session.token_at.is_some_and(|at| now.millis_since(at) >= TOKEN_MS / 2))
            .filter_map(|session| Some((*session.key(), session.link.clone()?)))
            .collect();
        for (session, link) in due {
            // One that takes nothing now is told at the next sweep.
            let Ok(place) = link.try_reserve() else { continue };
            if let Some(token) = self.next_token(session, now) {
                place.send(ToViewer::Grants { grants: Vec::new(), token: Some(token) });
            }
        }
    }
}
