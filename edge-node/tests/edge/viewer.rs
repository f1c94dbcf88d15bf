//! A native viewer: dials, proves its session, verifies everything it gets, and vouches.

use std::{collections::BTreeMap, time::Duration};

use millstream_datachannel::{Address, Certificate, Channel, Connection, dial};
use millstream_model::{PublicKey, RenditionId, SessionId, StreamId};
use millstream_wire::{
    chain::{Chain, piece_fits},
    frame::{Frame, PROTOCOL, Reason, Subscription},
    media::Record,
    session::{Grant, Hello, Voucher},
    sign::{Context, SessionSecret, Signed},
    tracker::EdgeAddress,
};

use crate::tracker::wall;

/// Longer than anything on a loaded machine takes; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Viewer {
    pub(crate) connection: Connection,
    pub(crate) secret: SessionSecret,
    pub(crate) grant: Grant,
    pub(crate) certificate: Certificate,
    chain: Chain,
    records: BTreeMap<(RenditionId, u64), Record>,
    early: Vec<(RenditionId, u64, u32, bytes::Bytes)>,
    /// Verified pieces, by part.
    pub(crate) pieces: BTreeMap<(RenditionId, u64), Vec<u32>>,
    /// Bytes that arrived, and those of them that verified.
    pub(crate) received: u64,
    pub(crate) verified: u64,
    pub(crate) bad: u32,
    pub(crate) window: u32,
}

impl Viewer {
    /// Opens the channels; nothing is said yet.
    pub(crate) async fn dial(
        address: &EdgeAddress,
        grant: Grant,
        secret: SessionSecret,
        root: PublicKey,
    ) -> Self {
        let certificate = Certificate::generate().expect("randomness");
        let address = Address {
            socket: address.sockets[0],
            ufrag: address.ufrag.clone(),
            password: address.password.clone(),
            fingerprint: address.fingerprint,
        };
        let config = dial::Config { certificate: Some(certificate.clone()), ..dial::Config::default() };
        let connection = millstream_datachannel::dial(&address, config).await.expect("a connection");
        Self {
            connection,
            secret,
            chain: Chain::new(grant.stream.clone(), root),
            grant,
            certificate,
            records: BTreeMap::new(),
            early: Vec::new(),
            pieces: BTreeMap::new(),
            received: 0,
            verified: 0,
            bad: 0,
            window: 0,
        }
    }

    pub(crate) async fn say(&self, frame: &Frame) {
        let _ = self.connection.send(Channel::Control, frame.encode()).await;
    }

    pub(crate) fn hello(&self) -> Hello {
        let fingerprint = self.certificate.fingerprint();
        Hello { session: self.grant.session, edge: self.grant.edge, fingerprint }
    }

    /// Says hello with this grant and proof, and gives what comes back first.
    pub(crate) async fn greet_as(&mut self, grant: Signed<Grant>, hello: Signed<Hello>) -> Frame {
        self.say(&Frame::Hello { protocol: PROTOCOL, grant, hello }).await;
        self.next().await.expect("an answer")
    }

    pub(crate) async fn greet(&mut self, grant: Signed<Grant>) {
        let hello = Signed::new(self.hello(), Context::None, &self.secret);
        let answer = self.greet_as(grant, hello).await;
        assert!(matches!(answer, Frame::Welcome { .. }), "{answer:?}");
    }

    pub(crate) async fn subscribe(&self, rendition: RenditionId, want: Subscription) {
        self.say(&Frame::Subscribe { rendition, want, from: 0 }).await;
    }

    /// The next frame, already taken in; none when the edge has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let message =
            tokio::time::timeout(PATIENCE, self.connection.recv()).await.expect("a message in time")?;
        let frame = Frame::decode(message.bytes).expect("sound").expect("known");
        self.take(&frame);
        if let Frame::Ping(value) = frame {
            self.say(&Frame::Pong(value)).await;
        }
        Some(frame)
    }

    fn take(&mut self, frame: &Frame) {
        match frame {
            Frame::Welcome { window, .. } => self.window = *window,
            Frame::Delegation(signed) => {
                self.chain.accept_delegation(signed, wall()).expect("a true delegation");
            }
            Frame::Catalog(signed) => {
                self.chain.accept_catalog(signed).expect("a true catalog");
            }
            Frame::Record(signed) => {
                self.chain.accept_record(signed).expect("a true record");
                let record = signed.unverified().clone();
                self.records.insert((record.rendition, record.number), record);
                for (rendition, number, index, data) in std::mem::take(&mut self.early) {
                    self.piece(rendition, number, index, data);
                }
            }
            Frame::Piece { rendition, number, index, data } => {
                self.received += data.len() as u64;
                self.piece(*rendition, *number, *index, data.clone());
            }
            _ => {}
        }
    }

    fn piece(&mut self, rendition: RenditionId, number: u64, index: u32, data: bytes::Bytes) {
        let Some(record) = self.records.get(&(rendition, number)) else {
            // The channels are two: a piece may overtake its record.
            return self.early.push((rendition, number, index, data));
        };
        if piece_fits(record, index, &data) {
            self.verified += data.len() as u64;
            self.pieces.entry((rendition, number)).or_default().push(index);
        } else {
            self.bad += 1;
        }
    }

    pub(crate) fn has(&self, rendition: RenditionId, number: u64) -> bool {
        let have = self.pieces.get(&(rendition, number)).map_or(0, Vec::len);
        self.records.get(&(rendition, number)).is_some_and(|record| record.pieces.len() == have)
    }

    /// Takes what comes until this part is whole.
    pub(crate) async fn until(&mut self, rendition: RenditionId, number: u64) {
        while !self.has(rendition, number) {
            let frame = self.next().await.expect("the edge goes on");
            assert!(!matches!(frame, Frame::Refuse { .. }), "{frame:?}");
        }
    }

    /// Takes what comes until the edge refuses.
    pub(crate) async fn until_refused(&mut self) -> (Reason, String) {
        loop {
            if let Frame::Refuse { reason, text } = self.next().await.expect("a refusal first") {
                return (reason, text);
            }
        }
    }

    /// Vouches for all that was verified.
    pub(crate) async fn vouch(&self) -> u64 {
        self.vouch_for(self.verified, self.received).await;
        self.verified
    }

    pub(crate) async fn vouch_for(&self, payable: u64, received: u64) {
        let newest = self.pieces.keys().next_back().copied().unwrap_or((RenditionId(0), 0));
        let voucher = Voucher {
            tracker: self.grant.tracker,
            session: self.grant.session,
            edge: self.grant.edge,
            stream: self.grant.stream.clone(),
            payable,
            received,
            segments: 1,
            rendition: newest.0,
            number: newest.1,
        };
        self.say(&Frame::Voucher(Signed::new(voucher, Context::None, &self.secret))).await;
    }

    pub(crate) async fn close(self) {
        self.connection.close();
        self.connection.closed().await;
    }
}

/// A session of its own for each number.
pub(crate) fn session(number: u8) -> (SessionId, SessionSecret) {
    (SessionId([number; 16]), SessionSecret::from_bytes(&[number; 32]).expect("a scalar"))
}

pub(crate) fn demo() -> StreamId {
    StreamId::new("demo").expect("a slug")
}
