//! Everything in one: `millstream up` is a whole Millstream on one machine, `millstream view` a viewer without a
//! screen.
#![forbid(unsafe_code)]

mod api;
mod cli;
mod demo;
mod up;

fn main() -> std::process::ExitCode {
    millstream_service::exit::code(cli::main())
}
