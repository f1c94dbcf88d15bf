//! Who may import whom: one table, held against what cargo says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Where a workspace member lives, and with that what it may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A floor that others stand on: imports lower floors alone.
    Floor(u8),
    /// A mind: pure, stands on the floors, knows no other core.
    Core,
    /// Imports exactly these of ours.
    Only(&'static [&'static str]),
    /// A shell around cores: imports no other program.
    Program,
    /// Puts programs together, or watches them from outside: imports what it needs.
    Assembly,
}

/// Every member of the workspace. A new one is added here, and to the page that explains the house.
pub const HOUSE: &[(&str, Place)] = &[
    ("millstream-model", Place::Floor(0)),
    ("millstream-wire", Place::Floor(1)),
    ("millstream-playlist", Place::Floor(2)),
    ("millstream-swarm", Place::Core),
    ("millstream-placement", Place::Core),
    ("millstream-ledger", Place::Core),
    ("millstream-lane", Place::Core),
    ("millstream-cache", Place::Core),
    ("millstream-segmenter", Place::Core),
    ("millstream-rtmp", Place::Core),
    ("millstream-sctp", Place::Core),
    ("millstream-netsim", Place::Only(&["millstream-model"])),
    ("millstream-service", Place::Only(&["millstream-model"])),
    ("millstream-datachannel", Place::Only(&["millstream-model", "millstream-sctp"])),
    ("millstream-pipeline", Place::Only(&["millstream-model", "millstream-segmenter"])),
    ("millstream-swarm-wasm", Place::Only(&["millstream-model", "millstream-wire", "millstream-swarm"])),
    ("millstream-tidy", Place::Only(&[])),
    ("millstream-packager", Place::Program),
    ("millstream-tracker", Place::Program),
    ("millstream-edge", Place::Program),
    ("millstream-viewer", Place::Program),
    ("millstream", Place::Assembly),
    ("millstream-e2e", Place::Assembly),
    ("millstream-benches", Place::Assembly),
    ("millstream-fuzz", Place::Assembly),
];

/// What makes a core or a floor impure, however deep below it: a runtime with its clock, and chance.
const IMPURE: &[&str] = &["tokio", "rand"];

/// What a core does not use itself; a foreign library below it may (`mp4-atom` logs what it skips).
const UNUSED: &[&str] = &["tracing", "log"];

/// What cargo says: a subset of `cargo metadata --format-version 1`.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// What breaks the one-way rule.
#[must_use]
pub fn complaints(metadata: &Metadata) -> Vec<String> {
    let house: BTreeMap<&str, Place> = HOUSE.iter().copied().collect();
    let members: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    let ours = metadata.packages.iter().filter(|package| members.contains(package.id.as_str()));
    let mut complaints = Vec::new();
    for package in ours {
        let Some(&place) = house.get(package.name.as_str()) else {
            complaints.push(format!(
                "{} has no place in the house: add it to HOUSE in crates/tidy/src/floors.rs",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(&below) = house.get(dependency.name.as_str()) else { continue };
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if !may_import(place, &dependency.name, below, for_tests) {
                let kind = if for_tests { " for its tests" } else { "" };
                complaints.push(format!(
                    "{} ({place:?}) may not import {} ({below:?}){kind}: see the one-way rule in ARCHITECTURE.md",
                    package.name, dependency.name
                ));
            }
        }
        if matches!(place, Place::Floor(_) | Place::Core) {
            complaints.extend(impurities(metadata, package));
        }
    }
    complaints
}

fn may_import(above: Place, name: &str, below: Place, for_tests: bool) -> bool {
    match (above, below) {
        (Place::Assembly, _) => true,
        (_, Place::Program | Place::Assembly) => false,
        // Tests may borrow a neighbour; what is shipped may not.
        _ if for_tests => true,
        (Place::Floor(above), Place::Floor(below)) => below < above,
        (Place::Core, Place::Floor(_)) => true,
        (Place::Only(allowed), _) => allowed.contains(&name),
        (Place::Program, _) => name != "millstream-swarm-wasm" && name != "millstream-tidy",
        (Place::Floor(_) | Place::Core, _) => false,
    }
}

/// Walks down from `package` along what is shipped, and says how each impure crate is reached.
fn impurities(metadata: &Metadata, package: &Package) -> Vec<String> {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut seen = BTreeSet::from([package.id.as_str()]);
    let mut open = vec![(package.id.as_str(), package.name.clone())];
    let mut complaints = Vec::new();
    while let Some((id, way)) = open.pop() {
        for edge in nodes.get(id).map_or(&[][..], |node| &node.deps) {
            let shipped = edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if !shipped || !seen.insert(&edge.pkg) {
                continue;
            }
            let name = names.get(edge.pkg.as_str()).copied().unwrap_or(&edge.pkg);
            let way = format!("{way} -> {name}");
            let own = id == package.id && UNUSED.contains(&name);
            if own || IMPURE.contains(&name) {
                complaints
                    .push(format!("{way}: a core takes time, chance and logs as arguments and outputs"));
            } else {
                open.push((&edge.pkg, way));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A workspace of `members` with `edges` (importer, imported, kind); what is imported and no member is foreign.
    fn workspace(members: &[&str], edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let mut all: Vec<&str> = members.to_vec();
        all.extend(edges.iter().flat_map(|(above, below, _)| [*above, *below]));
        all.sort_unstable();
        all.dedup();
        let of = |name: &str, each: &dyn Fn(&str, Option<&str>) -> Value| -> Vec<Value> {
            let own = edges.iter().filter(|(above, _, _)| *above == name);
            own.map(|(_, below, kind)| each(below, *kind)).collect()
        };
        let packages: Vec<Value> = all
            .iter()
            .map(|name| {
                let dependencies = of(name, &|below, kind| json!({ "name": below, "kind": kind }));
                json!({ "id": name, "name": name, "dependencies": dependencies })
            })
            .collect();
        let nodes: Vec<Value> = all
            .iter()
            .map(|name| {
                let deps = of(name, &|below, kind| json!({ "pkg": below, "dep_kinds": [{ "kind": kind }] }));
                json!({ "id": name, "deps": deps })
            })
            .collect();
        let metadata =
            json!({ "packages": packages, "workspace_members": members, "resolve": { "nodes": nodes } });
        serde_json::from_value(metadata).unwrap()
    }

    /// The complaints about one import among members.
    fn import(above: &str, below: &str, kind: Option<&str>) -> Vec<String> {
        complaints(&workspace(&[above, below], &[(above, below, kind)]))
    }

    #[test]
    fn what_the_house_allows_is_not_complained_of() {
        for (above, below) in [
            ("millstream-wire", "millstream-model"),
            ("millstream-playlist", "millstream-wire"),
            ("millstream-swarm", "millstream-playlist"),
            ("millstream-service", "millstream-model"),
            ("millstream-swarm-wasm", "millstream-swarm"),
            ("millstream-tracker", "millstream-ledger"),
            ("millstream-edge", "millstream-datachannel"),
            ("millstream", "millstream-tracker"),
            ("millstream-e2e", "millstream"),
            ("millstream-benches", "millstream-edge"),
        ] {
            assert_eq!(import(above, below, None), Vec::<String>::new(), "{above} -> {below}");
        }
    }

    #[test]
    fn every_import_against_the_rule_is_named() {
        for (above, below) in [
            ("millstream-model", "millstream-wire"),
            ("millstream-wire", "millstream-playlist"),
            ("millstream-swarm", "millstream-ledger"),
            ("millstream-lane", "millstream-cache"),
            ("millstream-segmenter", "millstream-service"),
            ("millstream-service", "millstream-wire"),
            ("millstream-datachannel", "millstream-wire"),
            ("millstream-swarm-wasm", "millstream-playlist"),
            ("millstream-tracker", "millstream-packager"),
            ("millstream-viewer", "millstream-swarm-wasm"),
            ("millstream-ledger", "millstream-tracker"),
            ("millstream-packager", "millstream"),
        ] {
            let complaints = import(above, below, None);
            assert_eq!(complaints.len(), 1, "{above} -> {below}");
            assert!(complaints[0].starts_with(&format!("{above} (")), "{complaints:?}");
        }
    }

    #[test]
    fn tests_may_borrow_a_neighbour_but_never_a_program() {
        assert!(import("millstream-swarm", "millstream-ledger", Some("dev")).is_empty());
        assert_eq!(import("millstream-tracker", "millstream-edge", Some("dev")).len(), 1);
        assert_eq!(import("millstream-swarm", "millstream-ledger", Some("build")).len(), 1);
    }

    #[test]
    fn a_member_without_a_place_is_told_where_to_get_one() {
        let complaints = complaints(&workspace(&["millstream-attic"], &[]));
        assert_eq!(
            complaints,
            ["millstream-attic has no place in the house: add it to HOUSE in crates/tidy/src/floors.rs"]
        );
    }

    #[test]
    fn a_runtime_is_found_however_deep_it_hides() {
        let way = [("millstream-swarm", "innocent", None), ("innocent", "tokio", None)];
        let found = complaints(&workspace(&["millstream-swarm"], &way));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("millstream-swarm -> innocent -> tokio: "), "{found:?}");
        let for_tests = [("millstream-swarm", "innocent", Some("dev")), ("innocent", "tokio", None)];
        assert!(complaints(&workspace(&["millstream-swarm"], &for_tests)).is_empty());
        let logs_itself = [("millstream-swarm", "tracing", None)];
        assert_eq!(complaints(&workspace(&["millstream-swarm"], &logs_itself)).len(), 1);
        let library_logs = [("millstream-swarm", "innocent", None), ("innocent", "tracing", None)];
        assert!(complaints(&workspace(&["millstream-swarm"], &library_logs)).is_empty());
        let in_a_shell = [("millstream-service", "tokio", None)];
        assert!(complaints(&workspace(&["millstream-service"], &in_a_shell)).is_empty());
    }
}
