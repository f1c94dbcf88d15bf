//! Packets as lines, to read what happened: `SCTP_TRACE=1` prints each that leaves.

use std::fmt::Write as _;

use millstream_sctp::wire::{Chunk, Packet, Reset, Sequence};

/// What is in a packet.
pub(crate) fn line(bytes: &[u8]) -> String {
    let mut line = format!("{} B:", bytes.len());
    let Ok(packet) = Packet::parse(bytes, true) else { return line + " unreadable" };
    for chunk in packet.chunks() {
        line.push(' ');
        match chunk {
            Ok(chunk) => line += &word(&chunk),
            Err(error) => line += &format!("[{error}]"),
        }
    }
    line
}

fn word(chunk: &Chunk<'_>) -> String {
    match chunk {
        Chunk::Data(data) => {
            let flag = |is_set, letter| if is_set { letter } else { "" };
            let flags = [
                flag(data.begins, "B"),
                flag(data.ends, "E"),
                flag(data.is_unordered, "U"),
                flag(data.is_immediate, "I"),
            ];
            let place = match data.sequence {
                Sequence::Ssn(ssn) => format!("ssn {ssn}"),
                Sequence::Mid { mid, fsn } => format!("mid {mid}.{fsn}"),
            };
            format!("data({} s{} {place} {} {} B)", data.tsn, data.stream, flags.concat(), data.payload.len())
        }
        Chunk::Sack(sack) => {
            let mut gaps = String::new();
            for (from, to) in sack.gaps() {
                let _ = write!(gaps, " +{from}-{to}");
            }
            format!("sack({} window {}{gaps} dup {})", sack.cumulative, sack.window, sack.duplicates())
        }
        Chunk::ForwardTsn(forward) => {
            format!("forward({} {:?})", forward.cumulative, forward.skipped().collect::<Vec<_>>())
        }
        Chunk::Reconfig(reconfig) => format!(
            "reconfig({:?})",
            reconfig
                .parameters()
                .map(|parameter| match parameter {
                    Reset::Outgoing { request, response, last_tsn, streams } => {
                        format!(
                            "reset {request} answers {response} after {last_tsn}: {:?}",
                            streams.collect::<Vec<_>>()
                        )
                    }
                    other => format!("{other:?}"),
                })
                .collect::<Vec<_>>()
        ),
        Chunk::Init(init) => format!("init(tag {} tsn {} window {})", init.tag, init.tsn, init.window),
        Chunk::InitAck(init) => format!("init ack(tag {} tsn {} window {})", init.tag, init.tsn, init.window),
        Chunk::CookieEcho(_) => "cookie echo".into(),
        Chunk::Heartbeat(content) => format!("heartbeat({} B)", content.len()),
        Chunk::HeartbeatAck(content) => format!("heartbeat ack({} B)", content.len()),
        other => format!("{other:?}"),
    }
}
