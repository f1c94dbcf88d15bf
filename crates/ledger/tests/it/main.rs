//! The ledger's tests: stories, and a random world beside a model that is too simple to be wrong.

#[cfg(test)]
mod kept;
#[cfg(test)]
mod model;
#[cfg(test)]
mod published;
#[cfg(test)]
mod random;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod world;
