//! The house as it stands. A red test here names the file and says what to do.
#![cfg(test)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use millstream_tidy::{floors, links, sources};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| String::from("cargo"));
    let about = output("rustc", &["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let json = output(&cargo, &["metadata", "--format-version", "1", "--locked", "--filter-platform", host]);
    let metadata: floors::Metadata = serde_json::from_str(&json).unwrap();
    assert_none(&floors::complaints(&metadata));
}

#[test]
fn files_are_rooms_with_names_and_bounds() {
    let files = sources::read(&root()).unwrap();
    let found = files.iter().flat_map(sources::complaints).collect::<Vec<_>>();
    assert_none(&found);
    // The walk itself works: it has found this file.
    assert!(files.iter().any(|file| file.path == "crates/tidy/tests/house.rs"));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = root();
    let pages = sources::read(&root).unwrap();
    let found = pages.iter().filter(|page| links::is_held(&page.path));
    assert_none(&found.flat_map(|page| links::complaints(&root, page)).collect::<Vec<_>>());
}
