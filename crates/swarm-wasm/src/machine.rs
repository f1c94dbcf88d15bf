//! What a program without an operating system must bring itself: memory and a way to end.

use dlmalloc::GlobalDlmalloc;

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

/// A broken promise of ours ends this instance with a trap, which JavaScript sees as a `RuntimeError`; the page
/// then plays on by plain HTTP. Nothing from outside may bring us here.
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
