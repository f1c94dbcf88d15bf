//! Settings as a commented TOML file that reads back as the same settings.

use toml::{Table, Value};

use super::{Error, Field, Settings};
use crate::secret::MASK;

/// `settings` as a commented file. Fields that are not set, and secrets, stand there as comments.
///
/// # Errors
/// When a value cannot be written as TOML (a number beyond 2^63).
pub fn print<T: Settings>(settings: &T) -> Result<String, Error> {
    let table = Table::try_from(settings)?;
    let mut out = String::new();
    comment(&mut out, T::ABOUT);
    section(&mut out, "", T::FIELDS, &table);
    Ok(out)
}

fn section(out: &mut String, path: &str, fields: &[Field], table: &Table) {
    // In TOML plain values come before the first section.
    for field in fields.iter().filter(|field| field.fields.is_empty()) {
        blank(out);
        comment(out, field.about);
        let line = match table.get(field.name) {
            None => format!("# {} = (not set)\n", field.name),
            Some(Value::String(text)) if text == MASK => format!("# {} = (set, not shown)\n", field.name),
            Some(value) => format!("{} = {value}\n", field.name),
        };
        out.push_str(&line);
    }
    for field in fields.iter().filter(|field| !field.fields.is_empty()) {
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        blank(out);
        comment(out, field.about);
        // A section may be optional as a whole.
        match table.get(field.name).and_then(Value::as_table) {
            Some(inner) => {
                out.push_str(&format!("[{path}]\n"));
                section(out, &path, field.fields, inner);
            }
            None => out.push_str(&format!("# [{path}] (not set)\n")),
        }
    }
}

fn blank(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        let line = line.trim();
        out.push_str(if line.is_empty() { "#" } else { "# " });
        out.push_str(line);
        out.push('\n');
    }
}
