//! One of our programs as a process of its own: killed and started again on the same ports and the same data.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use serde_json::Value;

use crate::process::{Process, binary};

/// Time for a program to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// What tells one program's process from another's.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The program's file.
    pub binary: &'static str,
    /// Settings that name an address, and the field of the line "… is ready" that tells it.
    pub listens: &'static [(&'static str, &'static str)],
}

/// `millstream-tracker`.
pub const TRACKER: Kind = Kind { binary: "millstream-tracker", listens: &[("listen", "url")] };

/// `millstream-packager`.
pub const PACKAGER: Kind =
    Kind { binary: "millstream-packager", listens: &[("rtmp.listen", "rtmp"), ("origin.listen", "origin")] };

/// `millstream-edge`.
pub const EDGE: Kind = Kind { binary: "millstream-edge", listens: &[("listen", "udp")] };

/// A program that runs, or was killed.
#[derive(Debug)]
pub struct Program {
    /// The process, for signals and for what it said.
    pub process: Process,
    kind: Kind,
    name: String,
    settings: BTreeMap<String, String>,
    logs: PathBuf,
    starts: u32,
    ready: Value,
    ops: String,
}

impl Program {
    /// Starts a program on free ports; returns when it says that it is ready. Its data goes into a folder of `name`
    /// below `folder`.
    ///
    /// # Errors
    /// When it does not come up; what it said is in the error.
    pub fn start(kind: Kind, name: &str, folder: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let own = |(field, value): &(&str, &str)| ((*field).to_owned(), (*value).to_owned());
        let mut all: BTreeMap<String, String> =
            kind.listens.iter().map(|(field, _)| own(&(*field, "127.0.0.1:0"))).collect();
        all.insert("ops.listen".to_owned(), "127.0.0.1:0".to_owned());
        all.insert("data".to_owned(), folder.join(name).display().to_string());
        all.insert("log.format".to_owned(), "json".to_owned());
        all.extend(settings.iter().map(own));
        let process = launch(kind, name, &all, &folder.join(format!("{name}-1.log")))?;
        let mut program = Self {
            process,
            kind,
            name: name.to_owned(),
            settings: all,
            logs: folder.to_path_buf(),
            starts: 1,
            ready: Value::Null,
            ops: String::new(),
        };
        program.await_ready()?;
        Ok(program)
    }

    /// Starts it again: on the ports it had, with the data it left.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        for (setting, field) in self.kind.listens {
            let address = bare(self.said(field)?).to_owned();
            self.settings.insert((*setting).to_owned(), address);
        }
        self.settings.insert("ops.listen".to_owned(), bare(&self.ops).to_owned());
        self.starts += 1;
        let log = self.logs.join(format!("{}-{}.log", self.name, self.starts));
        self.process = launch(self.kind, &self.name, &self.settings, &log)?;
        self.await_ready()
    }

    /// A field of the line that said that it is ready.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn said(&self, field: &str) -> anyhow::Result<&str> {
        let value = self.ready[field].as_str();
        value.with_context(|| format!("{}'s ready line has no {field}: {}", self.name, self.ready))
    }

    /// Its ops listener.
    #[must_use]
    pub fn ops(&self) -> &str {
        &self.ops
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        self.ready = self.process.logged(START, |line| ends(line, "is ready"))?;
        let ops = self.process.logged(START, |line| ends(line, "ops listener"))?;
        let address = ops["address"].as_str().context("the ops listener's address")?;
        self.ops = format!("http://{address}");
        Ok(())
    }
}

fn launch(
    kind: Kind,
    name: &str,
    settings: &BTreeMap<String, String>,
    log: &Path,
) -> anyhow::Result<Process> {
    let mut command = Command::new(binary(kind.binary)?);
    for (field, value) in settings {
        command.args(["--set", &format!("{field}={value}")]);
    }
    Process::start(name, &mut command, log)
}

/// The line's object, when its message ends so.
fn ends(line: &str, message: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str()?.ends_with(message).then_some(line)
}

/// The address in a URL.
fn bare(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}
