//! What Millstream costs and how fast it is: real programs, each a process of its own, beside named peers in the same
//! run, told as Markdown tables.
//!
//! ```text
//! cli ── scenario ──┬── e2e's stage (programs, publishers, browsers)
//!                   ├── ends (one end of a bare connection, as a process), baseline (our first transport), path
//!                   │   (a viewer's, simulated), peer (nginx-rtmp), tap (RTMP)
//!                   └── cost (/proc), figures, sheet (the table), plot
//! ```
//!
//! What never belongs here: a bar that a test holds. A figure is measured and told with what it includes.
#![forbid(unsafe_code)]

mod baseline;
pub mod cli;
mod clips;
mod cost;
mod curve;
mod ends;
mod figures;
mod machine;
mod path;
mod peer;
mod plot;
mod scenario;
mod sheet;
mod tap;
