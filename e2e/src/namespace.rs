//! Network namespaces: an address of one's own, and homes behind routers that translate addresses, made by the kernel. They
//! take root and iproute2, homes nftables as well, and are gone with the value that holds them.

use std::{
    ffi::OsStr,
    fs::File,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces made so far by this process: each has a name of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Homes of an internet at most: the last octet of their addresses.
const HOMES_MAX: u8 = 100;

/// What a router at home does: whoever is inside speaks from its address and the same port, towards everybody; from outside
/// nothing comes in but answers of those who were spoken to. What it dropped is no flow of its own, else that would take
/// the port away from those inside.
const ROUTER: &str = r#"
table ip home {
  chain speaks { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
  chain knocks { type filter hook input priority filter; iifname "wan" drop; }
  chain enters { type filter hook forward priority filter; iifname "wan" ct state new drop; }
}
"#;

/// Whether this process may make namespaces at all.
#[must_use]
pub fn are_allowed() -> bool {
    rustix::process::geteuid().is_root()
}

/// A namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with a loopback that is up, and nothing else.
    ///
    /// # Errors
    /// Where none may be made.
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("millstream-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        ip(&["netns", "add", &name])?;
        let space = Self { name };
        space.ip("link set lo up")?;
        Ok(space)
    }

    /// Makes one with an address that leads outside, which ICE takes: Firefox sends nothing to 127.0.0.1. Nobody is there.
    ///
    /// # Errors
    /// Where none may be made.
    pub fn with_address(address: Ipv4Addr) -> anyhow::Result<Self> {
        let space = Self::new()?;
        space.ip("link add near type veth peer name far")?;
        space.ip(&format!("address add {address}/24 dev near"))?;
        space.ip("link set near up")?;
        space.ip("link set far up")?;
        space.ip("route add default dev near")?;
        Ok(space)
    }

    /// A program that runs in it: `ip` becomes the program, so the process is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Does something inside, on a thread of its own: sockets that it opens and programs that it starts stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or what was done failed.
    ///
    /// # Panics
    /// When what was done does.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let space = File::open(format!("/run/netns/{}", self.name)).context("opening the namespace")?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("entering the namespace")?;
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// `ip` in it, with words between spaces.
    fn ip(&self, words: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(words.split(' ')).collect();
        ip(&words)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// A network on which everybody reaches everybody, for servers and for routers of homes.
#[derive(Debug)]
pub struct Internet {
    /// Where servers run.
    pub space: Namespace,
    homes: u8,
}

impl Internet {
    /// The servers' address on it.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

    /// Makes one.
    ///
    /// # Errors
    /// Where no namespace may be made.
    pub fn new() -> anyhow::Result<Self> {
        let space = Namespace::new()?;
        space.ip("link add world type bridge")?;
        space.ip(&format!("address add {}/24 dev world", Self::ADDRESS))?;
        space.ip("link set world up")?;
        Ok(Self { space, homes: 0 })
    }

    /// One more home.
    ///
    /// # Errors
    /// Where no namespace may be made, or addresses cannot be translated.
    pub fn home(&mut self) -> anyhow::Result<Home> {
        ensure!(self.homes < HOMES_MAX, "there are {HOMES_MAX} homes already");
        self.homes += 1;
        let n = self.homes;
        let (router, space) = (Namespace::new()?, Namespace::new()?);
        let address = Ipv4Addr::new(10, 78, 0, 100 + n);
        router.ip(&format!("link add wan type veth peer name home{n} netns {}", self.space.name))?;
        self.space.ip(&format!("link set home{n} master world up"))?;
        router.ip(&format!("address add {address}/24 dev wan"))?;
        router.ip("link set wan up")?;
        space.ip(&format!("link add near type veth peer name lan netns {}", router.name))?;
        router.ip(&format!("address add 192.168.{n}.1/24 dev lan"))?;
        router.ip("link set lan up")?;
        space.ip(&format!("address add 192.168.{n}.2/24 dev near"))?;
        space.ip("link set near up")?;
        space.ip(&format!("route add default via 192.168.{n}.1"))?;
        router.within(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting the router forward")?;
            succeeds(Command::new("nft").arg(ROUTER))
        })?;
        Ok(Home { space, address, _router: router })
    }
}

/// A home behind a router that translates addresses.
#[derive(Debug)]
pub struct Home {
    /// Where those at home are.
    pub space: Namespace,
    /// What others see of it.
    pub address: Ipv4Addr,
    _router: Namespace,
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    succeeds(Command::new("ip").args(words))
}

fn succeeds(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
