//! What one connection may hold, before and after its key is checked.

/// Bounds on a connection's unfinished messages. Whoever passes one is closed, never trimmed: an honest encoder
/// finishes a message before it begins hundreds of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Chunk streams a connection may open. Each costs a small header for as long as the connection lives.
    pub chunk_streams_max: usize,
    /// Bytes in one message. Announced lengths above it are refused before anything is stored.
    pub message_bytes_max: usize,
    /// Bytes set aside for messages that are not complete, over all chunk streams.
    pub unfinished_bytes_max: usize,
    /// Bytes set aside for a message when it begins, if it says that it has as many; more only as bytes really
    /// arrive.
    pub first_bytes: usize,
}

impl Limits {
    /// For a connection nobody has vouched for: commands only, and a `connect` with all its fields is under
    /// 2 KiB.
    pub const UNADMITTED: Self = Self {
        chunk_streams_max: 16,
        message_bytes_max: 16 * 1024,
        unfinished_bytes_max: 32 * 1024,
        first_bytes: 1024,
    };

    /// For a publisher whose key was good: a keyframe of 8 MiB is a second of 64 Mbit/s, and one such message
    /// may be interleaved with sound and data. Encoders use up to eight chunk streams.
    pub const ADMITTED: Self = Self {
        chunk_streams_max: 64,
        message_bytes_max: 8 * 1024 * 1024,
        unfinished_bytes_max: 12 * 1024 * 1024,
        // Most frames: they are then put together without being copied from one place to a larger one.
        first_bytes: 64 * 1024,
    };
}
