//! The machine that measured: a figure without it means nothing.

use std::{fs, process::Command};

/// The machine and the peers' versions, as a Markdown table.
pub(crate) fn table() -> String {
    let rows = [
        ("processor", field("/proc/cpuinfo", "model name").unwrap_or_default()),
        (
            "cores",
            std::thread::available_parallelism().map_or_else(|_| String::new(), |cores| cores.to_string()),
        ),
        ("memory", field("/proc/meminfo", "MemTotal").unwrap_or_default()),
        ("system", format!("{}, Linux {}", distribution(), line("/proc/sys/kernel/osrelease"))),
        ("compiler", version("rustc", "--version")),
        ("browser", version(&chromium(), "--version")),
        ("publisher", version("ffmpeg", "-version")),
        ("load before", line("/proc/loadavg")),
        ("CPU pressure before", line("/proc/pressure/cpu")),
    ];
    let rows: Vec<String> = rows.iter().map(|(what, value)| format!("| {what} | {value} |\n")).collect();
    format!("| machine | |\n| --- | --- |\n{}", rows.concat())
}

fn chromium() -> String {
    std::env::var("MILLSTREAM_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned())
}

fn distribution() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// What stands behind `name` and a colon in its first line.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn line(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first line that a program tells of itself.
fn version(program: &str, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // ffmpeg goes on with its copyright.
    text.lines().next().unwrap_or("none").split(" Copyright").next().unwrap_or_default().to_owned()
}
