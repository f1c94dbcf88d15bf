//! Everything in one: `millstream up` is a whole Millstream on one machine, `millstream view` a viewer without a
//! screen.
#![forbid(unsafe_code)]

mod api;
mod cli;
mod demo;
mod up;

fn main() -> anyhow::Result<()> {
    cli::main()
}
