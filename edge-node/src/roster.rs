//! Lanes between their connections: a lane has one connection at a time, and its debts outlive it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_lane::Credit;
use millstream_model::{SessionId, WallTime};
use millstream_wire::{session::Grant, sign::Signed};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::book::LATE_MS;

/// Lanes remembered: what the book of vouchers holds, too.
const LANES_MAX: usize = crate::book::LANES_MAX;

/// The connection that a new one replaces ends at once when it is told so.
const YIELD: Duration = Duration::from_secs(2);

/// What a lane leaves behind for its next connection.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// None before its first connection.
    pub(crate) credit: Option<Credit>,
    pub(crate) grant: Option<Signed<Grant>>,
}

/// A lane's seat, taken by one connection. What is written into it stays.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) past: OwnedMutexGuard<Past>,
    claims: watch::Receiver<u64>,
    claim: u64,
}

impl Seat {
    /// Waits until another connection of the same lane wants the seat.
    pub(crate) async fn claimed(&mut self) {
        let claim = self.claim;
        if self.claims.wait_for(|latest| *latest > claim).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
struct Lane {
    past: Arc<tokio::sync::Mutex<Past>>,
    claims: watch::Sender<u64>,
    expires: WallTime,
}

/// All lanes of this process.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<HashMap<SessionId, Lane>>);

impl Roster {
    /// Takes the lane's seat; a connection that has it gives it up. None when it does not.
    pub(crate) async fn claim(&self, grant: &Grant, wall: WallTime) -> Option<Seat> {
        let (past, claims, claim) = {
            let mut lanes = self.lanes();
            if lanes.len() >= LANES_MAX && !lanes.contains_key(&grant.session) {
                make_room(&mut lanes, wall);
            }
            let lane = lanes.entry(grant.session).or_insert_with(|| Lane {
                past: Arc::default(),
                claims: watch::Sender::new(0),
                expires: grant.expires,
            });
            lane.expires = lane.expires.max(grant.expires);
            lane.claims.send_modify(|claim| *claim += 1);
            let claims = lane.claims.subscribe();
            let claim = *claims.borrow();
            (Arc::clone(&lane.past), claims, claim)
        };
        let past = tokio::time::timeout(YIELD, past.lock_owned()).await.ok()?;
        Some(Seat { past, claims, claim })
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<SessionId, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets lanes that are over; when there are none, the one without a connection that ends first.
fn make_room(lanes: &mut HashMap<SessionId, Lane>, wall: WallTime) {
    let idle = |lane: &Lane| Arc::strong_count(&lane.past) == 1;
    lanes.retain(|_, lane| !idle(lane) || lane.expires.plus_millis(LATE_MS) > wall);
    if lanes.len() >= LANES_MAX {
        let first = lanes.iter().filter(|(_, lane)| idle(lane)).min_by_key(|(_, lane)| lane.expires);
        if let Some(session) = first.map(|(session, _)| *session) {
            lanes.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::{Price, PublicKey, SessionKey, StreamId};

    fn grant() -> Grant {
        Grant {
            tracker: PublicKey([0; 32]),
            session: SessionId([1; 16]),
            key: SessionKey([0; 33]),
            stream: StreamId::new("demo").unwrap(),
            edge: PublicKey([0; 32]),
            price: Price(1),
            cap_bytes: 1,
            serial: 1,
            issued: WallTime(0),
            expires: WallTime(1_000),
        }
    }

    #[tokio::test]
    async fn the_second_connection_of_a_lane_takes_over_with_what_the_first_left() {
        let roster = Arc::new(Roster::default());
        let mut first = roster.claim(&grant(), WallTime(0)).await.unwrap();
        assert!(first.past.credit.is_none());
        let credit = Credit::forgotten(None);
        let second = {
            let roster = Arc::clone(&roster);
            tokio::spawn(async move { roster.claim(&grant(), WallTime(0)).await })
        };
        first.claimed().await;
        first.past.credit = Some(credit);
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!(second.past.credit, Some(credit));
    }

    #[tokio::test]
    async fn a_connection_that_does_not_yield_keeps_the_lane() {
        let roster = Roster::default();
        let _first = roster.claim(&grant(), WallTime(0)).await.unwrap();
        assert!(roster.claim(&grant(), WallTime(0)).await.is_none());
    }
}
