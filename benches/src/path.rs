//! A viewer's path, simulated: datagrams of one port go to another and back, each way through a line of one rate with a
//! drop-tail queue, then a delay; some are lost at random, from a seed. Threads of this process do it, so that neither
//! sender nor receiver pays for it.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use millstream_e2e::time::go_on;
use socket2::{Domain, Protocol, Type};

/// Bytes of a datagram at most.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// Datagrams are let go in grains of so long, so that a wake-up is not paid for each.
const GRAIN: Duration = Duration::from_micros(250);

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A sender hands its datagrams over in bursts.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What tells a path where it leads: this, a space and the address. STUN and DTLS begin with no such byte.
const LEADS: &str = "leads";

/// What a path is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nature {
    /// Of datagrams without IP and UDP headers, each way.
    pub(crate) bits_per_second: u64,
    /// There and back.
    pub(crate) round_trip: Duration,
    /// What may wait before the line, as time at its rate.
    pub(crate) queue: Duration,
    /// Of a million datagrams so many are lost, each way.
    pub(crate) lost_per_million: u32,
    pub(crate) seed: u64,
}

/// A path at work; it ends with this value.
#[derive(Debug)]
pub(crate) struct Path {
    /// Its near end: what viewers are told to go to.
    pub(crate) near: SocketAddr,
    shared: Arc<Shared>,
}

/// What has happened on the way towards the viewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) datagrams: u64,
    /// At random.
    pub(crate) lost: u64,
    /// Because the queue was full.
    pub(crate) dropped: u64,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    lines: Mutex<[Line; 2]>,
    /// A line that was empty is so no more.
    filled: Condvar,
    is_over: AtomicBool,
}

/// One direction.
#[derive(Debug)]
struct Line {
    nature: Nature,
    random: u64,
    /// When what waits before the line will have gone onto it.
    free: Instant,
    underway: VecDeque<Parcel>,
    carried: Carried,
}

#[derive(Debug)]
struct Parcel {
    due: Instant,
    by: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Path {
    pub(crate) fn start(nature: Nature) -> anyhow::Result<Self> {
        let socket = Arc::new(socket()?);
        let near = socket.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            lines: Mutex::new([UP, DOWN].map(|way| Line::new(nature, way as u64))),
            filled: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        let (up, letting_go) = (Arc::clone(&shared), Arc::clone(&shared));
        thread::Builder::new().name("path, up".to_owned()).spawn(move || up.carry_up(&socket))?;
        thread::Builder::new().name("path".to_owned()).spawn(move || letting_go.let_go())?;
        Ok(Self { near, shared })
    }

    /// Viewers who come from now on are led there.
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        *lock(&self.shared.target) = Some(target);
    }

    /// Towards the viewer.
    pub(crate) fn carried(&self) -> Carried {
        lock(&self.shared.lines)[DOWN].carried
    }

    /// What it carries of more than fits, in bytes a second, and how long one datagram takes there and back.
    pub(crate) fn gauge(nature: Nature) -> anyhow::Result<(f64, Duration)> {
        const BYTES: usize = 1_200;
        const ROUNDS: u32 = 10;
        let path = Self::start(nature)?;
        let (far, near) = (socket()?, socket()?);
        path.leads_to(far.local_addr()?);
        near.set_read_timeout(Some(LOOK))?;
        far.set_read_timeout(Some(LOOK))?;
        near.connect(path.near)?;
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let mut answered = Vec::new();
        let mut whence = None;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            near.send(&[0])?;
            let Ok((_, from)) = far.recv_from(&mut buffer) else { continue };
            whence = Some(from);
            far.send_to(&[0], from)?;
            if near.recv(&mut buffer).is_ok() {
                answered.push(began.elapsed());
            }
        }
        answered.sort();
        let round_trip = *answered.get(answered.len() / 2).context("nothing came back")?;

        // A fifth more than fits, for two seconds.
        let to = whence.context("nothing arrived")?;
        let gap = Duration::from_nanos(BYTES as u64 * 8 * 1_000_000_000 / (nature.bits_per_second * 6 / 5));
        let blast = thread::spawn(move || -> io::Result<()> {
            let began = Instant::now();
            let mut sent = 0;
            while began.elapsed() < Duration::from_secs(2) {
                while gap * sent < began.elapsed() {
                    far.send_to(&[7; BYTES], to)?;
                    sent += 1;
                }
                go_on(GRAIN);
            }
            Ok(())
        });
        let (mut first, mut last, mut bytes) = (None, Instant::now(), 0);
        while let Ok(length) = near.recv(&mut buffer) {
            last = Instant::now();
            if first.is_some() {
                bytes += length;
            } else {
                first = Some(last);
            }
        }
        ensure!(blast.join().is_ok_and(|sent| sent.is_ok()), "the blast failed");
        let seconds = (last - first.context("nothing of the blast arrived")?).as_secs_f64();
        Ok((bytes as f64 / seconds, round_trip))
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        self.shared.filled.notify_all();
    }
}

/// Tells the path whose near end this is where it leads, from another process.
pub(crate) fn lead(near: SocketAddr, target: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send_to(format!("{LEADS} {target}").as_bytes(), near)?;
    socket.recv(&mut [0; 1]).context("the path does not answer")?;
    Ok(())
}

impl Shared {
    /// From viewers, each of whom gets a socket of his own at the far end.
    fn carry_up(self: &Arc<Self>, near: &Arc<UdpSocket>) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let mut viewers = HashMap::new();
        while !self.is_over.load(Relaxed) {
            let Ok((length, from)) = near.recv_from(&mut buffer) else { continue };
            let bytes = &buffer[..length];
            if let Some(target) = led(bytes) {
                *lock(&self.target) = Some(target);
                let _ = near.send_to(&[0], from);
                continue;
            }
            let (target, far) = match viewers.entry(from) {
                Entry::Occupied(viewer) => viewer.into_mut(),
                Entry::Vacant(place) => {
                    let target = *lock(&self.target);
                    let Some(viewer) = target.zip(socket().ok().map(Arc::new)) else { continue };
                    let (shared, far, near) = (Arc::clone(self), Arc::clone(&viewer.1), Arc::clone(near));
                    thread::spawn(move || shared.carry_down(&far, &near, from));
                    place.insert(viewer)
                }
            };
            self.carry(UP, far, *target, bytes);
        }
    }

    /// To one viewer.
    fn carry_down(&self, far: &UdpSocket, near: &Arc<UdpSocket>, viewer: SocketAddr) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while !self.is_over.load(Relaxed) {
            if let Ok(length) = far.recv(&mut buffer) {
                self.carry(DOWN, near, viewer, &buffer[..length]);
            }
        }
    }

    fn carry(&self, way: usize, by: &Arc<UdpSocket>, to: SocketAddr, bytes: &[u8]) {
        let mut lines = lock(&self.lines);
        let line = &mut lines[way];
        if let Some(due) = line.admit(bytes.len(), Instant::now()) {
            let was_empty = line.underway.is_empty();
            line.underway.push_back(Parcel { due, by: Arc::clone(by), to, bytes: bytes.to_vec() });
            if was_empty {
                self.filled.notify_one();
            }
        }
    }

    fn let_go(&self) {
        let mut due = Vec::new();
        let mut lines = lock(&self.lines);
        while !self.is_over.load(Relaxed) {
            let now = Instant::now();
            for line in lines.iter_mut() {
                while line.underway.front().is_some_and(|parcel| parcel.due <= now) {
                    due.extend(line.underway.pop_front());
                }
            }
            if due.is_empty() {
                let next = lines.iter().filter_map(|line| Some(line.underway.front()?.due)).min();
                let wait = next.map_or(LOOK, |next| next.saturating_duration_since(now)).max(GRAIN);
                lines = self.filled.wait_timeout(lines, wait).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(lines);
            for Parcel { by, to, bytes, .. } in due.drain(..) {
                let _ = by.send_to(&bytes, to);
            }
            lines = lock(&self.lines);
        }
    }
}

impl Line {
    fn new(nature: Nature, way: u64) -> Self {
        // Any odd factor keeps seeds apart.
        let random = (nature.seed * 2 + way + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self { nature, random, free: Instant::now(), underway: VecDeque::new(), carried: Carried::default() }
    }

    /// When a datagram that comes now is at the other end; none if it never is.
    fn admit(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let start = self.free.max(now);
        if start - now > self.nature.queue {
            self.carried.dropped += 1;
            return None;
        }
        let nanos = (bytes as u64).saturating_mul(8_000_000_000) / self.nature.bits_per_second;
        self.free = start + Duration::from_nanos(nanos);
        // What is lost was on the line: beyond its queue, at a radio's end.
        if self.next_random() % 1_000_000 < u64::from(self.nature.lost_per_million) {
            self.carried.lost += 1;
            return None;
        }
        self.carried.datagrams += 1;
        Some(self.free + self.nature.round_trip / 2)
    }

    /// xorshift64* (Vigna 2016).
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
}

fn led(bytes: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(bytes).ok()?.strip_prefix(LEADS)?.trim().parse().ok()
}

fn socket() -> anyhow::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(LOOK))?;
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into())?;
    Ok(socket.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATURE: Nature = Nature {
        bits_per_second: 100_000_000,
        round_trip: Duration::from_millis(20),
        queue: Duration::from_millis(50),
        lost_per_million: 0,
        seed: 1,
    };

    #[test]
    fn a_line_delays_queues_and_drops_what_does_not_fit() {
        let mut line = Line::new(NATURE, 0);
        let now = line.free;
        // 1,250 bytes are 100 µs at this rate.
        assert_eq!(line.admit(1_250, now), Some(now + Duration::from_micros(10_100)));
        assert_eq!(line.admit(1_250, now), Some(now + Duration::from_micros(10_200)));
        let let_in = (0..1_000).filter(|_| line.admit(1_250, now).is_some()).count();
        assert_eq!(
            (let_in, line.carried.dropped),
            (499, 501),
            "50 ms are 500 datagrams, and one is on the line"
        );
        assert!(line.admit(1_250, now + Duration::from_millis(1)).is_some());
    }

    #[test]
    fn as_many_are_lost_as_were_asked_for_and_the_same_ones_again() {
        let nature = Nature { lost_per_million: 10_000, ..NATURE };
        let lost = |seed| {
            let mut line = Line::new(Nature { seed, ..nature }, DOWN as u64);
            let mut now = line.free;
            let mut lost = Vec::new();
            for n in 0..100_000 {
                now += Duration::from_micros(100);
                if line.admit(1_000, now).is_none() {
                    lost.push(n);
                }
            }
            lost
        };
        assert!((900..1_100).contains(&lost(1).len()), "{} of 100,000", lost(1).len());
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
    }

    #[test]
    fn a_path_is_led_from_outside_and_carries_both_ways() {
        let path = Path::start(NATURE).unwrap();
        let (far, near) = (socket().unwrap(), socket().unwrap());
        lead(path.near, far.local_addr().unwrap()).unwrap();
        let began = Instant::now();
        near.send_to(b"up", path.near).unwrap();
        let mut buffer = [0; 16];
        let (length, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"up");
        far.send_to(b"down", from).unwrap();
        let (length, from) = near.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"down"[..], path.near));
        assert!(began.elapsed() >= NATURE.round_trip);
        assert_eq!(path.carried().datagrams, 1);
    }
}
