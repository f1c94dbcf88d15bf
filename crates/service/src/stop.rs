//! SIGTERM and Ctrl-C: the first drains, the second ends at once.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::tasks::{Lost, Tasks};

/// Exit code after a second signal: what a shell reports for a program that Ctrl-C ended.
const FORCED_EXIT: i32 = 130;

/// The signals that end a program, caught from [`install`](Self::install) on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How a program came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// What began it.
    pub cause: Cause,
    /// Names of the tasks that were cut off after the grace.
    pub cut_off: Vec<String>,
}

/// What began the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The operator asked, by the signal of this name.
    Signal(&'static str),
    /// A vital task ended: an error for the program's exit code.
    Lost(Lost),
}

impl Signals {
    /// Catches the signals. Call it before saying that the program is ready.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for a signal or the loss of a vital task, then drains `tasks` for up to `grace`. A second signal in
    /// that time ends the process at once.
    pub async fn stop(mut self, tasks: Tasks, grace: Duration) -> Stopped {
        let cause = tokio::select! {
            name = self.next() => Cause::Signal(name),
            lost = tasks.lost() => Cause::Lost(lost),
        };
        let in_hand = tasks.count();
        tasks.begin_drain();
        match &cause {
            Cause::Signal(signal) => {
                tracing::info!(signal, tasks = in_hand, "draining; again to end at once");
            }
            Cause::Lost(lost) => tracing::error!("draining: {lost}"),
        }
        let cut_off = tokio::select! {
            cut_off = tasks.shutdown(grace) => cut_off,
            signal = self.next() => {
                tracing::warn!(signal, "ended at once, without the drain");
                std::process::exit(FORCED_EXIT);
            }
        };
        tracing::info!("stopped");
        Stopped { cause, cut_off }
    }
}
