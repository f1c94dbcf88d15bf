//! What stands in our files, and what they are called.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Nobody keeps a longer file in their head; near 600 a file asks for a role module.
pub const LINES_MAX: usize = 700;

/// Files that may be longer. Empty, and meant to stay so.
const LONGER: &[&str] = &[];

/// Hidden folders of ours. Others belong to tools: a version control, a cache.
const HIDDEN: &[&str] = &[".ci", ".config"];

/// Folders that hold nothing of ours: built, fetched or made at run time.
const FOREIGN: &[&str] = &["target", "node_modules", "dist", "data", "corpus", "artifacts"];

/// Files with lines that people write.
const SOURCE: &[&str] = &["rs", "ts", "mts", "js", "mjs", "css", "html", "sql", "sh", "py"];

/// Files that are read for words that must not be there.
const TEXT: &[&str] = &["md", "toml", "json", "yaml", "yml", ""];

/// Words that say nothing, and the one place (a part of the path) where a standard made one of them its own term.
const EMPTY_WORDS: &[(&str, &[&str])] = &[
    ("chunk", &["rtmp", "sctp", "datachannel"]),
    ("fragment", &["segmenter"]),
    ("manager", &[]),
    ("helper", &[]),
    ("util", &[]),
    ("common", &[]),
    ("info", &[]),
    ("handler", &[]),
];

/// Put together here so that this file does not find itself.
const BANNED: &[(&str, &str)] = &[
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimple", "mented!("), "finish it, or leave it out"),
    (concat!("#[ig", "nore"), "a test that is not run proves nothing: mend it or remove it"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/tmp/", "bash"), "a path of one machine"),
];

/// The one reason to leave a test out: another starts it, as a process of its own.
const IGNORED_FOR: &str = concat!("#[ig", "nore = \"run by ");

/// What in a TypeScript test silences others.
const SILENCING: &[&str] = &[".only(", ".skip("];

/// The reason that a wait in a test must carry, on its line or the line above.
const WAIT_REASON: &str = "// waits because";

/// A file of ours.
#[derive(Debug)]
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// Our sources and texts below `root`, in order.
///
/// # Errors
/// When the system refuses, or a file that should be text is not.
pub fn read(root: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if is_foreign(&name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                // A cache may have any name; its maker marks it (https://bford.info/cachedir).
                if !path.join("CACHEDIR.TAG").exists() {
                    open.push(path);
                }
            } else if is_text(&path) {
                match fs::read_to_string(&path) {
                    Ok(text) => files.push(File { path: relative(root, &path), text }),
                    // Only a file without an ending may be something else.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData && ending(&path).is_empty() => {}
                    // Gone since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                    }
                }
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// What is wrong with `file`.
#[must_use]
pub fn complaints(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = file.path.as_str();
    let rust = path.ends_with(".rs");
    let lines = file.text.lines().count();
    if SOURCE.contains(&ending(Path::new(path))) && lines > LINES_MAX && !LONGER.contains(&path) {
        complaints.push(format!("{path}: {lines} lines; split it into rooms of at most {LINES_MAX}"));
    }
    if rust && !path.ends_with("build.rs") && !file.text.starts_with("//!") {
        complaints.push(format!("{path}:1: must begin with a `//!` line that says what this room is for"));
    }
    for word in path_words(path) {
        complaints.extend(
            empty_word(path, &word).map(|word| format!("{path}: a file named `{word}` says nothing")),
        );
    }
    let in_tests = path.split('/').any(|part| part == "tests");
    let mut above = "";
    for (at, line) in file.text.lines().enumerate() {
        let mut say = |what: &str| complaints.push(format!("{path}:{}: {what}", at + 1));
        for (text, reason) in BANNED {
            if line.contains(text) && !line.contains(IGNORED_FOR) {
                say(&format!("`{text}`: {reason}"));
            }
        }
        if let (true, Some(name)) = (rust, module_name(line)) {
            for word in words(name).filter_map(|word| empty_word(path, &word)) {
                say(&format!("a module named `{word}` says nothing"));
            }
        }
        let has_reason = line.contains(WAIT_REASON) || above.contains(WAIT_REASON);
        if rust && in_tests && !has_reason && calls_sleep(line) {
            say("a test waits for an event, not for time to pass; else say `// waits because …`");
        }
        if path.ends_with(".test.ts") && SILENCING.iter().any(|text| line.contains(text)) {
            say("a test that is not run proves nothing: mend it or remove it");
        }
        above = line;
    }
    complaints
}

fn is_foreign(name: &OsStr) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|one| name == OsStr::new(one));
    // `.git` is a folder, or a file that names one.
    is_one_of(FOREIGN) || (name.as_encoded_bytes().starts_with(b".") && !is_one_of(HIDDEN))
}

fn is_text(path: &Path) -> bool {
    let ending = ending(path);
    SOURCE.contains(&ending) || TEXT.contains(&ending)
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = inside
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}

fn path_words(path: &str) -> Vec<String> {
    PathBuf::from(path)
        .components()
        .flat_map(|part| {
            let name = part.as_os_str().to_string_lossy().into_owned();
            words(&name).collect::<Vec<_>>()
        })
        .collect()
}

fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_ascii_lowercase)
}

/// The empty word that `word` is (in singular or plural), unless a standard speaks so at `path`.
fn empty_word(path: &str, word: &str) -> Option<&'static str> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    EMPTY_WORDS
        .iter()
        .filter(|(empty, _)| *empty == word || *empty == singular)
        .find(|(_, places)| !places.iter().any(|place| path.contains(place)))
        .map(|(empty, _)| *empty)
}

/// The name in `mod name;` or `mod name {`.
fn module_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = rest.trim_start();
        rest.strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .map_or(rest, |(_, rest)| rest)
            .trim_start()
    });
    let name = line.strip_prefix("mod ")?;
    name.split([';', ' ', '{']).next()
}

fn calls_sleep(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["sleep(", "sleep_until("].iter().any(|call| {
        code.match_indices(call).any(|(at, _)| {
            !code[..at].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(path: &str, text: &str) -> Vec<String> {
        complaints(&File { path: path.to_owned(), text: text.to_owned() })
    }

    #[track_caller]
    fn assert_clean(path: &str, text: &str) {
        assert_eq!(about(path, text), Vec::<String>::new());
    }

    #[track_caller]
    fn assert_named(path: &str, text: &str, complaint: &str) {
        let found = about(path, text);
        assert!(found.len() == 1 && found[0].contains(complaint), "{found:?}");
    }

    #[test]
    fn a_long_file_is_named_and_a_full_one_is_not() {
        let full = format!("//! Room.\n{}", "\n".repeat(LINES_MAX - 1));
        assert_clean("crates/a/src/lib.rs", &full);
        assert_named("crates/a/src/lib.rs", &format!("{full}\n"), "701 lines");
        assert_named("player-sdk/src/a.ts", &"\n".repeat(701), "701 lines");
        assert_clean("docs/a.md", &"\n".repeat(701));
    }

    #[test]
    fn a_room_without_its_line_is_named() {
        assert_named("crates/a/src/lib.rs", "// A room.\n", "a/src/lib.rs:1: must begin with");
        assert_clean("crates/a/build.rs", "fn main() {}\n");
    }

    #[test]
    fn empty_words_are_found_in_files_folders_and_modules() {
        assert_named("crates/a/src/utils.rs", "//! Room.\n", "`util`");
        assert_named("player-sdk/src/stream-manager.ts", "", "`manager`");
        assert_named("crates/helpers/README.md", "", "`helper`");
        assert_named(
            "crates/a/src/lib.rs",
            "//! Room.\npub(crate) mod error_info;\n",
            "lib.rs:2: a module named `info`",
        );
        assert_named("crates/a/src/lib.rs", "//! Room.\nmod common {\n", "lib.rs:2: a module named `common`");
        assert_clean("crates/a/src/information.rs", "//! Room.\nmod command;\n");
    }

    #[test]
    fn a_standards_own_term_stands_where_the_standard_is() {
        assert_clean("crates/rtmp/src/chunk.rs", "//! RTMP chunks.\n");
        assert_named("crates/swarm/src/chunk.rs", "//! Room.\n", "`chunk`");
    }

    #[test]
    fn unfinished_silenced_and_machine_bound_lines_are_found() {
        for (text, _) in BANNED {
            assert_named("crates/a/src/lib.rs", &format!("//! Room.\n    {text}\n"), "lib.rs:2: ");
        }
        assert_clean("crates/a/src/lib.rs", &format!("//! Room.\n{IGNORED_FOR}the test below\"]\n"));
        assert_named("docs/a.md", concat!("see /wo", "rk/main\n"), "docs/a.md:1: ");
        assert_named("player-sdk/test/a.test.ts", "it.only('x')\n", "proves nothing");
    }

    #[test]
    fn a_wait_in_a_test_needs_its_reason() {
        let path = "crates/a/tests/story.rs";
        assert_named(
            path,
            "//! Room.\n    tokio::time::sleep(Duration::ZERO).await;\n",
            "story.rs:2: a test waits",
        );
        assert_named(path, "//! Room.\nthread::sleep(x);\n", "a test waits");
        assert_named(path, "//! Room.\nsleep(x).await;\n", "a test waits");
        assert_clean(path, "//! Room.\nsleep(x).await; // waits because the kernel says nothing\n");
        assert_clean(path, "//! Room.\n// waits because the kernel says nothing\nsleep(x).await;\n");
        assert_clean(path, "//! Room.\n// never sleep(x)\nlet oversleep = no_sleep(x);\n");
        assert_clean("crates/a/src/lib.rs", "//! Room.\ntokio::time::sleep(x).await;\n");
    }

    #[test]
    fn our_files_are_found_and_foreign_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let ours = ["README.md", "scripts/test", "src/lib.rs", ".ci/run"];
        let foreign = [
            "target/a.rs",
            "a/node_modules/b.ts",
            "a.png",
            ".git",
            ".cache/a.md",
            "built/CACHEDIR.TAG",
            "built/a.json",
        ];
        for path in ours.iter().chain(&foreign) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(root.path().join("binary"), [0xff, 0xfe]).unwrap();
        let paths: Vec<String> = read(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [".ci/run", "README.md", "scripts/test", "src/lib.rs"]);
    }
}
