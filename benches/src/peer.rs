//! nginx with its RTMP module: the peer that everybody knows. Debian's packages, unpacked by `scripts/bench` and not
//! installed, so that no web server starts on the machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use millstream_e2e::process::Process;

/// Time to start.
const START: Duration = Duration::from_secs(10);

/// How often the port is tried.
const POLL: Duration = Duration::from_millis(20);

/// A running nginx, one process.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) process: Process,
    address: SocketAddr,
    hls: Option<PathBuf>,
}

impl Nginx {
    /// Starts one that takes streams and, with `hls`, writes each as HLS into a folder.
    pub(crate) fn start(unpacked: &Path, folder: &Path, name: &str, hls: bool) -> anyhow::Result<Self> {
        let binary = unpacked.join("usr/sbin/nginx");
        ensure!(binary.exists(), "{} is missing: scripts/bench unpacks it", binary.display());
        let own = folder.join(name);
        fs::create_dir_all(own.join("hls"))?;
        // It takes no port 0: the port of a listener that is gone again is free.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = own.join("nginx.conf");
        fs::write(&config, settings(unpacked, &own, address, hls))?;
        let mut command = Command::new(&binary);
        command.arg("-p").arg(&own).arg("-c").arg(&config).arg("-e").arg(own.join("error.log"));
        let process = Process::start(name, &mut command, &own.join("stderr.log"))?;
        let mut nginx = Self { process, address, hls: hls.then(|| own.join("hls")) };
        nginx.listens()?;
        Ok(nginx)
    }

    /// Where a stream is pushed to.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.address)
    }

    /// Whether it has written segments of a stream, where it shall.
    pub(crate) fn has_segments(&self, stream: &str) -> bool {
        let Some(folder) = &self.hls else { return true };
        fs::read_to_string(folder.join(format!("{stream}.m3u8"))).is_ok_and(|text| text.contains("#EXTINF"))
    }

    fn listens(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect_timeout(&self.address, START).is_err() {
            if !self.process.is_running() || started.elapsed() > START {
                bail!("nginx does not listen on {}:\n{}", self.address, self.process.log());
            }
            std::thread::park_timeout(POLL);
        }
        Ok(())
    }
}

/// Its configuration: one process, what ours does by default where it has a setting for it (2 s segments, a minute
/// kept), and no log of accesses.
fn settings(unpacked: &Path, own: &Path, address: SocketAddr, hls: bool) -> String {
    let module = unpacked.join("usr/lib/nginx/modules/ngx_rtmp_module.so");
    let (module, own) = (module.display(), own.display());
    let hls = if hls {
        format!("hls on; hls_path {own}/hls; hls_fragment 2s; hls_playlist_length 60s;")
    } else {
        String::new()
    };
    format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\npid {own}/nginx.pid;\nevents {{}}\n\
         rtmp {{ access_log off; server {{ listen {address}; chunk_size 4096; \
         application live {{ live on; {hls} }} }} }}\n"
    )
}

/// Where `scripts/bench` unpacks it: beside the folder of this build's profile.
pub(crate) fn unpacked() -> anyhow::Result<PathBuf> {
    let binaries = millstream_e2e::process::binaries()?;
    Ok(binaries.parent().context("no target folder")?.join("bench/nginx-rtmp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_that_shall_write_hls_is_told_to() {
        let address = "127.0.0.1:7".parse().unwrap();
        let with = settings(Path::new("/nginx"), Path::new("/own"), address, true);
        assert!(with.contains("listen 127.0.0.1:7;") && with.contains("hls_path /own/hls;"), "{with}");
        assert!(!settings(Path::new("/nginx"), Path::new("/own"), address, false).contains("hls"));
    }
}
