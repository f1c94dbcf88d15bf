//! Embeds the player's files, built by `npm run build` in `player-sdk`, into the tracker's binary.
//!
//! Where they are not built (a bare `cargo build` of a fresh clone), cargo warns and the page says so.

use std::{env, fs, path::Path};

/// What pages may load, as the player's build names it.
const FILES: [&str; 3] = ["millstream.js", "millstream.script.js", "millstream.full.js"];

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../player-sdk/dist");
    let out = env::var("OUT_DIR").unwrap_or_default();
    for name in FILES {
        let from = dist.join(name);
        println!("cargo:rerun-if-changed={}", from.display());
        if !from.exists() {
            println!("cargo:warning=the player is not built, pages will not play: run scripts/setup-npm");
        }
        let missing =
            format!("console.error('{name} is not built: run scripts/setup-npm, and cargo again');\n");
        let text = fs::read(&from).unwrap_or_else(|_| missing.into_bytes());
        if let Err(error) = fs::write(Path::new(&out).join(name), text) {
            println!("cargo:error=writing {name}: {error}");
        }
    }
}
