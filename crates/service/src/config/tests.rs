//! Stories of an operator with a file, an environment and flags.

use std::{net::SocketAddr, path::PathBuf};

use super::*;
use crate::Secret;

crate::settings! {
    /// What the wheel does.
    ///
    /// All of it.
    struct Mill {
        /// Where grain comes in.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 1935)),
        /// Its name above the door.
        name: String = String::from("old \"mill\""),
        /// The wheel.
        wheel: Wheel = Wheel::default(),
        /// The key of the door.
        token: Option<Secret<String>> = None,
        /// Who may come.
        guests: Vec<String> = vec![String::from("a"), String::from("b")],
        /// Where flour lies.
        folder: PathBuf = PathBuf::from("data"),
    }
}

crate::settings! {
    /// The wheel's settings.
    struct Wheel {
        /// Turns a minute.
        turns: u32 = 12,
        /// Share of the water.
        share: f64 = 0.5,
        /// Its axle.
        axle: Axle = Axle::default(),
    }
}

crate::settings! {
    /// The axle's settings.
    struct Axle {
        /// Drops of oil a day.
        oil_drops: u8 = 3,
    }
}

fn file(text: &str) -> (tempfile::TempDir, Flags) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mill.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Flags { config: Some(path), ..Flags::default() })
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn sets(sets: &[&str]) -> Flags {
    Flags { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Flags::default() }
}

#[test]
fn what_is_printed_reads_back_as_the_default() {
    let printed = print(&Mill::default()).unwrap();
    assert_eq!(toml::from_str::<Mill>(&printed).unwrap(), Mill::default(), "{printed}");
    let (_folder, flags) = file(&printed);
    assert_eq!(load_from::<Mill>("mill", &flags, []).unwrap(), Mill::default());
}

#[test]
fn every_field_is_printed_with_its_comment_and_sections_come_last() {
    let printed = print(&Mill::default()).unwrap();
    assert_eq!(
        printed,
        r#"# What the wheel does.
#
# All of it.

# Where grain comes in.
listen = "127.0.0.1:1935"

# Its name above the door.
name = 'old "mill"'

# The key of the door.
# token = (not set)

# Who may come.
guests = ["a", "b"]

# Where flour lies.
folder = "data"

# The wheel.
[wheel]

# Turns a minute.
turns = 12

# Share of the water.
share = 0.5

# Its axle.
[wheel.axle]

# Drops of oil a day.
oil_drops = 3
"#
    );
}

#[test]
fn flags_win_over_environment_and_environment_over_the_file() {
    let (_folder, mut flags) =
        file("name = \"file\"\n[wheel]\nturns = 1\nshare = 0.25\n[wheel.axle]\noil_drops = 1\n");
    flags.sets = vec![String::from("wheel.axle.oil_drops=9")];
    let variables = environment(&[
        ("MILLSTREAM_MILL_WHEEL__TURNS", "7"),
        ("MILLSTREAM_MILL_WHEEL__AXLE__OIL_DROPS", "8"),
        ("MILLSTREAM_MILL_GUESTS", "[\"c\"]"),
        ("MILLSTREAM_OTHER_TURNS", "3"),
    ]);
    let mill: Mill = load_from("mill", &flags, variables).unwrap();
    assert_eq!(mill.name, "file");
    assert_eq!(mill.wheel, Wheel { turns: 7, share: 0.25, axle: Axle { oil_drops: 9 } });
    assert_eq!(mill.guests, ["c"]);
    assert_eq!(mill.listen, Mill::default().listen);
}

#[test]
fn the_environment_may_name_the_file() {
    let (_folder, flags) = file("name = \"file\"");
    let path = flags.config.unwrap();
    let variables = environment(&[("MILLSTREAM_MILL_CONFIG", path.to_str().unwrap())]);
    assert_eq!(load_from::<Mill>("mill", &Flags::default(), variables).unwrap().name, "file");
}

#[test]
fn text_that_looks_like_a_number_is_text_where_text_is_wanted() {
    let mill: Mill = load_from("mill", &sets(&["name=12", "token=345"]), []).unwrap();
    assert_eq!(mill.name, "12");
    assert!(mill.token.unwrap().matches(b"345"));
}

#[test]
fn an_unknown_field_is_refused_with_file_line_and_the_field_that_was_meant() {
    let (_folder, flags) = file("name = \"x\"\n\n[wheel]\nturn = 4\n");
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.ends_with("mill.toml:4: unknown field `wheel.turn`; did you mean `turns`?"), "{error}");
}

#[test]
fn an_unknown_section_and_a_field_nothing_like_it_are_told_what_there_is() {
    let (_folder, flags) = file("[zzz]\na = 1\n");
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.contains("mill.toml:1: unknown field `zzz`; there are: listen, name, wheel"), "{error}");
}

#[test]
fn an_unknown_variable_or_set_is_refused_by_name() {
    let variables = environment(&[("MILLSTREAM_MILL_WHEEL__TRUNS", "7")]);
    let error = load_from::<Mill>("mill", &Flags::default(), variables).unwrap_err().to_string();
    assert_eq!(error, "MILLSTREAM_MILL_WHEEL__TRUNS: unknown field `wheel.truns`; did you mean `turns`?");
    let error = load_from::<Mill>("mill", &sets(&["nmae=x"]), []).unwrap_err().to_string();
    assert_eq!(error, "--set nmae: unknown field `nmae`; did you mean `name`?");
    let error = load_from::<Mill>("mill", &sets(&["name"]), []).unwrap_err().to_string();
    assert_eq!(error, "--set name: must be FIELD=VALUE");
}

#[test]
fn the_variables_kubernetes_adds_for_services_are_not_ours() {
    let variables = environment(&[
        ("MILLSTREAM_MILL_SERVICE_HOST", "10.0.0.1"),
        ("MILLSTREAM_MILL_SERVICE_PORT_HTTP", "80"),
        ("MILLSTREAM_MILL_PORT", "tcp://10.0.0.1:80"),
        ("MILLSTREAM_MILL_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("MILLSTREAM_MILL_OPS_PORT_9100_TCP", "tcp://10.0.0.1:9100"),
    ]);
    assert_eq!(load_from::<Mill>("mill", &Flags::default(), variables).unwrap(), Mill::default());
}

#[test]
fn a_value_that_does_not_fit_is_refused_where_it_stands() {
    let (_folder, flags) = file("name = \"x\"\n[wheel]\nturns = \"many\"\n");
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.contains("mill.toml:3: invalid type: string \"many\", expected u32"), "{error}");
    let (_folder, flags) = file("name = \"x\"\nlisten = \n");
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.contains("mill.toml:2: "), "{error}");
    let variables = environment(&[("MILLSTREAM_MILL_LISTEN", "nowhere")]);
    let error = load_from::<Mill>("mill", &Flags::default(), variables).unwrap_err().to_string();
    assert_eq!(error, "MILLSTREAM_MILL_LISTEN: invalid socket address syntax");
}

#[test]
fn a_value_cannot_bring_fields_of_its_own() {
    let variables = environment(&[("MILLSTREAM_MILL_WHEEL__TURNS", "3\nname = \"x\"")]);
    let error = load_from::<Mill>("mill", &Flags::default(), variables).unwrap_err().to_string();
    assert!(error.starts_with("MILLSTREAM_MILL_WHEEL__TURNS: invalid type"), "{error}");
}

#[test]
fn secrets_appear_neither_in_print_nor_in_errors() {
    let (_folder, flags) = file("token = \"hunter2\"\n");
    let mill: Mill = load_from("mill", &flags, []).unwrap();
    assert!(mill.token.as_ref().unwrap().matches(b"hunter2"));
    let printed = print(&mill).unwrap();
    assert!(printed.contains("# token = (set, not shown)") && !printed.contains("hunter2"), "{printed}");
    let (_folder, flags) = file("token = 12345678\n");
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.contains("mill.toml:1") && !error.contains("12345678"), "{error}");
}

#[test]
fn a_file_that_is_absent_or_endless_is_refused() {
    let flags = Flags { config: Some(PathBuf::from("no/such.toml")), ..Flags::default() };
    let error = load_from::<Mill>("mill", &flags, []).unwrap_err().to_string();
    assert!(error.starts_with("no/such.toml: cannot be read"), "{error}");
    let (_folder, flags) = file(&"#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1));
    assert!(matches!(load_from::<Mill>("mill", &flags, []), Err(Error::TooLong { .. })));
}
