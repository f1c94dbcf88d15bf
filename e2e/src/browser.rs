//! Real browsers, driven by the scripts in `e2e/browser`: each takes JSON as its argument and prints JSON.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde_json::Value;

use crate::process::Process;

/// A script at work.
#[derive(Debug)]
pub struct Script(Process);

/// Starts `e2e/browser/<script>` with `argument`.
///
/// # Errors
/// When Node is missing.
pub fn start(script: &str, argument: &Value, logs: &Path) -> anyhow::Result<Script> {
    start_in(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("browser"), script, argument, logs)
}

/// Starts a script of another folder.
///
/// # Errors
/// When Node is missing.
pub fn start_in(folder: &Path, script: &str, argument: &Value, logs: &Path) -> anyhow::Result<Script> {
    let mut command = Command::new("node");
    command.current_dir(folder).arg(script).arg(argument.to_string());
    let log = logs.join(format!("{script}.log"));
    Ok(Script(Process::start(script, &mut command, &log)?))
}

impl Script {
    /// The next line that it prints.
    ///
    /// # Errors
    /// When it ended, or prints something else than JSON.
    pub fn line(&mut self) -> anyhow::Result<Value> {
        let line = self.0.line()?;
        serde_json::from_str(&line).with_context(|| format!("a line of the script: {line}"))
    }

    /// Waits for its end and takes its last line.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(mut self) -> anyhow::Result<Value> {
        let text = self.0.finish()?;
        let line = text.trim_end().lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("the script's result: {text}"))
    }
}
