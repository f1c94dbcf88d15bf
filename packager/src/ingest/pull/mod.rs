//! Streams that are fetched instead of pushed: cameras by RTSP, asked for ever.
//!
//! A camera that answers becomes a publisher like any other, with its stream's key, as soon as its first frame is
//! there; one that does not is asked again after a while ([`backoff`]), and says in the status why. What never belongs
//! here: RTSP itself (`millstream-pipeline`), keys, what becomes of samples.

mod backoff;
mod config;
mod puller;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millstream_model::StreamId;
use millstream_service::{Tasks, tasks::Drain};
use serde::Serialize;
use tracing::{Instrument as _, info_span};

pub use config::{Error, Pull, Source};
use puller::Puller;

use super::{Gate, Reception};

/// All cameras. Dropping it lets go of them.
#[derive(Debug)]
pub struct Pulls {
    boards: Vec<Arc<Board>>,
    tasks: Tasks,
}

/// One camera, as the status shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The stream it is for.
    pub stream: StreamId,
    /// Where it is, without name and password.
    pub url: String,
    /// What goes on.
    #[serde(flatten)]
    pub state: State,
}

/// What goes on with a camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It is asked, and has not sent anything yet.
    Connecting,
    /// It sends.
    Live,
    /// It is asked again in a while.
    Waiting {
        /// Why it does not send.
        reason: String,
        /// How often it was asked since it last sent.
        attempts: u32,
    },
}

/// Where a camera's task writes what goes on.
#[derive(Debug)]
struct Board {
    stream: StreamId,
    url: String,
    state: Mutex<State>,
}

impl Pulls {
    /// Asks every camera from now on, and brings those that answer to `reception`. `queue_bytes_max` is for the
    /// samples of each that wait for the segmenter.
    #[must_use]
    pub fn begin<G: Gate>(
        sources: Vec<Source>,
        queue_bytes_max: usize,
        reception: &Arc<Reception<G>>,
    ) -> Self {
        let tasks = Tasks::new();
        let mut boards = Vec::new();
        for source in sources {
            let board = Arc::new(Board {
                stream: source.stream.clone(),
                url: source.shown(),
                state: Mutex::new(State::Connecting),
            });
            let span = info_span!("pull", stream = %board.stream);
            let puller = Puller::new(source, queue_bytes_max, Arc::clone(reception), Arc::clone(&board));
            let drain: Drain = tasks.drain();
            tasks.spawn(format!("pull {}", board.stream), puller.run(drain).instrument(span));
            boards.push(board);
        }
        Self { boards, tasks }
    }

    /// What goes on with each.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.boards.clone())
    }

    /// Lets go of all cameras and waits for that up to `grace`.
    pub async fn shutdown(self, grace: Duration) -> Vec<String> {
        self.tasks.shutdown(grace).await
    }
}

/// Tells what goes on with each camera.
#[derive(Debug, Clone)]
pub struct Watch(Vec<Arc<Board>>);

impl Watch {
    /// All of them, as configured.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let report = |board: &Arc<Board>| Report {
            stream: board.stream.clone(),
            url: board.url.clone(),
            state: board.state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        self.0.iter().map(report).collect()
    }
}

impl Board {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
