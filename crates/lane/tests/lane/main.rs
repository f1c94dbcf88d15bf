//! A lane against a viewer that really signs, and an edge's shelf made of numbers.

mod greeting;
mod money;
mod random;
mod serving;
mod world;
