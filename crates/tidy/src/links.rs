//! Links between our pages: each leads to a file that is there, and to a heading that is in it.

use std::{collections::BTreeSet, fs, path::Path};

use crate::sources::File;

/// Whether the links of `path` (relative to the root) are held: pages at the root and in `docs/`.
#[must_use]
pub fn is_held(path: &str) -> bool {
    path.ends_with(".md") && (path.starts_with("docs/") || !path.contains('/'))
}

/// Links of `page` that lead nowhere.
#[must_use]
pub fn complaints(root: &Path, page: &File) -> Vec<String> {
    let folder = root.join(&page.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut complaints = Vec::new();
    for (line, target) in targets(&page.text) {
        let (file, heading) =
            target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
        let path = if file.is_empty() { root.join(&page.path) } else { folder.join(file) };
        if !path.exists() {
            complaints.push(format!("{}:{line}: `{target}` leads to no file", page.path));
        } else if let Some(heading) =
            heading.filter(|_| path.extension().is_some_and(|ending| ending == "md"))
        {
            let known = fs::read_to_string(&path).is_ok_and(|text| headings(&text).contains(heading));
            if !known {
                complaints.push(format!("{}:{line}: `{target}` leads to no heading", page.path));
            }
        }
    }
    complaints
}

/// Line and target of each link that stays within the project.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut targets = Vec::new();
    for (at, line) in prose(text) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("](") {
            let inside_code = before.matches('`').count() % 2 == 1;
            let Some((target, next)) = after.split_once(')') else { break };
            if !inside_code {
                targets.push((at, target));
            }
            rest = if inside_code { after } else { next };
        }
        if let Some((_, target)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) {
            targets.push((at, target));
        }
    }
    targets.retain_mut(|(_, target)| {
        // A title may follow in quotes.
        *target = target.split_whitespace().next().unwrap_or_default();
        !target.contains("://") && !target.starts_with("mailto:")
    });
    targets
}

/// Lines outside code blocks, counted from one.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!in_code && !fence).then_some((at + 1, line))
    })
}

/// The anchors of all headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let heading = line.trim_start_matches('#').trim();
            heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
                .map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(text: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("docs/glossary.md"), "# The words, all of them\n").unwrap();
        fs::write(root.path().join("docs/page.md"), text).unwrap();
        complaints(root.path(), &File { path: "docs/page.md".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let text = "# A b\n[a](glossary.md) [b](../docs/glossary.md#the-words-all-of-them \"t\") [c](#a-b)\n\
                    ![d](https://example.org/x.png) [e](mailto:a@b.c)\n[f]: glossary.md\n";
        assert_eq!(about(text), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_named_with_their_line() {
        assert_eq!(about("\n[a](gone.md)\n"), ["docs/page.md:2: `gone.md` leads to no file"]);
        assert_eq!(
            about("[a](glossary.md#gone)\n"),
            ["docs/page.md:1: `glossary.md#gone` leads to no heading"]
        );
        assert_eq!(about("[a](#gone)\n"), ["docs/page.md:1: `#gone` leads to no heading"]);
        assert_eq!(about("[f]: gone.md\n"), ["docs/page.md:1: `gone.md` leads to no file"]);
        assert_eq!(about("[a](glossary.md) and [b](gone.md)\n").len(), 1);
    }

    #[test]
    fn code_is_no_link() {
        assert_eq!(about("```\n[a](gone.md)\n```\n`[a](gone.md)`\n"), Vec::<String>::new());
    }

    #[test]
    fn pages_of_the_root_and_docs_are_held() {
        assert!(is_held("README.md") && is_held("docs/protocol/signing.md"));
        assert!(!is_held("crates/a/README.md") && !is_held("docs/a.txt"));
    }
}
