//! What an association costs in memory, counted by the allocator: each test counts its own thread's.
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use bytes::Bytes;
use millstream_netsim::Traits;
use millstream_sctp::{Association, Config};

use crate::world::World;

/// Beside its buffers an association that is idle shall not be what fills a machine: 100 KB are for a whole viewer.
const IDLE_BYTES_MAX: isize = 8 * 1024;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, is_freed: bool) {
    let bytes = isize::try_from(bytes).unwrap_or(isize::MAX);
    // A thread that ends frees after its counter is gone.
    let _ = HELD.try_with(|held| held.set(held.get() + if is_freed { -bytes } else { bytes }));
}

// SAFETY: all is left to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), false);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), true);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that this thread has allocated and not freed.
pub(crate) fn held() -> isize {
    HELD.get()
}

/// Bytes that an association holds, itself included.
fn weigh(association: Association) -> isize {
    let before = held();
    drop(association);
    before - held() + isize::try_from(size_of::<Association>()).unwrap()
}

#[test]
fn an_association_that_is_idle_again_is_small() {
    for interleaving in [false, true] {
        let config = Config { interleaving, ..Config::default() };
        let traits = Traits {
            loss_per_million: 10_000,
            ..Traits::bottleneck(5_000_000, Duration::from_millis(20), Duration::from_millis(50))
        };
        let mut world = World::with(&config, &config, traits, 3);
        world.open();
        for _ in 0..100 {
            for from in 0..2 {
                for stream in 0..4 {
                    let _ = world.send(from, stream, Bytes::from(vec![1; 30_000]), stream % 2 == 0);
                }
            }
            world.run(Duration::from_millis(50));
        }
        world.run(Duration::from_secs(30));
        assert!(world.is_drained());
        let [first, second] = world.ends;
        let bytes = [weigh(first.association), weigh(second.association)];
        println!(
            "idle after traffic, interleaved {interleaving}: {bytes:?} bytes, of which {} are the struct",
            size_of::<Association>()
        );
        assert!(bytes.iter().all(|bytes| *bytes <= IDLE_BYTES_MAX), "{bytes:?}");
    }
}

#[test]
fn an_association_that_has_done_nothing_yet_is_small() {
    let world = World::opened(Traits::default(), 3);
    let [first, second] = world.ends;
    let bytes = [weigh(first.association), weigh(second.association)];
    println!("open: {bytes:?} bytes");
    assert!(bytes.iter().all(|bytes| *bytes <= IDLE_BYTES_MAX), "{bytes:?}");
}
