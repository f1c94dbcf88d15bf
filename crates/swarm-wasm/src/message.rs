//! The tracker's messages: what `wire` reads and writes with serde, by hand, for size (see [`crate::json`]). The tests
//! hold both to each other, message by message.

use alloc::{boxed::Box, string::String, string::ToString as _, vec::Vec};
use core::fmt::Display;

use millstream_model::Fingerprint;
use millstream_wire::tracker::{
    Challenge, EdgeAddress, EdgeOffer, Fault, FaultCode, FromViewer, MESSAGE_BYTES_MAX, ToViewer, Welcome,
};

use crate::json::{Members, Value, Writer};

/// What the tracker says; `None` when it is nothing that it could say.
pub(crate) fn read(text: &[u8]) -> Option<ToViewer> {
    if text.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let value = Value::read(text)?;
    let own = |name| value.get(name).and_then(Value::text).map(String::from);
    Some(match value.get("type")?.text()? {
        "challenge" => ToViewer::Challenge(Challenge {
            nonce: value.get("nonce")?.parsed()?,
            tracker: value.get("tracker")?.parsed()?,
            time: millstream_model::WallTime(value.get("time")?.number()?),
        }),
        "welcome" => ToViewer::Welcome(Box::new(Welcome {
            session: value.get("session")?.parsed()?,
            certificate: value.get("certificate")?.parsed()?,
            stream: value.get("stream")?.parsed()?,
            root: value.get("root")?.parsed()?,
            origin: own("origin")?,
            token: value.maybe("token", Value::parsed)?,
            edges: offers(&value)?,
            time: millstream_model::WallTime(value.get("time")?.number()?),
            report_ms: value.get("report_ms")?.number()?,
        })),
        "grants" => ToViewer::Grants {
            grants: value.get("grants")?.list(Value::parsed)?,
            token: value.maybe("token", Value::parsed)?,
        },
        "reassign" => ToViewer::Reassign { edges: offers(&value)?, reason: own("reason")? },
        "receipt" => ToViewer::Receipt { receipt: value.get("receipt")?.parsed()? },
        "rejected" => ToViewer::Rejected { edge: value.get("edge")?.parsed()?, reason: own("reason")? },
        "signal" => {
            ToViewer::Signal(millstream_wire::tracker::Signal { peer: own("peer")?, data: own("data")? })
        }
        "goaway" => ToViewer::Goaway { retry_ms: value.get("retry_ms")?.number()? },
        "error" => {
            ToViewer::Error(Fault { code: code(value.get("code")?.text()?)?, message: own("message")? })
        }
        _ => return None,
    })
}

/// An address passes the core by: the page reads it in the same message, and is who goes there.
fn offers(value: &Value) -> Option<Vec<EdgeOffer>> {
    value.get("edges")?.list(|offer| {
        Some(EdgeOffer {
            id: offer.get("id")?.parsed()?,
            address: ELSEWHERE,
            grant: offer.get("grant")?.parsed()?,
        })
    })
}

const ELSEWHERE: EdgeAddress = EdgeAddress {
    sockets: Vec::new(),
    ufrag: String::new(),
    password: String::new(),
    fingerprint: Fingerprint([0; 32]),
    behind_nat: false,
    stun: Vec::new(),
};

/// Each code with its name on the wire.
const CODES: [(FaultCode, &str); 10] = [
    (FaultCode::BadRequest, "bad_request"),
    (FaultCode::UnknownStream, "unknown_stream"),
    (FaultCode::NotLive, "not_live"),
    (FaultCode::BadTicket, "bad_ticket"),
    (FaultCode::RateLimited, "rate_limited"),
    (FaultCode::BadProof, "bad_proof"),
    (FaultCode::NoFunds, "no_funds"),
    (FaultCode::BadKey, "bad_key"),
    (FaultCode::Busy, "busy"),
    (FaultCode::Unavailable, "unavailable"),
];

fn code(text: &str) -> Option<FaultCode> {
    CODES.iter().find(|(_, name)| *name == text).map(|(code, _)| *code)
}

/// A code's name on the wire.
pub(crate) fn code_text(code: FaultCode) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map_or("unavailable", |(_, name)| name)
}

/// Writes what the viewer says.
pub(crate) fn write(message: &FromViewer, to: &mut Vec<u8>) {
    Writer(to).object(|to| match message {
        FromViewer::Join { stream, key, ticket } => {
            to.text("type", "join");
            to.text("stream", stream.as_str());
            shown(to, "key", key);
            if let Some(ticket) = ticket {
                to.text("ticket", ticket);
            }
        }
        FromViewer::Resume { certificate, proof } => {
            to.text("type", "resume");
            shown(to, "certificate", certificate);
            shown(to, "proof", proof);
        }
        FromViewer::Renew { edge } => {
            to.text("type", "renew");
            shown(to, "edge", edge);
        }
        FromViewer::Report { buffer_ms, latency_ms, stalls, stalled_ms, origin_bytes, edges } => {
            to.text("type", "report");
            to.number("buffer_ms", *buffer_ms);
            to.number("latency_ms", *latency_ms);
            to.number("stalls", *stalls);
            to.number("stalled_ms", *stalled_ms);
            to.number("origin_bytes", *origin_bytes);
            to.member("edges", |to| {
                to.list(edges.iter(), |to, edge| {
                    to.object(|to| {
                        shown(to, "edge", &edge.edge);
                        to.number("received", edge.received);
                        to.number("bad", edge.bad);
                        to.number("rtt_ms", edge.rtt_ms);
                        to.flag("ready", edge.ready);
                    });
                });
            });
        }
        FromViewer::Voucher { voucher } => {
            to.text("type", "voucher");
            shown(to, "voucher", voucher);
        }
        FromViewer::Signal(signal) => {
            to.text("type", "signal");
            to.text("peer", &signal.peer);
            to.text("data", &signal.data);
        }
        FromViewer::Leave => to.text("type", "leave"),
    });
}

/// A member that is written as it is displayed: ids, keys and signed objects.
pub(crate) fn shown(to: &mut Members<'_>, name: &str, value: &dyn Display) {
    to.text(name, &value.to_string());
}

#[cfg(test)]
mod tests {
    use millstream_model::{Hash, Micros, Price, RenditionId, SessionId, StreamId, WallTime};
    use millstream_wire::{
        session::{Bearer, Certificate, Grant, Receipt, Resume, Token, Voucher},
        sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
        tracker::{EdgeBytes, Signal},
    };

    use super::*;

    fn tracker() -> SecretKey {
        SecretKey::from_seed(&[3; 32])
    }

    fn viewer() -> SessionSecret {
        SessionSecret::from_bytes(&[5; 32]).unwrap()
    }

    fn stream() -> StreamId {
        StreamId::new("demo").unwrap()
    }

    fn offer(n: u8) -> EdgeOffer {
        let edge = SecretKey::from_seed(&[n; 32]).public();
        let grant = Grant {
            tracker: tracker().public(),
            session: SessionId([7; 16]),
            key: viewer().public(),
            stream: stream(),
            edge,
            price: Price(20_000),
            cap_bytes: 1 << 26,
            serial: 1,
            issued: WallTime(1),
            expires: WallTime(120_001),
        };
        EdgeOffer { id: edge, address: ELSEWHERE, grant: Signed::new(grant, Context::None, &tracker()) }
    }

    fn certificate() -> Signed<Certificate> {
        let certificate = Certificate {
            session: SessionId([7; 16]),
            stream: stream(),
            key: viewer().public(),
            issued: WallTime(1),
            expires: WallTime(2),
        };
        Signed::new(certificate, Context::None, &tracker())
    }

    fn from_the_tracker() -> Vec<ToViewer> {
        let token =
            Token { stream: stream(), bearer: Bearer::Session(SessionId([7; 16])), expires: WallTime(9) };
        let token = Signed::new(token, Context::None, &tracker());
        let receipt = Receipt {
            session: SessionId([7; 16]),
            edge: offer(4).id,
            payable: 1 << 40,
            earned: Micros(18),
            voucher: Hash([9; 32]),
            at: WallTime(10),
        };
        let welcome = |token, edges| {
            ToViewer::Welcome(Box::new(Welcome {
                session: SessionId([7; 16]),
                certificate: certificate(),
                stream: stream(),
                root: tracker().public(),
                origin: "https://origin.example/a\"b".into(),
                token,
                edges,
                time: WallTime(1_800_000_000_000),
                report_ms: 5_000,
            }))
        };
        let mut messages = Vec::from([
            ToViewer::Challenge(Challenge {
                nonce: SessionId([6; 16]),
                tracker: tracker().public(),
                time: WallTime(1_800_000_000_000),
            }),
            welcome(None, Vec::new()),
            welcome(Some(token.clone()), Vec::from([offer(4), offer(5)])),
            ToViewer::Grants { grants: Vec::from([offer(4).grant]), token: None },
            ToViewer::Grants { grants: Vec::new(), token: Some(token) },
            ToViewer::Reassign { edges: Vec::from([offer(9)]), reason: "drain – \"soon\"".into() },
            ToViewer::Receipt { receipt: Signed::new(receipt, Context::None, &tracker()) },
            ToViewer::Rejected { edge: offer(4).id, reason: "over\ncap".into() },
            ToViewer::Signal(Signal { peer: "a".into(), data: "{\"sdp\":\"v=0\\r\\n\"}".into() }),
            ToViewer::Goaway { retry_ms: u32::MAX },
        ]);
        messages.extend(CODES.map(|(code, name)| ToViewer::Error(Fault { code, message: name.into() })));
        messages
    }

    #[test]
    fn reads_every_message_as_the_tracker_writes_it() {
        for message in from_the_tracker() {
            let mut value = serde_json::to_value(&message).unwrap();
            let edges = value.get_mut("edges").and_then(serde_json::Value::as_array_mut);
            for offer in edges.into_iter().flatten() {
                offer["address"] = serde_json::json!({ "whatever": ["the page", "makes of it"] });
            }
            assert_eq!(read(value.to_string().as_bytes()), Some(message));
        }
    }

    #[test]
    fn refuses_what_the_tracker_refuses_to_read() {
        for message in from_the_tracker() {
            let value = serde_json::to_value(&message).unwrap();
            let names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            // Each member missing, and each of another kind.
            for name in names {
                let mut without = value.clone();
                without.as_object_mut().unwrap().remove(&name);
                let mut other = value.clone();
                other[&name] = serde_json::json!({"not": "this"});
                for changed in [without, other] {
                    let text = changed.to_string();
                    assert_eq!(read(text.as_bytes()), serde_json::from_str(&text).ok(), "{text}");
                }
            }
        }
        assert_eq!(read(br#"{"type":"conquer"}"#), None);
        assert_eq!(read(&alloc::vec![b' '; MESSAGE_BYTES_MAX + 1]), None);
    }

    #[test]
    fn writes_every_message_as_the_tracker_reads_it() {
        let resume = Resume { tracker: tracker().public(), nonce: [6; 16], session: SessionId([7; 16]) };
        let voucher = Voucher {
            tracker: tracker().public(),
            session: SessionId([7; 16]),
            edge: offer(4).id,
            stream: stream(),
            payable: 1,
            received: 2,
            segments: 3,
            rendition: RenditionId(0),
            number: 4,
        };
        let edge = EdgeBytes { edge: offer(4).id, received: 1 << 50, bad: 1, rtt_ms: 20, ready: true };
        let report = |edges| FromViewer::Report {
            buffer_ms: 1,
            latency_ms: 2,
            stalls: 3,
            stalled_ms: 4,
            origin_bytes: 1 << 52,
            edges,
        };
        let join = |ticket| FromViewer::Join { stream: stream(), key: viewer().public(), ticket };
        let messages = [
            join(None),
            join(Some("header.payload.signature".into())),
            FromViewer::Resume {
                certificate: certificate(),
                proof: Signed::new(resume, Context::None, &viewer()),
            },
            FromViewer::Renew { edge: offer(4).id },
            report(Vec::new()),
            report(Vec::from([edge.clone(), edge])),
            FromViewer::Voucher { voucher: Signed::new(voucher, Context::None, &viewer()) },
            FromViewer::Signal(Signal { peer: "a".into(), data: "\u{0}\"\\".into() }),
            FromViewer::Leave,
        ];
        for message in messages {
            let mut text = Vec::new();
            write(&message, &mut text);
            assert_eq!(serde_json::from_slice::<FromViewer>(&text).unwrap(), message);
        }
    }
}
