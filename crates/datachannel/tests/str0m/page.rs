//! One `str0m` peer connection on a socket of its own, as a page would be: it dials an edge whose address it was told.
//! Blocking: give it a thread.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use millstream_datachannel::Address;
use str0m::{
    Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc,
    channel::{ChannelConfig, ChannelId},
    crypto::Fingerprint,
    net::{Protocol, Receive},
};

use super::{PATIENCE, cryptography};

/// What it asks of the world is done by then, or never.
const NAP: Duration = Duration::from_millis(2);

pub(crate) struct Page {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    is_connected: bool,
    pub(crate) opened: Vec<ChannelId>,
    pub(crate) closed: Vec<ChannelId>,
    pub(crate) received: Vec<(ChannelId, Vec<u8>)>,
}

impl Page {
    /// Begins to connect. Sends an INIT of its own if it `begins`; else it waits for the edge's.
    pub(crate) fn dial(address: &Address, begins: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(cryptography::provider().into())
            .set_sctp_max_message_size(65_600)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").unwrap());
        rtc.add_remote_candidate(Candidate::host(address.socket, "udp").unwrap());
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(true);
        direct.set_remote_ice_credentials(IceCreds {
            ufrag: address.ufrag.clone(),
            pass: address.password.clone(),
        });
        direct.set_remote_fingerprint(Fingerprint {
            hash_func: "sha-256".to_owned(),
            bytes: address.fingerprint.0.to_vec(),
        });
        direct.start_dtls(true).unwrap();
        direct.start_sctp(begins);
        Self {
            rtc,
            socket,
            local,
            is_connected: true,
            opened: Vec::new(),
            closed: Vec::new(),
            received: Vec::new(),
        }
    }

    /// The two channels that both sides have agreed on beforehand: control and pieces.
    pub(crate) fn negotiate(&mut self) -> [ChannelId; 2] {
        let channel =
            |id, ordered| ChannelConfig { negotiated: Some(id), ordered, ..ChannelConfig::default() };
        [self.open(channel(0, true)), self.open(channel(1, false))]
    }

    pub(crate) fn open(&mut self, config: ChannelConfig) -> ChannelId {
        self.rtc.direct_api().create_data_channel(config)
    }

    /// Says whether there was room for it.
    pub(crate) fn write(&mut self, channel: ChannelId, bytes: &[u8]) -> bool {
        self.rtc.channel(channel).expect("the channel is open").write(true, bytes).unwrap()
    }

    pub(crate) fn reset(&mut self, channel: ChannelId) {
        self.rtc.direct_api().close_data_channel(channel);
    }

    pub(crate) fn fingerprint(&mut self) -> Vec<u8> {
        self.rtc.direct_api().local_dtls_fingerprint().bytes.clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected && self.rtc.is_alive()
    }

    /// Says farewell.
    pub(crate) fn close(mut self) {
        self.rtc.close().unwrap();
        self.until("the farewell is sent", |page| !page.rtc.is_alive());
    }

    /// Goes on until it is so.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let due = loop {
            if !self.rtc.is_alive() {
                return;
            }
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => break at,
                Output::Transmit(transmit) => {
                    // As if lost on the way when the edge is gone.
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(event) => self.note(event),
            }
        };
        let nap = due.saturating_duration_since(Instant::now()).clamp(Duration::from_micros(100), NAP);
        self.socket.set_read_timeout(Some(nap)).unwrap();
        let mut datagram = [0; 2_048];
        if let Ok((length, from)) = self.socket.recv_from(&mut datagram)
            && let Ok(receive) = Receive::new(Protocol::Udp, from, self.local, &datagram[..length])
        {
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
        } else {
            self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(channel, _) => self.opened.push(channel),
            Event::ChannelData(data) => {
                assert!(data.binary);
                self.received.push((data.id, data.data));
            }
            Event::ChannelClose(channel) => self.closed.push(channel),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => self.is_connected = false,
            _ => {}
        }
    }
}
