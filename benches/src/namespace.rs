//! A network namespace with an address of its own: Firefox sends nothing to 127.0.0.1. It takes root and iproute2.

use std::{ffi::OsStr, net::Ipv4Addr, process::Command};

use anyhow::ensure;

/// A namespace; gone with this value.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

/// The address in it that leads outside, which ICE takes.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Where none may be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let name = format!("millstream-bench-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let space = Self { name };
        let address = format!("{ADDRESS}/24");
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "near", "type", "veth", "peer", "name", "far"],
            &["address", "add", &address, "dev", "near"],
            &["link", "set", "near", "up"],
            &["link", "set", "far", "up"],
            &["route", "add", "default", "via", "10.77.0.2"],
        ] {
            ip(&[&["-n", &space.name], arguments].concat())?;
        }
        Ok(space)
    }

    /// A program that runs in it: `ip` becomes the program, so the process is the program's.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
