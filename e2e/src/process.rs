//! Child processes that end with their owner, and whose output is kept for when a test fails.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Time for a program to drain before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// How often a child is asked what has no event: whether it is still there, what it wrote.
const POLL: Duration = Duration::from_millis(20);

/// The folder of this build's binaries.
///
/// # Errors
/// When the test does not run from a cargo target folder.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the program has no place in a target folder")?;
    // Tests and examples lie one folder below the programs.
    let is_below = folder.ends_with("deps") || folder.ends_with("examples");
    let programs = if is_below { folder.parent() } else { Some(folder) };
    Ok(programs.context("the test has no place in a target folder")?.to_path_buf())
}

/// The path of one of our programs.
///
/// # Errors
/// When it is not built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = binaries()?.join(name);
    if !path.exists() {
        bail!(
            "{} is not built: `cargo build --workspace` builds it, `make test` does so first",
            path.display()
        );
    }
    Ok(path)
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Process {
    /// Starts a program. Its standard error goes into `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let errors = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { name: name.to_owned(), child, stdout, log: log.to_path_buf() })
    }

    /// The next line on standard output.
    ///
    /// # Errors
    /// When the program ended without one; what it said is in the error.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let out = self.stdout.as_mut().context("standard output was taken")?;
        if out.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("{} ended ({status}):\n{}", self.name, self.log());
        }
        Ok(line)
    }

    /// Everything that is left on standard output, until the program ends.
    ///
    /// # Errors
    /// When it cannot be read, or the program failed.
    pub fn finish(&mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.stdout.take().context("standard output was taken")?.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{} failed ({status}):\n{}", self.name, self.log());
        }
        Ok(text)
    }

    /// Waits for a line on standard error of which `judge` makes something.
    ///
    /// # Errors
    /// When there is none in time, or the program ended without it; what it said is in the error.
    pub fn logged<T>(
        &mut self,
        patience: Duration,
        mut judge: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            let running = self.is_running();
            if let Some(found) = self.log_text().lines().find_map(&mut judge) {
                return Ok(found);
            }
            if !running || started.elapsed() > patience {
                let why = if running { "did not say it in time" } else { "ended without saying it" };
                bail!("{} {why}:\n{}", self.name, self.log());
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// All that it wrote to standard error so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it wrote to standard error so far: the end of it.
    #[must_use]
    pub fn log(&self) -> String {
        let text = self.log_text();
        let from = text.len().saturating_sub(20_000);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text[from..].to_owned()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn ended(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > patience {
                bail!("{} still runs after {patience:?}:\n{}", self.name, self.log());
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it holds now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1_024)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, as a crash or a power cut.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the drain.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let ended = self.ended(GRACE);
        if ended.is_err() {
            self.kill();
        }
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() && self.stop().is_err() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}
