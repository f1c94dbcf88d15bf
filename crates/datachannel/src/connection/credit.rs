//! How much one channel's senders may hand over before they wait: bounded by memory, and by what the path will soon
//! carry, so that what waits longer waits with whoever can still change its mind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Charged for each message on top of its bytes, so that empty messages are bounded too. SCTP counts the same.
pub(super) const MESSAGE_CHARGE: usize = 64;

/// What a channel has taken and not yet given back.
pub(super) struct Credit {
    held: AtomicUsize,
    /// Never more is held.
    max: usize,
    /// With so much held, nothing more is taken.
    limit: AtomicUsize,
    is_closed: AtomicBool,
    room: Notify,
}

/// Why nothing is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There may be room later.
    Full,
    /// Never again.
    Closed,
}

impl Credit {
    pub(super) fn new(max: usize) -> Self {
        // A message of full length must fit, or its sender would wait for ever.
        let max = max.max(charge(super::MESSAGE_BYTES_MAX));
        Self {
            held: AtomicUsize::new(0),
            max,
            limit: AtomicUsize::new(max),
            is_closed: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    pub(super) async fn take(&self, bytes: usize) -> Result<(), Refusal> {
        loop {
            // Before looking: what becomes free in between is not missed.
            let room = self.room.notified();
            match self.try_take(bytes) {
                Err(Refusal::Full) => room.await,
                taken => return taken,
            }
        }
    }

    pub(super) fn try_take(&self, bytes: usize) -> Result<(), Refusal> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Refusal::Closed);
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let take = |held: usize| {
            let after = held + charge(bytes);
            (held < limit && after <= self.max).then_some(after)
        };
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .map_or(Err(Refusal::Full), |_| Ok(()))
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Gives back what `messages` and `bytes` of theirs were charged, and says from how much on nothing more is taken.
    pub(super) fn settle(&self, messages: usize, bytes: usize, limit: usize) {
        let given = messages * MESSAGE_CHARGE + bytes;
        if given > 0 {
            // SCTP also counts what was never charged (DCEP, the stand-in byte of an empty message).
            self.held
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| Some(held.saturating_sub(given)))
                .ok();
        }
        // One message is always taken when nothing is held.
        let limit = limit.clamp(1, self.max);
        self.limit.store(limit, Ordering::Relaxed);
        // Who waits is woken once there is room for any message, not for each packet that is acknowledged.
        let held = self.held();
        if held < limit && held + charge(super::MESSAGE_BYTES_MAX) <= self.max {
            self.room.notify_waiters();
        }
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.room.notify_waiters();
    }
}

pub(super) const fn charge(bytes: usize) -> usize {
    bytes + MESSAGE_CHARGE
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn credit_comes_back_whole_and_never_more() {
        let credit = Credit::new(100_000);
        credit.try_take(500).unwrap();
        assert_eq!(credit.held(), 564);
        credit.settle(1, 501, 100_000);
        assert_eq!(credit.held(), 0);
    }

    #[test]
    fn never_more_is_held_than_memory_allows() {
        let credit = Credit::new(1_000);
        // The bound is raised to one message of full length.
        credit.try_take(crate::MESSAGE_BYTES_MAX).unwrap();
        assert_eq!(credit.try_take(0), Err(Refusal::Full));
    }

    #[test]
    fn beyond_what_the_path_will_carry_nothing_is_taken_until_it_has() {
        let credit = Credit::new(1_000_000);
        credit.settle(0, 0, 10_000);
        credit.try_take(9_000).unwrap();
        credit.try_take(60_000).unwrap();
        assert_eq!(credit.try_take(1), Err(Refusal::Full));
        credit.settle(2, 69_000, 10_000);
        credit.try_take(1).unwrap();
    }

    #[test]
    fn who_waits_is_not_woken_before_there_is_room() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let whole = crate::MESSAGE_BYTES_MAX;
        let credit = Credit::new(2 * charge(whole));
        credit.try_take(whole).unwrap();
        credit.try_take(whole).unwrap();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut third = pin!(credit.take(whole));
        assert!(third.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // A packet after the other is acknowledged.
        for _ in 0..whole / 1_200 {
            credit.settle(0, 1_200, usize::MAX);
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        credit.settle(1, whole % 1_200, usize::MAX);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(third.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
    }

    #[test]
    fn who_waits_goes_on_when_there_is_room_and_hears_of_the_end() {
        let credit = Credit::new(1_000_000);
        credit.settle(0, 0, 1_000);
        credit.try_take(1_000).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(credit.take(500));
        assert!(first.as_mut().poll(&mut context).is_pending());
        credit.settle(1, 500, 1_000);
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        let mut second = pin!(credit.take(500));
        assert!(second.as_mut().poll(&mut context).is_pending());
        credit.close();
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(Err(Refusal::Closed)));
    }
}
