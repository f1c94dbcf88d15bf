//! One caller: asks whether its key is good, then takes apart what it sends.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use millstream_pipeline::demux::{Demux, Feed};
use millstream_rtmp::StreamKey;
use millstream_service::tasks::Drain;
use sapflow_srt::{ConnId, RejectCode};
use tokio::sync::mpsc;
use tracing::error;

use super::Config;
use crate::ingest::{
    Gate, Gone, Reception,
    reception::{Seated, Source},
    seat::Seat,
    taken,
};

/// What a caller's task tells the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// It may send.
    Accept,
    /// It may not.
    Reject(RejectCode),
    /// It is to be ended.
    Close,
}

/// What its key's "no" is on the wire, and what there is no place for.
const FORBIDDEN: RejectCode = RejectCode::http(403);

/// What goes wrong on our side is the same to a caller as being too busy: it may come again.
const UNAVAILABLE: RejectCode = RejectCode::http(503);

/// One caller's task.
pub(super) struct Caller {
    pub(super) id: ConnId,
    pub(super) peer: SocketAddr,
    pub(super) key: StreamKey,
    pub(super) seat: Seat,
    /// What it sent, until the server drops its end.
    pub(super) inbox: mpsc::Receiver<Vec<u8>>,
    /// Why the server dropped its end; set before.
    pub(super) fate: Arc<OnceLock<Gone>>,
    pub(super) answers: mpsc::Sender<(ConnId, Answer)>,
}

impl Caller {
    /// Lives until the caller is gone.
    pub(super) async fn run<G: Gate>(mut self, config: Config, reception: Arc<Reception<G>>, drain: Drain) {
        let source = Source::Srt(self.peer);
        let seated = match reception.admit(&self.key, source, config.terms(), &drain).await {
            Ok(seated) => seated,
            // The reason stands in the log: SRT has room for a number alone.
            Err(_) => return self.answer(Answer::Reject(FORBIDDEN)).await,
        };
        self.seat.admitted();
        let (feed, mut demux) = match Demux::transport_stream() {
            Ok(both) => both,
            Err(error) => {
                error!(%error, "no SRT publisher can be taken");
                seated.end(Gone::Stopped);
                return self.answer(Answer::Reject(UNAVAILABLE)).await;
            }
        };
        self.answer(Answer::Accept).await;
        let pushing = async {
            push(&mut self.inbox, feed).await;
            // The end comes out of the demuxer, after all that is in it.
            pending::<Gone>().await
        };
        let gone = tokio::select! {
            gone = pushing => gone,
            gone = taken::pass(Vec::new(), &mut demux, &seated, config.media_timeout()) => gone,
            () = seated.abandoned() => Gone::Stopped,
            () = drain.begun() => Gone::Stopped,
        };
        self.leave(seated, gone);
        self.answer(Answer::Close).await;
        taken::end(demux).await;
    }

    /// What the caller itself did is the reason, where it did something.
    fn leave(&self, seated: Seated, gone: Gone) {
        seated.end(self.fate.get().cloned().unwrap_or(gone));
    }

    async fn answer(&self, answer: Answer) {
        // Fails only when the server is gone, and with it the caller.
        let _ = self.answers.send((self.id, answer)).await;
    }
}

/// Gives all that comes to the demuxer.
async fn push(inbox: &mut mpsc::Receiver<Vec<u8>>, mut feed: Feed) {
    while let Some(payload) = inbox.recv().await {
        if feed.push(&payload).await.is_err() {
            // The demuxer says why.
            return;
        }
    }
    feed.end();
}
