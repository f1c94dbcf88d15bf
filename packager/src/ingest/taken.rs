//! What was taken apart becomes a publisher's events: the way all ingests go that do not bring samples themselves.

use std::time::Duration;

use millstream_pipeline::demux::{Demux, Output};
use tokio::time::timeout;
use tracing::warn;

use super::{Event, Gone, reception::Seated};

/// Hands `first`, which came out of it before, and all of `demux` on to `seated`, until there is no more, nothing comes for `patience`, or nobody takes it. What
/// is said of the end holds where the other side has not said anything itself.
pub(super) async fn pass(first: Vec<Output>, demux: &mut Demux, seated: &Seated, patience: Duration) -> Gone {
    let mut first = first.into_iter();
    loop {
        let next = async {
            match first.next() {
                Some(output) => Ok(Some(output)),
                None => demux.next().await,
            }
        };
        let event = match timeout(patience, next).await {
            Ok(Ok(Some(Output::Config(config)))) => Event::Config(config),
            Ok(Ok(Some(Output::Sample(sample)))) => Event::Sample(sample),
            Ok(Ok(Some(Output::Untaken(what)))) => {
                warn!(stream = %seated.stream(), %what, "a track is left out");
                continue;
            }
            Ok(Ok(None)) => return Gone::Ended,
            Ok(Err(error)) => return Gone::Broken(error.to_string()),
            Err(_) => {
                let seconds = patience.as_secs();
                return Gone::Broken(format!("neither H.264 nor AAC came for {seconds} s"));
            }
        };
        if seated.send(event).await.is_err() {
            return Gone::Stopped;
        }
    }
}

/// Ends what GStreamer does for it, where waiting for threads holds nobody up.
pub(super) async fn end(demux: Demux) {
    // Fails only when dropping panics.
    let _ = tokio::task::spawn_blocking(move || drop(demux)).await;
}
