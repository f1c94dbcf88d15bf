//! A viewer's line to the world, as narrow as a test wants it: what edges send by UDP and an origin by TCP to a browser
//! goes through one queue of one rate. What a browser sends is not held up, and neither is anybody else.
//!
//! It stands before each server like a reverse proxy, needs no privileges, and drops what its queue has no room for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedReadHalf},
    runtime::Runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Bytes that wait at most, as in the modem of a slow line. What is beyond is lost.
const QUEUE_BYTES: u64 = 128 * 1024;

/// Bytes of a datagram at most.
const DATAGRAM_BYTES: usize = 2_048;

/// Bytes of a connection that pass at a time: a packet's.
const PACKET_BYTES: usize = 1_400;

/// Packets of one connection that wait at most: its window on a slow line.
const WINDOW_PACKETS: usize = 16;

/// Bytes of a request by which it is told who asks.
const HEAD_BYTES: usize = 4_096;

/// Unused time that a late timer may make up for.
const SLACK: Duration = Duration::from_millis(5);

/// The line.
#[derive(Debug)]
pub struct Line {
    pace: Arc<Pace>,
    runtime: Runtime,
}

/// Where something of the line's listens, until it is told where it leads.
#[derive(Debug)]
pub struct Door {
    /// The address to give to viewers.
    pub address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
}

impl Door {
    /// Everything leads there from now on; the first call counts.
    pub fn leads_to(&self, target: SocketAddr) {
        let _ = self.target.set(target);
    }
}

impl Line {
    /// A line of so many bits a second.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn new(bits_per_second: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let state = State { bits_per_second, free: Instant::now(), carried: Carried::default() };
        Ok(Self { pace: Arc::new(Pace(Mutex::new(state))), runtime })
    }

    /// The line becomes as fast as this.
    pub fn set(&self, bits_per_second: u64) {
        self.pace.state().bits_per_second = bits_per_second;
    }

    /// What it has carried.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.pace.state().carried
    }

    /// A door for datagrams.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn udp(&self) -> anyhow::Result<Door> {
        let socket = Arc::new(self.runtime.block_on(UdpSocket::bind("127.0.0.1:0"))?);
        let (address, target) = (socket.local_addr()?, Arc::new(OnceLock::new()));
        let serving = datagrams(socket, Arc::clone(&target), Arc::clone(&self.pace));
        self.runtime.spawn(async move { drop(serving.await) });
        Ok(Door { address, target })
    }

    /// A door for connections.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn tcp(&self) -> anyhow::Result<Door> {
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, target) = (listener.local_addr()?, Arc::new(OnceLock::new()));
        let (pace, to) = (Arc::clone(&self.pace), Arc::clone(&target));
        self.runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (pace, to) = (Arc::clone(&pace), Arc::clone(&to));
                tokio::spawn(async move { drop(connection(near, &to, &pace).await) });
            }
        });
        Ok(Door { address, target })
    }
}

#[derive(Debug)]
struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    bits_per_second: u64,
    /// When all that was let in has passed.
    free: Instant,
    carried: Carried,
}

/// Bytes since the line's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// By datagrams.
    pub datagrams: u64,
    /// By connections.
    pub connections: u64,
    /// Datagrams' that the queue had no room for.
    pub lost: u64,
}

impl Pace {
    /// When so many bytes have passed; `None` when there is no room for them.
    fn pass(&self, bytes: usize, may_wait: bool) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        let takes = |bytes: u64| Duration::from_micros(bytes * 8_000_000 / state.bits_per_second.max(1));
        let takes_own = takes(bytes as u64);
        if !may_wait && state.free.saturating_duration_since(now) > takes(QUEUE_BYTES) {
            state.carried.lost += bytes as u64;
            return None;
        }
        let carried = &mut state.carried;
        *(if may_wait { &mut carried.connections } else { &mut carried.datagrams }) += bytes as u64;
        state.free = state.free.max(now.checked_sub(SLACK).unwrap_or(now)) + takes_own;
        Some(state.free)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes datagrams on, for each client from a socket of its own.
async fn datagrams(
    near: Arc<UdpSocket>,
    target: Arc<OnceLock<SocketAddr>>,
    pace: Arc<Pace>,
) -> anyhow::Result<()> {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        let (length, from) = near.recv_from(&mut buffer).await?;
        let far = match clients.get(&from) {
            Some(far) => Arc::clone(far),
            None => {
                let Some(target) = target.get() else { continue };
                let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
                far.connect(*target).await?;
                clients.insert(from, Arc::clone(&far));
                tokio::spawn(back(Arc::clone(&far), Arc::clone(&near), from, Arc::clone(&pace)));
                far
            }
        };
        // An edge that is gone says so to each datagram.
        let _ = far.send(&buffer[..length]).await;
    }
}

/// Passes on to one client what its edge sends, at the line's pace.
async fn back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr, pace: Arc<Pace>) {
    let (queue, mut queued) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    tokio::spawn(async move {
        while let Some((at, datagram)) = queued.recv().await {
            sleep_until(at).await;
            let _ = near.send_to(&datagram, client).await;
        }
    });
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        let Ok(length) = far.recv(&mut buffer).await else { continue };
        // What the queue holds is bounded by what the pace lets in.
        if let Some(at) = pace.pass(length, false)
            && queue.send((at, Bytes::copy_from_slice(&buffer[..length]))).is_err()
        {
            return;
        }
    }
}

async fn connection(near: TcpStream, target: &OnceLock<SocketAddr>, pace: &Pace) -> anyhow::Result<()> {
    let far = TcpStream::connect(target.get().context("it leads nowhere yet")?).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((mut near_in, mut near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
    let mut head = vec![0; HEAD_BYTES];
    let length = near_in.read(&mut head).await?;
    let is_browser = head[..length].to_ascii_lowercase().windows(8).any(|window| window == b"mozilla/");
    far_out.write_all(&head[..length]).await?;
    let up = async {
        tokio::io::copy(&mut near_in, &mut far_out).await?;
        far_out.shutdown().await
    };
    let down = async {
        down(far_in, &mut near_out, is_browser.then_some(pace)).await?;
        near_out.shutdown().await
    };
    tokio::try_join!(up, down)?;
    Ok(())
}

/// What is on its way waits in the line, not before it: one packet after another would be slower than any line.
async fn down(
    mut from: OwnedReadHalf,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    pace: Option<&Pace>,
) -> std::io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(WINDOW_PACKETS);
    let read = async move {
        let mut buffer = [0; PACKET_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            let at = pace.and_then(|pace| pace.pass(length, true)).unwrap_or_else(Instant::now);
            let packet = (at, Bytes::copy_from_slice(&buffer[..length]));
            if length == 0 || queue.send(packet).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((at, packet)) = queued.recv().await {
            sleep_until(at).await;
            to.write_all(&packet).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}
