//! Receivers that are there, away, slow, picky, or tired of it.

use super::*;
use crate::{
    events::event::{Code, What},
    show,
};

const BOUNDS: Bounds = Bounds { waiting_max: 4, keep: Duration::from_secs(600) };

fn event(number: u64) -> Arc<Event> {
    Arc::new(Event {
        id: format!("evt_{number}"),
        time: show::NOW,
        packager: show::root_key(),
        stream: show::stream(),
        what: What::error(Code::Media, "x"),
    })
}

fn at(ms: u64) -> Instant {
    Instant(0) + Duration::from_millis(ms)
}

fn queue_of(count: u64) -> Queue {
    let mut queue = Queue::new(BOUNDS, 7);
    for number in 0..count {
        queue.handle(Input::Told(event(number)), at(0));
    }
    queue
}

/// Number and count of missed ones of what goes out now.
fn sent(queue: &mut Queue) -> Option<(u64, u64)> {
    queue.poll().map(|delivery| (delivery.event.id[4..].parse().unwrap(), delivery.missed))
}

fn answer(queue: &mut Queue, answer: Answer, now: Instant) {
    queue.handle(Input::Answered(answer), now);
}

#[test]
fn events_go_out_one_by_one_in_their_order() {
    let mut queue = queue_of(3);
    for number in 0..3 {
        assert_eq!(sent(&mut queue), Some((number, 0)));
        assert_eq!(sent(&mut queue), None, "one at a time");
        answer(&mut queue, Answer::Taken, at(number));
    }
    assert_eq!((sent(&mut queue), queue.deadline()), (None, None));
}

#[test]
fn a_receiver_that_fails_is_tried_again_later_and_later_and_never_at_a_guessable_time() {
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut queue = Queue::new(Bounds { keep: Duration::from_secs(36_000), ..BOUNDS }, seed);
        queue.handle(Input::Told(event(0)), at(0));
        let mut now = at(0);
        for nth in 0_u32..10 {
            assert!(queue.poll().is_some());
            answer(&mut queue, Answer::Failed { pause: None }, now);
            assert!(queue.poll().is_none());
            let wait = queue.deadline().unwrap().since(now);
            let most = Duration::from_secs(60).min(Duration::from_secs(1) * 2_u32.pow(nth));
            assert!((most / 2..=most).contains(&wait), "{nth}: {wait:?}");
            now = queue.deadline().unwrap();
            queue.handle(Input::Tick, now);
            waits.push(wait);
        }
        // Taken at last: the next goes out at once, and its first failure counts as a first one.
        assert!(queue.poll().is_some());
        answer(&mut queue, Answer::Taken, now);
        queue.handle(Input::Told(event(1)), now);
        assert!(queue.poll().is_some());
        answer(&mut queue, Answer::Failed { pause: None }, now);
        assert!(queue.deadline().unwrap().since(now) <= Duration::from_secs(1));
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 400, "chance spreads them: {}", waits.len());
}

#[test]
fn a_receiver_may_ask_for_a_pause_of_some_minutes_and_not_for_ever() {
    for (asked_s, waits_s) in [(0, 0), (30, 30), (u64::MAX, 600)] {
        let mut queue = queue_of(1);
        sent(&mut queue);
        let pause = Some(Duration::from_secs(asked_s));
        answer(&mut queue, Answer::Failed { pause }, at(0));
        let wait = queue.deadline().unwrap().since(at(0));
        assert!(wait >= Duration::from_secs(waits_s) && wait <= Duration::from_secs(waits_s + 1), "{wait:?}");
    }
}

#[test]
fn too_many_events_push_the_oldest_out_and_the_next_says_how_many_are_missing() {
    let mut queue = queue_of(1);
    assert_eq!(sent(&mut queue), Some((0, 0)));
    // Six come while the first is on its way; that one stays, for it may be taken.
    for number in 1..7 {
        queue.handle(Input::Told(event(number)), at(10));
    }
    assert_eq!((queue.waiting.len(), queue.take_dropped(), queue.take_dropped()), (4, 3, 0));
    answer(&mut queue, Answer::Taken, at(20));
    assert_eq!(sent(&mut queue), Some((4, 3)));
    // What is dropped now is told later: this one says the same each time that it is sent.
    for number in 7..9 {
        queue.handle(Input::Told(event(number)), at(10));
    }
    answer(&mut queue, Answer::Failed { pause: None }, at(30));
    queue.handle(Input::Tick, at(5_000));
    assert_eq!(sent(&mut queue), Some((4, 3)));
    answer(&mut queue, Answer::Taken, at(5_000));
    assert_eq!(sent(&mut queue), Some((6, 1)));
    answer(&mut queue, Answer::Taken, at(5_000));
    assert_eq!(sent(&mut queue), Some((7, 0)));
}

#[test]
fn an_event_that_nobody_takes_is_dropped_in_time() {
    let mut queue = queue_of(2);
    let (mut now, mut tries) = (at(0), 0);
    while queue.waiting.len() == 2 {
        assert!(queue.poll().is_some());
        tries += 1;
        answer(&mut queue, Answer::Failed { pause: None }, now);
        now = queue.deadline().unwrap_or(now);
        queue.handle(Input::Tick, now);
    }
    assert!(now >= at(600_000) && now <= at(660_000), "{now:?}");
    assert!((14..30).contains(&tries), "{tries}");
    queue.handle(Input::Told(event(9)), now);
    assert_eq!(sent(&mut queue), Some((9, 2)));
}

#[test]
fn an_event_that_the_receiver_never_likes_does_not_hold_up_the_others() {
    let mut queue = queue_of(2);
    let mut now = at(0);
    for _ in 0..REFUSALS_MAX {
        assert_eq!(sent(&mut queue), Some((0, 0)));
        answer(&mut queue, Answer::Refused, now);
        now = queue.deadline().unwrap();
        queue.handle(Input::Tick, now);
    }
    assert!((at(15_000)..at(40_000)).contains(&now), "{now:?}");
    assert_eq!(sent(&mut queue), Some((1, 1)));
}

#[test]
fn a_receiver_that_wants_no_more_gets_no_more() {
    let mut queue = queue_of(3);
    sent(&mut queue);
    answer(&mut queue, Answer::Unwanted, at(0));
    queue.handle(Input::Told(event(5)), at(1));
    assert_eq!((sent(&mut queue), queue.is_done(), queue.take_dropped()), (None, true, 4));
}

#[test]
fn at_the_end_all_that_waits_is_tried_once() {
    let mut queue = queue_of(3);
    sent(&mut queue);
    answer(&mut queue, Answer::Failed { pause: None }, at(0));
    assert_eq!(sent(&mut queue), None);
    queue.handle(Input::Close, at(1));
    for number in 0..2 {
        assert_eq!(sent(&mut queue), Some((number, 0)));
        assert!(!queue.is_done());
        answer(&mut queue, Answer::Taken, at(2));
    }
    assert_eq!(sent(&mut queue), Some((2, 0)));
    answer(&mut queue, Answer::Failed { pause: None }, at(3));
    assert_eq!((queue.is_done(), queue.take_dropped()), (true, 1));
}
