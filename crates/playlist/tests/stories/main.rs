//! Playlists told as stories, the checker's own proof, and the golden vectors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

mod kept;
mod playlists;
mod rules;
mod show;
mod vectors;
