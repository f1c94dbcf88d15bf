//! One camera's task: asks it, hands on what it sends, and asks again.

use std::{sync::Arc, time::Duration};

use millstream_pipeline::demux::{Demux, Output};
use millstream_service::tasks::Drain;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::{Board, Source, State, backoff::Backoff};
use crate::ingest::{Gate, Gone, Reception, Terms, reception, taken};

/// For a camera's first frame, from connecting to it. Those that begin to look when they are asked take seconds.
const FIRST_FRAME: Duration = Duration::from_secs(15);

/// For a connection, and for each answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A camera from which nothing comes for so long is asked anew.
const SILENCE: Duration = Duration::from_secs(10);

/// To check the key and hand it over, at most.
const ADMIT: Duration = Duration::from_secs(5);

/// One that sends for so long works: when it fails then, it is asked again at once.
const WORKS_AFTER: Duration = Duration::from_secs(10);

/// How asking once went.
struct Attempt {
    /// Why it ended.
    reason: String,
    /// How long it sent.
    sent: Duration,
}

pub(super) struct Puller<G> {
    source: Source,
    queue_bytes_max: usize,
    reception: Arc<Reception<G>>,
    board: Arc<Board>,
}

impl<G: Gate> Puller<G> {
    pub(super) const fn new(
        source: Source,
        queue_bytes_max: usize,
        reception: Arc<Reception<G>>,
        board: Arc<Board>,
    ) -> Self {
        Self { source, queue_bytes_max, reception, board }
    }

    /// Asks for ever, until the drain.
    pub(super) async fn run(self, drain: Drain) {
        let mut seed = [0; 8];
        // Without randomness cameras are asked in step; that is no reason not to ask them.
        let _ = getrandom::fill(&mut seed);
        let mut backoff = Backoff::new(u64::from_le_bytes(seed));
        while !drain.has_begun() {
            self.board.set(State::Connecting);
            let Attempt { reason, sent } = self.once(&drain).await;
            if drain.has_begun() {
                return;
            }
            if sent >= WORKS_AFTER {
                backoff.succeeded();
            }
            let again = backoff.failed();
            if backoff.failures() == 1 {
                warn!(url = self.board.url, reason, "the camera does not send; asking again for ever");
            } else {
                debug!(reason, attempts = backoff.failures(), ?again, "the camera still does not send");
            }
            self.board.set(State::Waiting { reason, attempts: backoff.failures() });
            tokio::select! {
                () = sleep(again) => {}
                () = drain.begun() => return,
            }
        }
    }

    /// From asking to the end of what it sends.
    async fn once(&self, drain: &Drain) -> Attempt {
        let mut demux = match Demux::rtsp(self.source.url.expose(), ANSWER) {
            Ok(demux) => demux,
            Err(error) => return Attempt { reason: error.to_string(), sent: Duration::ZERO },
        };
        let first = tokio::select! {
            first = first_frame(&mut demux) => first,
            () = drain.begun() => Err(String::from("the server is going down")),
        };
        let attempt = match first {
            Ok(first) => self.serve(first, &mut demux, drain).await,
            Err(reason) => Attempt { reason, sent: Duration::ZERO },
        };
        taken::end(demux).await;
        attempt
    }

    /// Only a camera that sends takes its stream, which somebody else may publish meanwhile.
    async fn serve(&self, first: Vec<Output>, demux: &mut Demux, drain: &Drain) -> Attempt {
        let source = reception::Source::Pull(self.board.url.clone());
        let terms = Terms { patience: ADMIT, queue_bytes_max: self.queue_bytes_max };
        let seated = match self.reception.admit(&self.source.key, source, terms, drain).await {
            Ok(seated) => seated,
            Err(refusal) => return Attempt { reason: refusal.reason, sent: Duration::ZERO },
        };
        if *seated.stream() != self.source.stream {
            seated.end(Gone::Stopped);
            let reason = format!("its key is that of another stream than `{}`", self.source.stream);
            return Attempt { reason, sent: Duration::ZERO };
        }
        self.board.set(State::Live);
        let since = Instant::now();
        let gone = tokio::select! {
            gone = taken::pass(first, demux, &seated, SILENCE) => gone,
            () = seated.abandoned() => Gone::Stopped,
            () = drain.begun() => Gone::Stopped,
        };
        let reason = gone.to_string();

        seated.end(gone);
        Attempt { reason, sent: since.elapsed() }
    }
}

/// What came up to the first frame.
async fn first_frame(demux: &mut Demux) -> Result<Vec<Output>, String> {
    let mut first = Vec::new();
    loop {
        match timeout(FIRST_FRAME, demux.next()).await {
            Ok(Ok(Some(output))) => {
                let is_frame = matches!(output, Output::Sample(_));
                first.push(output);
                if is_frame {
                    return Ok(first);
                }
            }
            Ok(Ok(None)) => return Err(String::from("it ended before anything came")),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no frame came within {} s", FIRST_FRAME.as_secs())),
        }
    }
}
