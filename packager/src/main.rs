//! The program; see `millstream_packager::program`.
fn main() -> std::process::ExitCode {
    millstream_service::exit::code(millstream_packager::program::main())
}
