//! File, environment and flags laid over each other; each refuses what no field takes.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{Error, FILE_BYTES_MAX, Field, Place, Settings};

/// Closer than this (Jaro-Winkler, 0 to 1) is worth a "did you mean".
const ALIKE_MIN: f64 = 0.7;

/// What has been said so far; what has not is left to the defaults.
#[derive(Debug, Default)]
pub(super) struct Layers(Table);

impl Layers {
    /// Reads and checks a file.
    pub(super) fn from_file<T: Settings>(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        let invalid = |error: &toml::de::Error| Error::Invalid {
            place: place(path, &text, error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        };
        let table = DeTable::parse(&text).map_err(|error| invalid(&error))?;
        let mut above = Vec::new();
        refuse_unknown(T::FIELDS, table.get_ref(), &mut above).map_err(|stranger| Error::Unknown {
            place: place(path, &text, stranger.at),
            field: stranger.field,
            hint: stranger.hint,
        })?;
        // Read once as the settings, for errors that know their line, and once as the lowest layer.
        toml::from_str::<T>(&text).map_err(|error| invalid(&error))?;
        toml::from_str(&text).map(Self).map_err(|error| invalid(&error))
    }

    /// Lays `text` over the field at `path` (names joined by dots).
    pub(super) fn set<T: Settings>(&mut self, place: &Place, path: &str, text: &str) -> Result<(), Error> {
        let names: Vec<&str> = path.split('.').collect();
        check_path(T::FIELDS, &names).map_err(|hint| Error::Unknown {
            place: place.clone(),
            field: path.to_owned(),
            hint,
        })?;
        // A field may be text although its value looks like a number: what reads as TOML is tried first.
        let mut first_error = None;
        for value in [value_of(text), Some(Value::String(text.to_owned()))].into_iter().flatten() {
            let mut table = self.0.clone();
            put(&mut table, &names, value);
            match table.clone().try_into::<T>() {
                Ok(_) => {
                    self.0 = table;
                    return Ok(());
                }
                Err(error) => {
                    first_error.get_or_insert_with(|| error.message().to_owned());
                }
            }
        }
        Err(Error::Invalid { place: place.clone(), reason: first_error.unwrap_or_default() })
    }

    /// The sum of all layers over the defaults.
    pub(super) fn settings<T: Settings>(self) -> Result<T, Error> {
        // Every layer was checked when it was laid, so this names no place.
        self.0.try_into().map_err(|error: toml::de::Error| Error::Invalid {
            place: Place::Set(String::new()),
            reason: error.message().to_owned(),
        })
    }
}

/// The part of the environment that is meant for one program.
pub(super) struct Environment {
    /// `MILLSTREAM_<PROGRAM>_CONFIG`.
    pub(super) file: Option<PathBuf>,
    /// Variable, field path, value; in the order of their names.
    pub(super) fields: Vec<(String, String, String)>,
}

impl Environment {
    pub(super) fn of(program: &str, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let prefix = format!("MILLSTREAM_{}_", program.to_ascii_uppercase().replace('-', "_"));
        let mut environment = Self { file: None, fields: Vec::new() };
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            if rest == "CONFIG" {
                environment.file = Some(PathBuf::from(value));
            } else if !is_service_link(rest) {
                let path = rest.to_ascii_lowercase().replace("__", ".");
                environment.fields.push((name, path, value));
            }
        }
        environment.fields.sort();
        environment
    }
}

/// Kubernetes puts such variables into every container for every Service, one named `millstream-tracker` among
/// them; they are not meant for us.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let port = |text: &str| text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.rsplit_once("_PORT_").is_some_and(|(_, tail)| port(tail))
        || rest.split_once("_PORT_").is_some_and(|(_, tail)| port(tail))
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

fn place(path: &Path, text: &str, at: usize) -> Place {
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    Place::Line(path.to_owned(), line)
}

struct Stranger {
    at: usize,
    field: String,
    hint: String,
}

fn refuse_unknown(fields: &[Field], table: &DeTable<'_>, above: &mut Vec<String>) -> Result<(), Stranger> {
    for (key, value) in table {
        let name: &str = key.get_ref();
        let at = key.span().start;
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            above.push(name.to_owned());
            return Err(Stranger { at, field: above.join("."), hint: hint(fields, name) });
        };
        if let (DeValue::Table(inner), false) = (Spanned::get_ref(value), field.fields.is_empty()) {
            above.push(name.to_owned());
            refuse_unknown(field.fields, inner, above)?;
            above.pop();
        }
    }
    Ok(())
}

/// The hint, when no field lies at `names`.
fn check_path(mut fields: &[Field], names: &[&str]) -> Result<(), String> {
    for (depth, name) in names.iter().enumerate() {
        if depth > 0 && fields.is_empty() {
            // Inside a plain value that may be a table of its own: its own type judges.
            return Ok(());
        }
        let Some(field) = fields.iter().find(|field| field.name == *name) else {
            return Err(hint(fields, name));
        };
        fields = field.fields;
    }
    Ok(())
}

fn hint(fields: &[Field], name: &str) -> String {
    let best = fields
        .iter()
        .map(|field| (strsim::jaro_winkler(field.name, name), field.name))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match best {
        Some((likeness, near)) if likeness >= ALIKE_MIN => format!("; did you mean `{near}`?"),
        _ => {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            format!("; there are: {}", names.join(", "))
        }
    }
}

fn value_of(text: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("value = {text}")).ok()?;
    // A newline in the text could otherwise bring fields of its own.
    if table.len() == 1 { table.remove("value") } else { None }
}

fn put(table: &mut Table, names: &[&str], value: Value) {
    match names {
        [] => {}
        [name] => {
            table.insert((*name).to_owned(), value);
        }
        [name, rest @ ..] => {
            let inner = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
