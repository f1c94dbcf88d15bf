//! The ledger's tests: stories, and a random world beside a model that is too simple to be wrong.

mod model;
mod random;
mod stage;
mod stories;
