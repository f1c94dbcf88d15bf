//! The program; see `millstream_tracker::program`.
fn main() -> std::process::ExitCode {
    millstream_service::exit::code(millstream_tracker::program::main())
}
