//! `millstream-benches`: measures the programs, or plays one end of a measurement.

fn main() -> anyhow::Result<std::process::ExitCode> {
    millstream_benches::cli::main()
}
