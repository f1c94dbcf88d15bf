//! The five functions that JavaScript calls. The only place in the project's cores with `unsafe`: a C calling
//! convention has no borrow checker, so what `instance.ts` must keep to is written at each function.
//!
//! A call: `door_reserve(door, len)`, write `len` bytes at the address it gives, `door_call(door, op)`; when the answer is
//! not negative it is a length, and that many bytes stand at `door_outbox(door)` until the next call. Memory may grow
//! in `door_reserve` and `door_call`, which detaches JavaScript's views: take a new view after each.
#![expect(
    unsafe_code,
    reason = "JavaScript passes addresses; nothing else here can turn them into references"
)]

use alloc::boxed::Box;

use crate::door::Door;

/// A new door. It lives until [`door_close`].
#[unsafe(no_mangle)]
pub extern "C" fn door_open() -> *mut Door {
    Box::into_raw(Box::default())
}

/// Ends a door and frees its memory.
///
/// # Safety
/// `door` came from [`door_open`] and was not closed; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn door_close(door: *mut Door) {
    // SAFETY: by the contract above, this is the Box that `door_open` gave away.
    drop(unsafe { Box::from_raw(door) });
}

/// The address where the next call's `len` input bytes are to be written; null when `len` is too long.
///
/// # Safety
/// `door` is open and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn door_reserve(door: *mut Door, len: usize) -> *mut u8 {
    // SAFETY: by the contract above, the door is alive and ours alone for this call.
    let door = unsafe { &mut *door };
    door.reserve(len).map_or(core::ptr::null_mut(), <[u8]>::as_mut_ptr)
}

/// Carries out operation `op` on what was reserved and written: the answer's length, or a refusal below zero.
///
/// # Safety
/// `door` is open and no other call on it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn door_call(door: *mut Door, op: u32) -> i32 {
    // SAFETY: as in `door_reserve`.
    let door = unsafe { &mut *door };
    match door.call(op) {
        Ok(answer) => i32::try_from(answer.len()).unwrap_or(i32::MAX),
        Err(refusal) => refusal as i32,
    }
}

/// Where the last answer stands. Valid until the next call on this door.
///
/// # Safety
/// `door` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn door_outbox(door: *const Door) -> *const u8 {
    // SAFETY: by the contract above, the door is alive.
    unsafe { &*door }.outbox().as_ptr()
}
