//! SCTP packets, as the link looks at them before its engine does.

// A private room of the link, which shows itself to its parent alone.
#[allow(dead_code, reason = "the link uses the rest")]
#[path = "../../../crates/datachannel/src/link/screen.rs"]
mod screen;

/// What is let in says no more than its bytes hold.
pub(super) fn check(packet: &[u8]) {
    let Ok(seen) = screen::inbound(packet) else { return };
    let bytes = seen.data_bytes + 12 * seen.data_chunks;
    assert!(bytes <= packet.len(), "{seen:?} in {} bytes", packet.len());
    assert!(seen.init_tag.is_none() || seen.data_chunks == 0, "an INIT stands alone");
    assert!(screen::outbound(packet).count() <= packet.len() / 4);
}
