//! The program; see `millstream_edge::program`.
fn main() -> anyhow::Result<()> {
    millstream_edge::program::main()
}
