//! What every program has: configuration, logs, metrics, an ops listener, owned tasks, a data folder, HTTP serving.
//!
//! For the programs' shells, so that all of them start, speak to operators and stop in the same way. What never
//! belongs here: any word of the domain (streams, edges, money), any decision of one program.
//!
//! A program's `main` in order: parse [`config::Flags`], [`config::load`] its settings, [`telemetry::init`],
//! [`stop::Signals::install`], make [`Tasks`], bind [`ops::Listener`], start, then [`stop::Signals::stop`].
#![forbid(unsafe_code)]

pub mod config;
pub mod data;
pub mod exit;
pub mod http;
pub mod ops;
pub mod secret;
pub mod stop;
pub mod tasks;
pub mod telemetry;
pub mod trust;

pub use secret::Secret;
pub use tasks::{Spawner, Tasks};
pub use trust::Trust;
