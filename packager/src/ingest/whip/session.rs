//! One publisher: drives its WebRTC connection, and makes samples of its packets.
//!
//! What never belongs here: HTTP, who may publish.

use std::{
    sync::Arc,
    time::{Duration, Instant as StdInstant, SystemTime},
};

use bytes::Bytes;
use millstream_model::Instant;
use millstream_segmenter::{Sample, TrackConfig, TrackKind};
use millstream_service::tasks::Drain;
use str0m::{
    Event as PeerEvent, Input, Output,
    media::KeyframeRequestKind,
    net::{Protocol, Receive},
    rtp::{RtpPacket, Ssrc},
};
use tokio::{
    sync::Notify,
    time::{sleep_until, timeout},
};
use tracing::{debug, warn};

use super::{
    Config,
    clock::{self, Clock, Report},
    h264::Assembler,
    order::{InLine, Order},
    peer::Peer,
    router::{Datagram, Line},
};
use crate::ingest::{Event, Gone, reception::Seated, seat::Seat};

/// Datagrams taken in before anything else is looked at.
const BATCH_MAX: usize = 64;

/// How long samples may wait for room before their publisher is ended: UDP cannot be held back, and what is dropped
/// meanwhile is lost.
const STUCK: Duration = Duration::from_secs(5);

/// How often a keyframe is asked for while there is none.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Pictures that go back in time by less than this are B-frames; by more, the clock was set anew.
const REORDER_MS_MAX: i64 = 1_000;

/// A header for Opus as WebRTC has it, always two channels of 48 kHz (RFC 7587 §7, RFC 7845 §5.1). Nothing is to be left
/// out at the start: nobody hears the start of an encoder here.
const OPUS_HEAD: &[u8] =
    &[b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', 1, 2, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0];

/// One publisher's task.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) line: Line,
    pub(super) seated: Seated,
    pub(super) seat: Seat,
    pub(super) config: Config,
    /// Told when the publisher said by HTTP that it ends.
    pub(super) end: Arc<Notify>,
}

/// What a session remembers of its publisher.
struct State {
    start: StdInstant,
    connected: bool,
    heard: StdInstant,
    media: StdInstant,
    clock: Clock,
    video: Video,
    audio: Audio,
}

#[derive(Default)]
struct Video {
    source: Option<Ssrc>,
    order: Order<Packet>,
    assembler: Assembler,
    arrived: Option<(u64, Instant)>,
    keyframe: Option<StdInstant>,
    asked: Option<StdInstant>,
    last_ms: Option<i64>,
}

#[derive(Default)]
struct Audio {
    source: Option<Ssrc>,
    order: Order<Packet>,
    has_config: bool,
}

/// What is kept of a packet.
#[derive(Debug)]
struct Packet {
    time: u64,
    frequency: u64,
    is_last: bool,
    arrived: Instant,
    report: Option<Report>,
    payload: Arc<[u8]>,
}

impl Session {
    /// Lives until the publisher is gone.
    pub(super) async fn run(mut self, drain: Drain) {
        let now = StdInstant::now();
        let mut state = State {
            start: now,
            connected: false,
            heard: now,
            media: now,
            clock: Clock::default(),
            video: Video::default(),
            audio: Audio::default(),
        };
        let gone = self.serve(&mut state, &drain).await;
        self.farewell().await;
        let Self { seated, line, seat, .. } = self;
        // All that is this publisher's is given back before anybody learns that it is gone: it may be waiting to return.
        drop((line, seat));
        seated.end(gone);
    }

    async fn serve(&mut self, state: &mut State, drain: &Drain) -> Gone {
        loop {
            let due = match self.settle(state).await {
                Ok(due) => due,
                Err(gone) => return gone,
            };
            let due = match self.judge(state) {
                Ok(limit) => due.min(limit),
                Err(gone) => return gone,
            };
            let received = tokio::select! {
                biased;
                () = drain.begun() => return Gone::Stopped,
                () = self.end.notified() => return Gone::Ended,
                () = self.seated.abandoned() => return Gone::Stopped,
                received = self.line.recv() => received,
                () = sleep_until(due.into()) => None,
            };
            let taken = match received {
                Some(datagram) => self.take(datagram, state).await,
                None => self.peer.rtc.handle_input(Input::Timeout(StdInstant::now())).map_err(broken),
            };
            if let Err(gone) = taken {
                return gone;
            }
        }
    }

    /// Feeds a datagram, and those behind it, to the connection.
    async fn take(&mut self, first: Datagram, state: &mut State) -> Result<(), Gone> {
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some((from, datagram)) = next else { break };
            let now = StdInstant::now();
            let to = self.peer.local_for(from);
            if let Ok(receive) = Receive::new(Protocol::Udp, from, to, &datagram) {
                let input = Input::Receive(now, receive);
                if self.peer.rtc.accepts(&input) {
                    self.line.heard(from);
                    state.heard = now;
                    self.peer.rtc.handle_input(input).map_err(broken)?;
                    // The connection wants to be asked after each.
                    self.settle(state).await?;
                }
            }
            next = self.line.try_recv();
        }
        Ok(())
    }

    /// Does what the connection says until it says nothing more, and passes on what is whole. Gives when it wants to be
    /// asked again.
    async fn settle(&mut self, state: &mut State) -> Result<StdInstant, Gone> {
        let due = loop {
            match self.peer.rtc.poll_output().map_err(broken)? {
                Output::Timeout(_) if !self.peer.rtc.is_alive() => return Err(Gone::Ended),
                Output::Timeout(due) => break due,
                Output::Transmit(transmit) => self.line.send(transmit.destination, &transmit.contents).await,
                Output::Event(PeerEvent::Connected) => state.connected = true,
                Output::Event(PeerEvent::RtpPacket(packet)) => self.sort(packet, state),
                Output::Event(event) => debug!(?event, "webrtc"),
            }
        };
        self.pass_video(state).await?;
        self.pass_audio(state).await?;
        let waits = [state.video.order.deadline(), state.audio.order.deadline()];
        let waits = waits.into_iter().flatten().map(|wait| state.start + wait.since(Instant(0)));
        Ok(waits.fold(due, StdInstant::min))
    }

    /// Puts a packet into its track's line.
    fn sort(&mut self, packet: RtpPacket, state: &mut State) {
        let Some(&(kind, _)) = self.peer.formats.get(&packet.header.payload_type) else { return };
        let source = match kind {
            TrackKind::Video => &mut state.video.source,
            TrackKind::Audio => &mut state.audio.source,
        };
        let ssrc = packet.header.ssrc;
        if source.is_none() {
            *source = Some(ssrc);
            if kind == TrackKind::Video
                && let Some(stream) = self.peer.rtc.direct_api().stream_rx(&ssrc)
            {
                // Also of publishers that send lost packets again as they were, not in a stream of their own.
                stream.suppress_nack(false);
            }
        }
        // Of several encodings of the same (simulcast) the first.
        if *source != Some(ssrc) {
            return;
        }
        state.media = packet.timestamp;
        let number = *packet.seq_no;
        let packet = Packet::of(packet, state.start);
        match kind {
            TrackKind::Video => state.video.order.handle(number, packet),
            TrackKind::Audio => state.audio.order.handle(number, packet),
        }
    }

    async fn pass_video(&mut self, state: &mut State) -> Result<(), Gone> {
        let video = &mut state.video;
        while let Some(InLine { packet, after_loss }) = video.order.poll(micros_since(state.start)) {
            if video.arrived.is_none_or(|(time, _)| time != packet.time) {
                video.arrived = Some((packet.time, packet.arrived));
            }
            video.assembler.handle(&packet.payload, packet.time, packet.is_last, after_loss);
            while let Some(unit) = video.assembler.poll() {
                let arrived = video.arrived.map_or(packet.arrived, |(_, arrived)| arrived);
                let count = clock::micros(unit.time, packet.frequency);
                let dts_ms = state.clock.place(TrackKind::Video, count, arrived, packet.report);
                let back = video.last_ms.map_or(0, |last| last.saturating_sub(dts_ms));
                if (1..REORDER_MS_MAX).contains(&back) {
                    return Err(Gone::Broken(String::from(
                        "pictures come out of line: set B-frames to 0 in the encoder, for WebRTC has no decode times",
                    )));
                }
                video.last_ms = Some(dts_ms);
                if unit.keyframe {
                    video.keyframe = Some(StdInstant::now());
                }
                if let Some(record) = unit.config {
                    send(&self.seated, Event::Config(TrackConfig::H264(record))).await?;
                }
                let (track, keyframe) = (TrackKind::Video, unit.keyframe);
                let sample = Sample { track, dts_ms, cts_ms: 0, keyframe, data: unit.data };
                send(&self.seated, Event::Sample(sample)).await?;
            }
        }
        Ok(())
    }

    async fn pass_audio(&mut self, state: &mut State) -> Result<(), Gone> {
        let audio = &mut state.audio;
        while let Some(InLine { packet, .. }) = audio.order.poll(micros_since(state.start)) {
            // Some send an empty one to keep a router's door open.
            if packet.payload.is_empty() {
                continue;
            }
            if !audio.has_config {
                let head = TrackConfig::Opus(Bytes::from_static(OPUS_HEAD));
                send(&self.seated, Event::Config(head)).await?;
                audio.has_config = true;
            }
            let count = clock::micros(packet.time, packet.frequency);
            let dts_ms = state.clock.place(TrackKind::Audio, count, packet.arrived, packet.report);
            let data = Bytes::copy_from_slice(&packet.payload);
            let sample = Sample { track: TrackKind::Audio, dts_ms, cts_ms: 0, keyframe: true, data };
            send(&self.seated, Event::Sample(sample)).await?;
        }
        Ok(())
    }

    /// Whether its time is over; else when to look again. Asks for a keyframe where one is due.
    fn judge(&mut self, state: &mut State) -> Result<StdInstant, Gone> {
        let now = StdInstant::now();
        let limit = |since: StdInstant, millis: u64| since + Duration::from_millis(millis);
        let silent = limit(state.heard, self.config.idle_timeout_ms);
        let mut due = if state.connected {
            let idle = limit(state.media, self.config.media_timeout_ms);
            if idle <= now {
                let seconds = self.config.media_timeout_ms / 1_000;
                return Err(Gone::Broken(format!("neither H.264 nor Opus came for {seconds} s")));
            }
            if silent <= now {
                return Err(Gone::Lost);
            }
            silent.min(idle)
        } else {
            let connect = limit(state.start, self.config.connect_timeout_ms);
            if connect <= now {
                return Err(Gone::Broken(String::from(
                    "no connection came about; is the UDP port of `whip.media` open, and are `whip.public_addresses` right?",
                )));
            }
            connect
        };
        let Some(source) = state.video.source else { return Ok(due) };
        let old = state.video.keyframe.map(|keyframe| limit(keyframe, self.config.keyframe_every_ms));
        let old = if state.video.assembler.wants_keyframe() { None } else { old };
        let ask = old.unwrap_or(now).max(state.video.asked.map_or(now, |asked| asked + ASK_AGAIN));
        if ask > now {
            due = due.min(ask);
        } else if let Some(stream) = self.peer.rtc.direct_api().stream_rx(&source) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            state.video.asked = Some(now);
            // It is sent when the connection is asked next.
            due = now;
        }
        Ok(due)
    }

    async fn farewell(&mut self) {
        // A connection that never was one has nobody to say it to.
        if self.peer.rtc.close().is_err() {
            return;
        }
        loop {
            match self.peer.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    self.line.send(transmit.destination, &transmit.contents).await;
                }
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(_)) | Err(_) => return,
            }
        }
    }
}

impl Packet {
    fn of(packet: RtpPacket, start: StdInstant) -> Self {
        let frequency = u64::from(packet.time.frequency().get());
        let report = packet.last_sender_info.and_then(|info| {
            let wall = info.ntp_time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            // Both are extended from 32 bits, each by itself: only how far they are apart is to be believed.
            let low = |count: u64| u32::try_from(count & u64::from(u32::MAX)).unwrap_or(0);
            let ahead = low(info.rtp_time.numer()).wrapping_sub(low(packet.time.numer())).cast_signed();
            let count = packet.time.numer().checked_add_signed(ahead.into())?;
            let count_micros = clock::micros(count, frequency);
            Some(Report { wall_micros: i64::try_from(wall.as_micros()).ok()?, count_micros })
        });
        Self {
            time: packet.time.numer(),
            frequency,
            is_last: packet.header.marker,
            arrived: Instant(0) + packet.timestamp.saturating_duration_since(start),
            report,
            payload: packet.payload,
        }
    }
}

/// Waits for room, but not for ever.
async fn send(seated: &Seated, event: Event) -> Result<(), Gone> {
    match timeout(STUCK, seated.send(event)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Gone::Stopped),
        Err(_) => {
            warn!("a WHIP publisher is ended, for its samples are not taken as fast as it sends them");
            Err(Gone::Broken(String::from("its samples were not taken as fast as it sent them")))
        }
    }
}

fn micros_since(start: StdInstant) -> Instant {
    Instant(0) + start.elapsed()
}

fn broken(error: impl std::fmt::Display) -> Gone {
    Gone::Broken(format!("its connection broke: {error}"))
}
