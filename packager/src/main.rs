//! The program; see `millstream_packager::program`.
fn main() -> anyhow::Result<()> {
    millstream_packager::program::main()
}
