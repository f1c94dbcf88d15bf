//! One TOML file, `MILLSTREAM_<PROGRAM>_<FIELD>` in the environment, and flags; later ones win in this order.
//!
//! A settings struct is declared with [`settings!`](crate::settings): its doc comments are the manual, printed by
//! `--print-config` as a commented file. An unknown field is refused by name wherever it comes from, with the
//! place it stands at and what was probably meant.

mod documented;
mod layer;
mod print;

use std::{fmt, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

pub use documented::{Documented, Field};
#[doc(hidden)]
pub use documented::{Leaf, Probe};
pub use print::print;

/// Longest configuration file read: far above any honest one, far below what would hurt.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What [`settings!`](crate::settings) makes: documented, complete by default, readable and printable.
pub trait Settings: Documented + Default + Serialize + DeserializeOwned {}

impl<T: Documented + Default + Serialize + DeserializeOwned> Settings for T {}

/// The flags every program has. Put it into the program's own with `#[command(flatten)]`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML). `--print-config` shows what may stand in it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one field, e.g. `--set ops.listen=127.0.0.1:9200`; wins over file and environment.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub sets: Vec<String>,
    /// Print the configuration in force as a commented file, and end.
    #[arg(long)]
    pub print_config: bool,
}

/// Why there is no configuration. The text says where to look and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than [`FILE_BYTES_MAX`].
    #[error("{path}: longer than {FILE_BYTES_MAX} bytes")]
    TooLong {
        /// The file as it was named.
        path: PathBuf,
    },
    /// A field no such program has.
    #[error("{place}: unknown field `{field}`{hint}")]
    Unknown {
        /// File and line, environment variable or flag.
        place: Place,
        /// The field's full path, with dots.
        field: String,
        /// "; did you mean …?" or nothing.
        hint: String,
    },
    /// A value that does not fit its field, or text that is no TOML.
    #[error("{place}: {reason}")]
    Invalid {
        /// File and line, environment variable or flag.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings hold something TOML cannot write, e.g. a number beyond 2^63.
    #[error("cannot be printed as TOML: {0}")]
    Print(#[from] toml::ser::Error),
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from one.
    Line(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// The text after `--set`.
    Set(String),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(out, "{}:{line}", path.display()),
            Self::Variable(name) => out.write_str(name),
            Self::Set(field) => write!(out, "--set {field}"),
        }
    }
}

/// The settings of `program` (e.g. `packager`) from `flags`, the process's environment and the file they name
/// (`--config`, else `MILLSTREAM_<PROGRAM>_CONFIG`).
///
/// # Errors
/// Says which place holds what that cannot be used.
pub fn load<T: Settings>(program: &str, flags: &Flags) -> Result<T, Error> {
    // What is not UTF-8 cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(program, flags, environment)
}

/// [`load`] with the environment as an argument.
///
/// # Errors
/// As [`load`].
pub fn load_from<T: Settings>(
    program: &str,
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    let environment = layer::Environment::of(program, environment);
    let mut layers = match flags.config.as_ref().or(environment.file.as_ref()) {
        Some(path) => layer::Layers::from_file::<T>(path)?,
        None => layer::Layers::default(),
    };
    for (name, path, value) in &environment.fields {
        layers.set::<T>(&Place::Variable(name.clone()), path, value)?;
    }
    for set in &flags.sets {
        let (path, value) = set.split_once('=').ok_or_else(|| Error::Invalid {
            place: Place::Set(set.clone()),
            reason: String::from("must be FIELD=VALUE"),
        })?;
        layers.set::<T>(&Place::Set(path.to_owned()), path, value)?;
    }
    layers.settings()
}

#[cfg(test)]
mod tests;
