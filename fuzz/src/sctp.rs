//! SCTP packets and data channel messages, as a peer inside DTLS can send them.

use millstream_sctp::{
    dcep::{LABEL_BYTES_MAX, Message, PROTOCOL_BYTES_MAX, Reliability},
    wire::{COMMON_HEADER_BYTES, Chunk, Init, InitFields, Malformed, Packet, Reset, Sequence, Writer},
};

/// A packet as it stands; then taken without its checksum, written again and read again: it means the same.
pub(crate) fn packet(data: &[u8]) {
    if let Ok(packet) = Packet::parse(data, false) {
        assert_eq!(Ok(packet), Packet::parse(data, true), "the right checksum is always right");
    }
    let mut unseen = data.to_vec();
    if let Some(checksum) = unseen.get_mut(8..12) {
        checksum.fill(0);
    }
    let Ok(packet) = Packet::parse(&unseen, true) else {
        assert!(data.len() < COMMON_HEADER_BYTES);
        return;
    };
    let mut chunks: Vec<_> = packet.chunks().collect();
    assert!(chunks.len() <= data.len().div_ceil(4), "{} chunks", chunks.len());
    let malformed = chunks.iter().position(Result::is_err);
    assert!(malformed.is_none_or(|at| at + 1 == chunks.len()), "nothing comes behind what is malformed");
    if let Some(Err(Malformed::EmptyData { tsn })) = chunks.last() {
        assert!(unseen.windows(4).any(|window| window == tsn.to_be_bytes()));
    }
    chunks.retain(Result::is_ok);
    let chunks: Vec<Chunk<'_>> = chunks.into_iter().map(Result::unwrap).collect();

    let again = written(&packet, &chunks);
    let reread = Packet::parse(&again, false).unwrap();
    assert_eq!(
        (reread.source_port, reread.destination_port, reread.tag),
        (packet.source_port, packet.destination_port, packet.tag)
    );
    let rechunks: Vec<Chunk<'_>> = reread.chunks().map(Result::unwrap).collect();
    assert_eq!(meanings(&rechunks), meanings(&chunks));
    assert_eq!(written(&reread, &rechunks), again, "what we write has one form");
}

/// Everything of it that we could have sent.
fn written(packet: &Packet<'_>, chunks: &[Chunk<'_>]) -> Vec<u8> {
    // Unaligned on purpose: packets stand in their buffer behind others of any length.
    let mut out = vec![0xff; 5];
    let mut writer = Writer::begin(&mut out, packet.source_port, packet.destination_port, packet.tag);
    for chunk in chunks {
        write(&mut writer, chunk);
        assert!(writer.len().is_multiple_of(4));
    }
    writer.finish(true);
    out.split_off(5)
}

fn write(writer: &mut Writer<'_>, chunk: &Chunk<'_>) {
    match chunk {
        Chunk::Data(data) => writer.data(data),
        Chunk::Init(init) => writer.init(&fields(init), init.cookie(), false),
        Chunk::InitAck(init) => writer.init(&fields(init), init.cookie(), true),
        Chunk::Sack(sack) => {
            writer.sack(sack.cumulative, sack.window, sack.gaps(), &vec![7; sack.duplicates()]);
        }
        Chunk::Heartbeat(content) => writer.heartbeat(content),
        Chunk::HeartbeatAck(content) => writer.heartbeat_ack(content),
        Chunk::Abort { cause: Some(cause), is_reflected: false } => writer.abort(cause.code, cause.value),
        Chunk::Abort { cause: Some(cause), is_reflected: true } => {
            writer.abort_reflected(cause.code, cause.value);
        }
        Chunk::Error { cause: Some(cause) } => writer.error(cause.code, cause.value),
        Chunk::Shutdown(tsn) => writer.shutdown(*tsn),
        Chunk::ShutdownAck => writer.shutdown_ack(),
        Chunk::ShutdownComplete { is_reflected } => writer.shutdown_complete(*is_reflected),
        Chunk::CookieEcho(cookie) => writer.cookie_echo(cookie),
        Chunk::CookieAck => writer.cookie_ack(),
        Chunk::ForwardTsn(forward) => {
            let plain = forward.skipped().filter_map(|skipped| match skipped.sequence {
                Sequence::Ssn(ssn) => Some((skipped.stream, ssn)),
                Sequence::Mid { .. } => None,
            });
            let interleaved = forward.skipped().filter_map(|skipped| match skipped.sequence {
                Sequence::Mid { mid, .. } => Some((skipped.stream, skipped.is_unordered, mid)),
                Sequence::Ssn(_) => None,
            });
            if forward.is_interleaved {
                assert_eq!(plain.count(), 0);
                writer.i_forward_tsn(forward.cumulative, interleaved);
            } else {
                assert_eq!(interleaved.count(), 0);
                writer.forward_tsn(forward.cumulative, plain);
            }
        }
        Chunk::Reconfig(reconfig) => {
            for reset in reconfig.parameters() {
                match reset {
                    Reset::Outgoing { request, response, last_tsn, streams } => {
                        writer.reset_request(request, response, last_tsn, streams);
                    }
                    Reset::Response { sequence, result } => writer.reset_response(sequence, result),
                    Reset::Unsupported { .. } => {}
                }
            }
        }
        Chunk::Pad => writer.pad(8),
        Chunk::Abort { cause: None, .. } | Chunk::Error { cause: None } | Chunk::Unknown(_) => {}
    }
}

fn fields(init: &Init<'_>) -> InitFields<'static> {
    let reported: usize = init.unrecognised().map(<[u8]>::len).sum();
    assert!(reported <= 256, "an answer would be {reported} bytes longer");
    InitFields {
        tag: init.tag,
        window: init.window,
        outbound: init.outbound,
        inbound: init.inbound,
        tsn: init.tsn,
        supports_interleaving: init.supports_interleaving(),
        supports_reset: init.supports_reset(),
        supports_forward_tsn: init.supports_forward_tsn(),
        zero_checksum: init.zero_checksum(),
        unrecognised: Default::default(),
    }
}

/// What chunks say, without the bytes in which they happen to say it and without what we never send.
fn meanings(chunks: &[Chunk<'_>]) -> Vec<String> {
    let mut meanings = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Init(init) => meanings.push(format!("INIT {:?} {:?}", fields(init), init.cookie())),
            Chunk::InitAck(init) => meanings.push(format!("INIT ACK {:?} {:?}", fields(init), init.cookie())),
            Chunk::Sack(sack) => {
                let gaps: Vec<(u16, u16)> = sack.gaps().collect();
                assert!(gaps.iter().all(|(start, end)| start <= end && *start > 0));
                assert!(gaps.windows(2).all(|pair| pair[0].1 < pair[1].0), "{gaps:?}");
                assert_eq!(sack.gap_bytes().len(), gaps.len() * 4);
                meanings.push(format!(
                    "SACK {} {} {gaps:?} {}",
                    sack.cumulative,
                    sack.window,
                    sack.duplicates()
                ));
            }
            Chunk::ForwardTsn(forward) => {
                let skipped: Vec<_> = forward.skipped().collect();
                meanings.push(format!("FORWARD {} {skipped:?}", forward.cumulative));
            }
            Chunk::Reconfig(reconfig) => {
                assert!((1..=2).contains(&reconfig.parameters().count()));
                for reset in reconfig.parameters() {
                    match reset {
                        Reset::Outgoing { streams, .. } => {
                            meanings.push(format!("{reset:?} {:?}", streams.collect::<Vec<_>>()));
                        }
                        Reset::Response { .. } => meanings.push(format!("{reset:?}")),
                        Reset::Unsupported { .. } => {}
                    }
                }
            }
            Chunk::Abort { cause: None, .. } | Chunk::Error { cause: None } => {}
            Chunk::Unknown(unknown) => {
                assert!(unknown.whole.first() == Some(&unknown.kind) && unknown.whole.len() >= 4);
            }
            Chunk::Data(data) => {
                assert!(!data.payload.is_empty());
                meanings.push(format!("{data:?}"));
            }
            _ => meanings.push(format!("{chunk:?}")),
        }
    }
    meanings
}

/// A message about a channel: bounded, and written with the same bytes, but for those that it says mean nothing.
pub(crate) fn dcep(data: &[u8]) {
    let message = match Message::parse(data) {
        Ok(message) => message,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut again = Vec::new();
    message.write(&mut again).unwrap();
    assert_eq!(Message::parse(&again), Ok(message));
    match message {
        Message::Ack => assert_eq!(again, data[..1]),
        Message::Open(open) => {
            assert!(open.label.len() <= LABEL_BYTES_MAX && open.protocol.len() <= PROTOCOL_BYTES_MAX);
            let mut said = data.to_vec();
            if open.reliability == Reliability::Reliable {
                said[4..8].fill(0);
            }
            assert_eq!(again, said);
        }
    }
}
