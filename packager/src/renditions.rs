//! What viewers are offered beside what a publisher sends: nothing, or a ladder of lower renditions.
//!
//! [`config`] says which, [`plan`] what of it suits a source, [`budget`] what the machine can carry (all pure);
//! [`ladder`] is the pipeline that makes them, one [`run`] for each continuity of a stream. What never belongs here:
//! how pictures are decoded and encoded (`millstream_pipeline`), where parts are cut (`millstream_segmenter`).

mod budget;
mod config;
mod ladder;
mod plan;
mod run;

pub use budget::{Budget, Lease, Load};
pub use config::{Config, Excess, Preset, Renditions, Step, StreamRenditions};
pub use ladder::Ladders;
pub use plan::{Coding, Plan, Planned, Size, rung_name};
