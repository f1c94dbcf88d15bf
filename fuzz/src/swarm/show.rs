//! The show that is on, with everything that an honest packager, tracker and origin say about it.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use bytes::{Bytes, BytesMut};
use millstream_model::{
    BitRate, EdgeId, Fingerprint, Hash, MediaTime, Micros, PIECE_BYTES, Price, RenditionId, SessionId,
    StreamId, WallTime,
};
use millstream_wire::{
    frame::{Frame, write_framed},
    media::{Catalog, Delegation, Media, Record, Rendition, hash_pieces},
    session::{Certificate, Grant, Receipt},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    tracker::{Challenge, EdgeAddress, EdgeOffer, Fault, FaultCode, ToViewer, Welcome},
};

use crate::script::Script;

pub(super) const WALL: u64 = 1_800_000_000_000;
/// Of the parts that there are.
pub(super) const NUMBERS: Range<u64> = 1_000..1_032;
const PARTS_PER_SEGMENT: u64 = 8;
const PART_MS: u64 = 250;
const VIDEO: RenditionId = RenditionId(0);
const AUDIO: RenditionId = RenditionId(1);

pub(super) static SHOW: LazyLock<Show> = LazyLock::new(Show::new);

pub(super) struct Show {
    pub(super) stream: StreamId,
    pub(super) root: SecretKey,
    pub(super) session: SessionSecret,
    pub(super) delegation: Signed<Delegation>,
    /// The one that is on, and the one that says that it is over.
    pub(super) catalogs: [Signed<Catalog>; 2],
    pub(super) media: BTreeMap<(RenditionId, u64), Bytes>,
    pub(super) forged_catalog: Signed<Catalog>,
    records: BTreeMap<(RenditionId, u64), Signed<Record>>,
    forged: Vec<Signed<Record>>,
    tracker: SecretKey,
    edges: Vec<EdgeOffer>,
    certificate: Signed<Certificate>,
}

pub(super) fn rendition_of(name: &str) -> RenditionId {
    match name {
        "video" => VIDEO,
        "audio" => AUDIO,
        _ => RenditionId(99),
    }
}

impl Show {
    fn new() -> Self {
        let key = |n: u8| SecretKey::from_seed(&[n; 32]);
        let (root, packager, tracker, thief) = (key(1), key(2), key(3), key(99));
        let session = SessionSecret::from_bytes(&[7; 32]).unwrap();
        let stream = StreamId::new("demo").unwrap();
        let delegation = Delegation {
            stream: stream.clone(),
            generation: 1,
            packager: packager.public(),
            not_before: WallTime(WALL - 1_000_000),
            expires: WallTime(WALL + 100_000_000),
        };
        let context = Context::Stream(&stream);
        let catalog = |version, ended, signer| Signed::new(catalog(version, ended), context, signer);
        let certificate = Certificate {
            session: SessionId([9; 16]),
            stream: stream.clone(),
            key: session.public(),
            issued: WallTime(WALL),
            expires: WallTime(WALL + 43_200_000),
        };
        let mut show = Self {
            delegation: Signed::new(delegation, Context::None, &root),
            catalogs: [catalog(1, false, &packager), catalog(2, true, &packager)],
            forged_catalog: catalog(1, true, &thief),
            media: BTreeMap::new(),
            records: BTreeMap::new(),
            forged: Vec::new(),
            edges: Vec::new(),
            certificate: Signed::new(certificate, Context::None, &tracker),
            stream: stream.clone(),
            root,
            session,
            tracker,
        };
        for id in [VIDEO, AUDIO] {
            show.publish(id, &packager, &thief);
        }
        show.edges = (0..3).map(|n| show.offer(&key(100 + n), 1 << 30)).collect();
        show
    }

    fn publish(&mut self, rendition: RenditionId, packager: &SecretKey, thief: &SecretKey) {
        let context = Context::Stream(&self.stream);
        let mut previous = Record::NO_PREVIOUS;
        for number in NUMBERS {
            let at = number - NUMBERS.start;
            let part = u16::try_from(at % PARTS_PER_SEGMENT).unwrap();
            // Parts of one piece, of two, and of next to nothing.
            let size = if rendition == AUDIO { 40 } else { [70_000, 900, 20, 3_000][usize::from(part % 4)] };
            let media: Bytes = (0..size).map(|n: u32| (n % 251) as u8 ^ number.to_be_bytes()[7]).collect();
            let record = Record {
                generation: 1,
                catalog: 1,
                rendition,
                number,
                segment: 50 + at / PARTS_PER_SEGMENT,
                part,
                media_time: MediaTime(at * PART_MS),
                duration: 250,
                program_date_time: WallTime(WALL - 4_000 + at * PART_MS),
                discontinuity: 0,
                independent: part == 0,
                first: part == 0,
                size,
                pieces: hash_pieces(&media),
                previous,
            };
            let other = Record { pieces: vec![Hash([1; 32]); record.pieces.len()], ..record.clone() };
            let broken = Record { previous: Hash([1; 32]), ..record.clone() };
            self.forged.push(Signed::new(other, context, thief));
            self.forged.push(Signed::new(broken, context, thief));
            let signed = Signed::new(record, context, packager);
            previous = signed.digest();
            self.records.insert((rendition, number), signed);
            self.media.insert((rendition, number), media);
        }
    }

    pub(super) fn edge(&self, n: usize) -> EdgeId {
        // One that nobody offered, too.
        self.edges.get(n).map_or(millstream_model::PublicKey([0xEE; 32]), |offer| offer.id)
    }

    pub(super) fn record(&self, rendition: RenditionId, number: u64) -> &Signed<Record> {
        &self.records[&(rendition, number)]
    }

    pub(super) fn forged_record(&self, n: u8) -> Signed<Record> {
        self.forged[usize::from(n) % self.forged.len()].clone()
    }

    pub(super) fn segment(&self, rendition: RenditionId, segment: u64) -> Bytes {
        let first = NUMBERS.start + (segment - 50) * PARTS_PER_SEGMENT;
        let parts = (first..first + PARTS_PER_SEGMENT).map(|number| &self.media[&(rendition, number)][..]);
        parts.collect::<Vec<_>>().concat().into()
    }

    pub(super) fn is_true(&self, rendition: RenditionId, number: u64, index: u32, data: &[u8]) -> bool {
        let media = self.media.get(&(rendition, number));
        let piece = media.and_then(|media| media.chunks(PIECE_BYTES as usize).nth(index as usize));
        piece == Some(data)
    }

    pub(super) fn true_frame(&self, script: &mut Script<'_>) -> Frame {
        match script.byte() % 8 {
            0 => Frame::Delegation(self.delegation.clone()),
            1 => Frame::Catalog(self.catalogs[0].clone()),
            2 if script.seldom() => Frame::Catalog(self.catalogs[1].clone()),
            3 => Frame::Ping(script.long()),
            4 => Frame::Welcome { protocol: 1, window: 2 << 20 },
            _ => Frame::Record(self.records.values().nth(script.index(self.records.len())).unwrap().clone()),
        }
    }

    pub(super) fn challenge(&self) -> ToViewer {
        ToViewer::Challenge(Challenge {
            nonce: SessionId([5; 16]),
            tracker: self.tracker.public(),
            time: WallTime(WALL),
        })
    }

    /// With those edges whose bits are set.
    pub(super) fn welcome(&self, mask: u8, cap: u64) -> ToViewer {
        let edges = self.offers(mask, cap);
        ToViewer::Welcome(Box::new(Welcome {
            session: SessionId([9; 16]),
            certificate: self.certificate.clone(),
            stream: self.stream.clone(),
            root: self.root.public(),
            origin: "http://origin".into(),
            token: None,
            edges,
            time: WallTime(WALL + u64::from(mask >> 3) * 100),
            report_ms: if mask & 0x80 == 0 { 5_000 } else { u32::from(mask & 1) },
        }))
    }

    fn offers(&self, mask: u8, cap: u64) -> Vec<EdgeOffer> {
        let offered = (0_u8..).zip(&self.edges).filter(|(n, _)| mask >> n & 1 == 1);
        offered
            .map(|(n, known)| {
                if cap == 1 << 30 {
                    return known.clone();
                }
                self.offer(&SecretKey::from_seed(&[100 + n; 32]), cap)
            })
            .collect()
    }

    fn offer(&self, edge: &SecretKey, cap_bytes: u64) -> EdgeOffer {
        let grant = Grant {
            tracker: self.tracker.public(),
            session: SessionId([9; 16]),
            key: self.session.public(),
            stream: self.stream.clone(),
            edge: edge.public(),
            price: Price(20_000),
            cap_bytes: cap_bytes >> 2,
            serial: if cap_bytes == 1 << 30 { 1 } else { 2 },
            issued: WallTime(WALL),
            expires: WallTime(WALL + 120_000),
        };
        EdgeOffer {
            id: edge.public(),
            address: EdgeAddress {
                sockets: vec!["192.0.2.1:4443".parse().unwrap()],
                ufrag: "ufrag".into(),
                password: "0123456789abcdefghijkl".into(),
                fingerprint: Fingerprint([8; 32]),
                behind_nat: false,
                stun: Vec::new(),
            },
            grant: Signed::new(grant, Context::None, &self.tracker),
        }
    }

    /// Anything else from the tracker.
    pub(super) fn tracker_says(&self, script: &mut Script<'_>) -> ToViewer {
        let edge = self.edge(script.index(4));
        match script.byte() % 6 {
            0 => {
                let (mask, cap) = (script.byte(), script.long());
                let grants: Vec<_> = self.offers(mask, cap).into_iter().map(|offer| offer.grant).collect();
                serde_json::from_value(serde_json::json!({"type": "grants", "grants": grants})).unwrap()
            }
            1 => ToViewer::Reassign { edges: self.offers(script.byte(), 1 << 30), reason: "drain".into() },
            2 => {
                let receipt = Receipt {
                    session: SessionId([9; 16]),
                    edge,
                    payable: script.long() >> 2,
                    earned: Micros((script.long() >> 2).cast_signed()),
                    voucher: Hash([1; 32]),
                    at: WallTime(script.long()),
                };
                ToViewer::Receipt { receipt: Signed::new(receipt, Context::None, &self.tracker) }
            }
            3 => ToViewer::Rejected { edge, reason: "over the cap".into() },
            4 => ToViewer::Goaway { retry_ms: script.word() },
            _ => {
                let codes =
                    [FaultCode::BadRequest, FaultCode::BadProof, FaultCode::NotLive, FaultCode::NoFunds];
                ToViewer::Error(Fault { code: codes[script.index(4)], message: "no".into() })
            }
        }
    }

    /// What an honest origin answers; `None`: 404.
    pub(super) fn serves(&self, url: &str, range: Option<(u64, u64)>) -> Option<Vec<u8>> {
        let path = url.strip_prefix("http://origin/s/demo/")?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "start" || path == "records" {
            let mut body = BytesMut::new();
            if path == "start" {
                write_framed(&Frame::Delegation(self.delegation.clone()).encode(), &mut body);
                write_framed(&Frame::Catalog(self.catalogs[0].clone()).encode(), &mut body);
            }
            let from =
                query.split('&').find_map(|pair| pair.strip_prefix("from=")).and_then(|n| n.parse().ok());
            for ((id, number), record) in &self.records {
                let asked = path == "start"
                    || query.contains(["rendition=video", "rendition=audio"][usize::from(id.0)]);
                if asked && *number >= from.unwrap_or(0) && *number < NUMBERS.start + 24 {
                    write_framed(&Frame::Record(record.clone()).encode(), &mut body);
                }
            }
            return Some(body.to_vec());
        }
        let (name, file) = path.split_once('/')?;
        let number = file.strip_prefix('p')?.strip_suffix(".m4s")?.parse().ok()?;
        let media = self.media.get(&(rendition_of(name), number))?;
        let (first, last) = range.unwrap_or((0, u64::MAX));
        let first = usize::try_from(first).ok()?;
        let end = usize::try_from(last).map_or(media.len(), |last| media.len().min(last.saturating_add(1)));
        Some(media.get(first..end)?.to_vec())
    }
}

fn catalog(version: u32, ended: bool) -> Catalog {
    let rendition = |id, name: &str, media, codecs: &str| Rendition {
        id,
        name: name.into(),
        group: name.into(),
        media,
        codecs: codecs.into(),
        bandwidth: BitRate(3_000_000),
        timescale: 1_000,
        target_duration_ms: 4_000,
        part_target_ms: 250,
        init: Bytes::from_static(b"init"),
    };
    let video = Media::Video { width: 1_280, height: 720, frame_rate_milli: 30_000 };
    let audio = Media::Audio { channels: 2, sample_rate: 48_000 };
    Catalog {
        generation: 1,
        version,
        created: WallTime(WALL),
        ended,
        renditions: vec![
            rendition(VIDEO, "video", video, "avc1.64001f"),
            rendition(AUDIO, "audio", audio, "mp4a.40.2"),
        ],
    }
}
