//! The program; see `millstream_edge::program`.
fn main() -> std::process::ExitCode {
    millstream_service::exit::code(millstream_edge::program::main())
}
