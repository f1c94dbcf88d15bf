//! What DTLS costs: two handshake engines whole, and our records after a handshake by one of them. CPU time of this
//! thread, in memory, without sockets. Linux only.
//!
//! ```text
//! cargo run --release -p millstream-datachannel --example dtls
//! ```

use std::{
    collections::VecDeque,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use millstream_datachannel::{
    Certificate,
    dtls::{Dtls, Setup, Version},
};
use rtc_dtls::{
    cipher_suite::CipherSuiteId,
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    endpoint::{Endpoint, EndpointEvent},
};
use rtc_shared::TransportProtocol;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Datagrams sealed before they are opened: enough that reading the clock does not count.
const BATCH: usize = 200;

const GIGABYTE: usize = 1_000_000_000;

const HANDSHAKES: usize = 1_000;

/// Bytes that a record of DTLS 1.2 adds.
const OLD: usize = Version::Dtls12.overhead_bytes();

/// One end of a connection by one implementation.
trait End {
    /// Takes a datagram. Gives the bytes of application data in it.
    fn handle(&mut self, datagram: &mut [u8], now: Instant) -> usize;
    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>);
    fn is_open(&self) -> bool;
    /// Appends a datagram with `packet` to `batch`.
    fn seal(&mut self, packet: &[u8], now: Instant, batch: &mut Vec<u8>);
}

impl End for Dtls {
    fn handle(&mut self, datagram: &mut [u8], now: Instant) -> usize {
        let mut bytes = 0;
        Self::handle(self, datagram, now, &mut |text| bytes += text.len());
        bytes
    }

    fn transmit(&mut self, _: Instant, out: &mut VecDeque<Vec<u8>>) {
        Self::transmit(self, &mut |datagram| out.push_back(datagram.to_vec()));
    }

    fn is_open(&self) -> bool {
        self.peer().is_some()
    }

    fn seal(&mut self, packet: &[u8], _: Instant, batch: &mut Vec<u8>) {
        let _ = Self::seal(self, batch, |out| out.extend_from_slice(packet));
    }
}

struct Dimpl {
    engine: dimpl::Dtls,
    buffer: Vec<u8>,
    out: VecDeque<Vec<u8>>,
    bytes: usize,
    is_open: bool,
}

impl Dimpl {
    fn new(setup: &Setup, is_client: bool, now: Instant) -> Self {
        let mut engine = setup.engine(now);
        engine.set_active(is_client);
        let mut end = Self { engine, buffer: vec![0; 2_048], out: VecDeque::new(), bytes: 0, is_open: false };
        let _ = end.engine.handle_timeout(now);
        end.poll(None);
        end
    }

    fn poll(&mut self, mut batch: Option<&mut Vec<u8>>) {
        loop {
            match (self.engine.poll_output(&mut self.buffer), &mut batch) {
                (dimpl::Output::Packet(datagram), Some(batch)) => batch.extend_from_slice(datagram),
                (dimpl::Output::Packet(datagram), None) => self.out.push_back(datagram.to_vec()),
                (dimpl::Output::Connected, _) => self.is_open = true,
                (dimpl::Output::ApplicationData(text), _) => self.bytes += text.len(),
                (dimpl::Output::Timeout(_), _) => return,
                _ => {}
            }
        }
    }
}

impl End for Dimpl {
    fn handle(&mut self, datagram: &mut [u8], now: Instant) -> usize {
        let _ = self.engine.handle_timeout(now);
        let _ = self.engine.handle_packet(datagram);
        self.poll(None);
        std::mem::take(&mut self.bytes)
    }

    fn transmit(&mut self, _: Instant, out: &mut VecDeque<Vec<u8>>) {
        out.append(&mut self.out);
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn seal(&mut self, packet: &[u8], _: Instant, batch: &mut Vec<u8>) {
        let _ = self.engine.send_application_data(packet);
        self.poll(Some(batch));
    }
}

const RTC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

struct Rtc {
    engine: Endpoint,
    is_open: bool,
}

impl Rtc {
    fn config(is_client: bool) -> Outcome<Arc<HandshakeConfig>> {
        let provider = rtc_dtls::crypto_provider::default_provider()?;
        let name = vec!["millstream".to_owned()];
        let certificate = rtc_dtls::crypto::Certificate::generate_self_signed(name, provider.crypto())?;
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(is_client, Some(RTC))?;
        Ok(Arc::new(config))
    }

    fn new(config: &Arc<HandshakeConfig>, is_client: bool, now: Instant) -> Self {
        let server = (!is_client).then(|| config.clone());
        let mut engine = Endpoint::new(RTC, TransportProtocol::UDP, server);
        if is_client {
            let _ = engine.connect(now, RTC, config.clone(), None);
        }
        Self { engine, is_open: false }
    }
}

impl End for Rtc {
    fn handle(&mut self, datagram: &mut [u8], now: Instant) -> usize {
        let mut bytes = 0;
        for event in self.engine.read(now, RTC, None, BytesMut::from(&*datagram)).unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => self.is_open = true,
                EndpointEvent::ApplicationData(text) => bytes += text.len(),
                _ => {}
            }
        }
        bytes
    }

    fn transmit(&mut self, _: Instant, out: &mut VecDeque<Vec<u8>>) {
        while let Some(transmit) = self.engine.poll_transmit() {
            out.push_back(transmit.message.to_vec());
        }
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn seal(&mut self, packet: &[u8], now: Instant, batch: &mut Vec<u8>) {
        let _ = self.engine.write(now, RTC, packet);
        while let Some(transmit) = self.engine.poll_transmit() {
            batch.extend_from_slice(&transmit.message);
        }
    }
}

/// CPU seconds of one end's work, and bytes.
#[derive(Default)]
struct Cost {
    server: f64,
    client: f64,
    /// Until the client may speak.
    round_trips: usize,
}

fn connect<E: End>(make: &mut dyn FnMut(bool) -> E, cost: &mut Cost) -> Outcome<(E, E)> {
    let now = Instant::now();
    let timed = |spent: &mut f64, act: &mut dyn FnMut()| -> Outcome<()> {
        let start = cpu_seconds()?;
        act();
        *spent += cpu_seconds()? - start;
        Ok(())
    };
    let (mut client, mut server) = (None, None);
    timed(&mut cost.client, &mut || client = Some(make(true)))?;
    timed(&mut cost.server, &mut || server = Some(make(false)))?;
    let (Some(mut client), Some(mut server)) = (client, server) else { return Err("unmade".into()) };
    let (mut wire, mut is_spoken) = (VecDeque::new(), false);
    for _ in 0..8 {
        timed(&mut cost.client, &mut || client.transmit(now, &mut wire))?;
        timed(&mut cost.server, &mut || {
            for mut one in wire.drain(..) {
                server.handle(&mut one, now);
            }
        })?;
        timed(&mut cost.server, &mut || server.transmit(now, &mut wire))?;
        timed(&mut cost.client, &mut || {
            for mut one in wire.drain(..) {
                client.handle(&mut one, now);
            }
        })?;
        if !is_spoken {
            cost.round_trips += 1;
        }
        is_spoken = client.is_open();
        if is_spoken && server.is_open() && wire.is_empty() {
            return Ok((client, server));
        }
    }
    Err("the handshake does not end".into())
}

fn measure<E: End>(name: &str, record_bytes: usize, mut make: impl FnMut(bool) -> E) -> Outcome<()> {
    connect(&mut make, &mut Cost::default())?;
    let (memory, mut cost) = (resident_bytes()?, Cost::default());
    let mut pairs = Vec::new();
    for _ in 0..HANDSHAKES {
        pairs.push(connect(&mut make, &mut cost)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
    let (count, kilobytes) =
        (HANDSHAKES as f64, resident_bytes()?.saturating_sub(memory) as f64 / 2_000.0 / HANDSHAKES as f64);
    let [server, client] = [cost.server, cost.client].map(|seconds| seconds * 1_000.0 / count);
    print!("| {name} | {server:.2} | {client:.2} | {} | {kilobytes:.1} |", cost.round_trips / HANDSHAKES);
    drop(pairs);
    for bytes in [1_200, 1_440] {
        let (mut client, mut server) = connect(&mut make, &mut Cost::default())?;
        let (packet, now) = (vec![7; bytes], Instant::now());
        let (mut sealing, mut opening, mut heard) = (0.0, 0.0, 0);
        let rounds = GIGABYTE / bytes / BATCH;
        let mut batch = Vec::new();
        for _ in 0..rounds {
            batch.clear();
            let start = cpu_seconds()?;
            for _ in 0..BATCH {
                server.seal(&packet, now, &mut batch);
            }
            let middle = cpu_seconds()?;
            for datagram in batch.chunks_mut(bytes + record_bytes) {
                heard += client.handle(datagram, now);
            }
            sealing += middle - start;
            opening += cpu_seconds()? - middle;
        }
        if heard != rounds * BATCH * bytes {
            return Err(format!("{heard} bytes came").into());
        }
        print!(" {sealing:.2} | {opening:.2} |");
    }
    println!();
    Ok(())
}

fn main() -> Outcome<()> {
    let Some(which) = env::args().nth(1) else {
        println!("| | ms server | ms client | round trips | KB idle | seal 1200 | open | seal 1440 | open |");
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for which in ["rtc", "dimpl", "ours12", "ours13"] {
            // Each in a process of its own, for its memory.
            Command::new(env::current_exe()?).arg(which).status()?;
        }
        return Ok(());
    };
    let (edge, viewer) = (Certificate::generate()?, Certificate::generate()?);
    let setups = [Setup::new(&edge)?, Setup::new(&viewer)?];
    let configs = [Rtc::config(false)?, Rtc::config(true)?];
    match &*which {
        "rtc" => measure("`rtc-dtls` 0.21.1", OLD, |is_client| {
            Rtc::new(&configs[usize::from(is_client)], is_client, Instant::now())
        }),
        "dimpl" => measure("`dimpl` 0.9.0 on ring", OLD, |is_client| {
            Dimpl::new(&setups[usize::from(is_client)], is_client, Instant::now())
        }),
        _ => {
            let (setups, version) = if which == "ours12" {
                (setups.map(Setup::old), Version::Dtls12)
            } else {
                (setups, Version::Dtls13)
            };
            measure(&format!("ours after `dimpl`, {version:?}"), version.overhead_bytes(), |is_client| {
                if is_client {
                    Dtls::client(&setups[1], edge.fingerprint(), Instant::now())
                } else {
                    Dtls::server(&setups[0], false)
                }
            })
        }
    }
}

/// Of this thread.
fn cpu_seconds() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("no schedstat")?.parse()?;
    Ok(nanoseconds / 1e9)
}

fn resident_bytes() -> Outcome<usize> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).ok_or("no statm")?.parse()?;
    Ok(pages * 4_096)
}
