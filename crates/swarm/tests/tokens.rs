//! Streams that are not public, told in virtual time.

mod world;

use world::{VIDEO, World};

/// A viewer whose bytes all come from an origin that wants tokens of so many milliseconds.
fn watching(token_ms: u64, tokens_more: u64) -> World {
    let mut world = World::new(0);
    (world.token_ms, world.tokens_more) = (Some(token_ms), tokens_more);
    world.watch(VIDEO);
    world
}

#[test]
fn a_viewer_outlives_its_first_token_when_the_tracker_brings_others() {
    let mut world = watching(10_000, 12);
    world.run(5_000);
    let early = world.turned_away;
    world.run(55_000);
    assert_eq!(world.turned_away, early, "it shows the newest token that it has");
    assert!(world.player[&VIDEO].played > 200, "{}", world.player[&VIDEO].played);
    assert!(world.stalled_ms() < 1_000, "{}", world.stalled_ms());
}

#[test]
#[should_panic(expected = "Err(401)")]
fn with_one_token_it_is_turned_away_when_that_ends() {
    watching(10_000, 0).run(20_000);
}
