//! The program; see `millstream_tracker::program`.
fn main() -> anyhow::Result<()> {
    millstream_tracker::program::main()
}
