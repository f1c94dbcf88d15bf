//! A real process with real signals: `examples/smallest.rs`, started, asked and stopped.
#![cfg(test)]

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

struct Program {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(sets: &[&str]) -> Self {
        let mut child = command()
            .args(["--set", "ops.listen=127.0.0.1:0"])
            .args(sets.iter().flat_map(|set| ["--set", set]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr }
    }

    /// The address on its first line of output: from then on it runs.
    async fn ready(&mut self) -> String {
        self.stdout.next_line().await.unwrap().unwrap()
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// Reads the log until a line holds `text`.
    async fn logs(&mut self, text: &str) -> String {
        loop {
            let line =
                self.stderr.next_line().await.unwrap().unwrap_or_else(|| panic!("never logged: {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    async fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn command() -> Command {
    // Cargo builds examples along with tests, but tells tests only of binaries.
    let path: PathBuf =
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/smallest");
    assert!(path.exists(), "{} is built by `cargo test` of the whole package", path.display());
    Command::new(path)
}

#[tokio::test]
async fn sigterm_and_sigint_drain_and_end_well() {
    for signal in ["TERM", "INT"] {
        let mut program = Program::start(&[]);
        let address = program.ready().await;
        assert!(get(&address, "/readyz").await.ends_with("ready\n"));
        program.signal(signal).await;
        program.logs(&format!("signal=\"SIG{signal}\"")).await;
        program.logs("stopped").await;
        assert_eq!(program.exit_code().await, Some(0), "SIG{signal}");
    }
}

#[tokio::test]
async fn what_ignores_the_drain_is_cut_off_by_name() {
    let mut program = Program::start(&["stubborn=true", "grace_ms=50", "log.format=json"]);
    program.ready().await;
    program.signal("TERM").await;
    let line: serde_json::Value = serde_json::from_str(&program.logs("cut off").await).unwrap();
    assert_eq!((&line["level"], &line["tasks"]), (&"WARN".into(), &"stubborn".into()));
    assert_eq!(program.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut program = Program::start(&["stubborn=true", "grace_ms=600000"]);
    let address = program.ready().await;
    program.signal("TERM").await;
    program.logs("draining").await;
    // Until then it tells that it is ending, and still gives its metrics.
    assert!(get(&address, "/readyz").await.ends_with("\r\n\r\ndraining\n"));
    assert!(get(&address, "/metrics").await.starts_with("HTTP/1.1 200"));
    program.signal("TERM").await;
    assert_eq!(program.exit_code().await, Some(130));
}

#[tokio::test]
async fn the_loss_of_a_vital_task_ends_the_program_with_an_error() {
    let mut program = Program::start(&["doomed=true"]);
    program.logs("nothing works without it").await;
    assert_eq!(program.exit_code().await, Some(1));
}

#[tokio::test]
async fn the_configuration_in_force_is_printed_and_an_unknown_field_ends_the_program() {
    let output = command()
        .args(["--print-config", "--set", "grace_ms=7"])
        .env("MILLSTREAM_SMALLEST_LOG__FILTER", "debug")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains("# Milliseconds that tasks have to finish.\ngrace_ms = 7\n"), "{text}");
    assert!(text.contains("\nfilter = \"debug\"\n"), "{text}");

    let output = command().env("MILLSTREAM_SMALLEST_GRACE", "1").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text,
        "smallest: MILLSTREAM_SMALLEST_GRACE: unknown field `grace`; did you mean `grace_ms`?\n"
    );
}
