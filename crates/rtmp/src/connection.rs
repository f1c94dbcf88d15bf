//! One publisher's connection, from the first byte to the last.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use millstream_model::Instant;

use crate::{
    Frame, HANDSHAKE_BYTES, KeyError, Limits, Metadata, Setup, StreamKey, Track, amf0,
    chunk::{self, Message},
    command::{self, AMF_BYTES_MAX, Command, Enhanced, code, kind},
    handshake::{Handshake, Step},
    publish::{Publish, SETUP_BYTES_MAX},
    tag,
};

/// Bytes between acknowledgements until the peer says otherwise; what encoders announce themselves.
const ACK_BYTES_INITIAL: u32 = 2_500_000;

/// Message streams a connection is given numbers for; it needs one.
const MESSAGE_STREAMS_MAX: u32 = 16;

/// Bytes kept of a peer that goes on talking while its key is checked. Encoders wait for the answer.
const ASKING_BYTES_MAX: usize = 32 * 1024;

/// Bytes in a description we send to a peer; some clients keep it in a small buffer.
const DESCRIPTION_BYTES_MAX: usize = 512;

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The only application there is: the first part of the URL's path.
    pub app: String,
    /// From the first byte to a publish request, at most.
    pub handshake_timeout: Duration,
    /// A publisher from whom nothing comes for so long is gone.
    pub idle_timeout: Duration,
    /// Bounds until the key was found good.
    pub unadmitted: Limits,
    /// Bounds from then on.
    pub admitted: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            app: "live".to_owned(),
            // A handshake over a 600 ms satellite link takes five round trips.
            handshake_timeout: Duration::from_secs(10),
            // Encoders send sound every 23 ms; a mobile uplink may pause for seconds.
            idle_timeout: Duration::from_secs(15),
            unadmitted: Limits::UNADMITTED,
            admitted: Limits::ADMITTED,
        }
    }
}

impl Config {
    /// The bound on [`Connection::held_bytes`] of a connection that was not admitted, given the most bytes that
    /// one [`Input::Received`] carries.
    #[must_use]
    pub fn unadmitted_bytes_max(&self, received_bytes_max: usize) -> usize {
        bytes_max(self.unadmitted, received_bytes_max)
    }

    /// The same for a publisher that was admitted.
    #[must_use]
    pub fn admitted_bytes_max(&self, received_bytes_max: usize) -> usize {
        // An aggregate that is being read is complete, and other messages may be unfinished beside it.
        bytes_max(self.admitted, received_bytes_max) + self.admitted.message_bytes_max + 2 * SETUP_BYTES_MAX
    }
}

/// What goes in.
#[derive(Debug)]
pub enum Input {
    /// Bytes from the peer. Poll until `None` before handing in more, and hand in none while a key is checked.
    Received(Bytes),
    /// The key of [`Output::Publish`] was good.
    Admitted,
    /// It was not, or something else speaks against this publish. The peer is told the text.
    Refused(String),
    /// We want to end it, whatever it does. The peer is told the text.
    Stop(String),
    /// The time of [`Connection::deadline`] has come.
    Tick,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Write these to the peer.
    Send(Bytes),
    /// The peer wants to publish with this key; nothing more is read until [`Input::Admitted`] or
    /// [`Input::Refused`].
    Publish {
        /// Its stream key: check it, never print it.
        key: StreamKey,
    },
    /// A track's set-up, new or changed.
    Config(Setup),
    /// A frame of a track that has its set-up.
    Frame(Frame),
    /// There is another track of this kind than the first, which is left out. Said once for each kind.
    OtherTrack(Track),
    /// What the encoder says of itself.
    Metadata(Metadata),
    /// The connection is over: write what was to be sent before, then close it. Nothing follows.
    Close {
        /// Why.
        reason: Reason,
    },
}

/// Why a connection is over. None of them holds a key or a text of the peer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The publisher said that it is done.
    #[error("the publisher ended it")]
    Unpublished,
    /// The first byte was not RTMP's.
    #[error("the peer does not speak RTMP (its first byte is {0:#04x})")]
    NotRtmp(u8),
    /// Its chunk stream is broken or passes a bound.
    #[error("{0}")]
    Chunk(#[from] chunk::Error),
    /// A command is broken or passes a bound.
    #[error("a command cannot be read: {0}")]
    Amf(#[from] amf0::Error),
    /// A command of more than 64 KiB.
    #[error("a command of {0} bytes is longer than is allowed")]
    LongCommand(usize),
    /// A codec that is not taken, or a broken set-up.
    #[error("{0}")]
    Tag(#[from] tag::Error),
    /// Another application than ours; what it was is left out, for people put their key there.
    #[error("publishers use rtmp://host/{0}/<stream key>, this one named another application")]
    App(String),
    /// What stands where the key belongs is no key.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// A player.
    #[error("this server takes publishers only; watch over HTTP")]
    Play,
    /// A command where it makes no sense.
    #[error("{0} is out of order")]
    Order(&'static str),
    /// [`Input::Refused`].
    #[error("refused: {0}")]
    Refused(String),
    /// [`Input::Stop`].
    #[error("stopped: {0}")]
    Stopped(String),
    /// No publish request within [`Config::handshake_timeout`].
    #[error("no publish request within {} ms", .0.as_millis())]
    Slow(Duration),
    /// Nothing came for [`Config::idle_timeout`].
    #[error("nothing came for {} ms", .0.as_millis())]
    Idle(Duration),
}

/// One connection's state. See the head of the crate for the conversation.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    stage: Stage,
    /// Received, not yet read.
    input: Bytes,
    reader: chunk::Reader,
    send: Vec<u8>,
    outputs: VecDeque<Output>,
    streams: u32,
    /// The message stream of the publish.
    stream: u32,
    received_bytes: u32,
    acknowledged_bytes: u32,
    ack_every_bytes: u32,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    Handshake(Handshake),
    /// Wants `connect`.
    Greeted,
    /// Wants `publish`.
    Connected,
    /// Somebody checks the key.
    Asking,
    Publishing(Publish),
    Closed,
}

impl Connection {
    /// A connection that was just accepted. `seed` should differ between connections; it is no secret.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        Self {
            stage: Stage::Handshake(Handshake::new(seed)),
            input: Bytes::new(),
            reader: chunk::Reader::new(config.unadmitted),
            send: Vec::new(),
            outputs: VecDeque::new(),
            streams: 0,
            stream: 0,
            received_bytes: 0,
            acknowledged_bytes: 0,
            ack_every_bytes: ACK_BYTES_INITIAL,
            deadline: Some(now + config.handshake_timeout),
            config,
        }
    }

    /// Takes an input in. Then poll until `None`.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match (input, &self.stage) {
            (_, Stage::Closed) => {}
            (Input::Received(bytes), _) => {
                self.received(bytes, now);
                self.check_deadline(now);
            }
            (Input::Admitted, Stage::Asking) => {
                self.reader.set_limits(self.config.admitted);
                self.stage = Stage::Publishing(Publish::default());
                self.deadline = Some(now + self.config.idle_timeout);
                command::write_started(self.stream, &mut self.send);
            }
            (Input::Refused(description), Stage::Asking) => self.refuse(Reason::Refused(description)),
            (Input::Stop(description), _) => self.refuse(Reason::Stopped(description)),
            (Input::Tick, _) => self.check_deadline(now),
            (Input::Admitted | Input::Refused(_), _) => {}
        }
    }

    /// The next thing to do; `None` when more input is wanted. Received bytes are read as this is called, so
    /// whoever stops polling stops the publisher.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if !self.send.is_empty() {
                return Some(Output::Send(Bytes::from(std::mem::take(&mut self.send))));
            }
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => {
                    // Not a slice of what was handed in: that would keep the whole read buffer alive.
                    self.input = Bytes::copy_from_slice(&self.input);
                    return None;
                }
                Err(reason) => self.refuse(reason),
            }
        }
    }

    /// When [`Input::Tick`] is due, unless something comes before. `None` while a key is checked.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Bytes held for this connection: never more than [`Config::unadmitted_bytes_max`] before its key was found
    /// good, and [`Config::admitted_bytes_max`] after.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let stage = match &self.stage {
            Stage::Handshake(handshake) => handshake.held_bytes(),
            Stage::Publishing(publish) => publish.held_bytes(),
            Stage::Greeted | Stage::Connected | Stage::Asking | Stage::Closed => 0,
        };
        let outputs = self.outputs.capacity() * size_of::<Output>();
        size_of::<Self>()
            + stage
            + outputs
            + self.input.len()
            + self.send.capacity()
            + self.reader.held_bytes()
    }

    fn received(&mut self, bytes: Bytes, now: Instant) {
        self.received_bytes =
            self.received_bytes.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.input = if self.input.is_empty() { bytes } else { [&self.input[..], &bytes].concat().into() };
        if matches!(self.stage, Stage::Asking) && self.input.len() > ASKING_BYTES_MAX {
            return self.refuse(Reason::Order("media before the publish was answered"));
        }
        if matches!(self.stage, Stage::Publishing(_)) {
            self.deadline = Some(now + self.config.idle_timeout);
        }
        let since = self.received_bytes.wrapping_sub(self.acknowledged_bytes);
        if since >= self.ack_every_bytes && matches!(self.stage, Stage::Connected | Stage::Publishing(_)) {
            self.acknowledged_bytes = self.received_bytes;
            command::write_acknowledgement(self.received_bytes, &mut self.send);
        }
    }

    fn check_deadline(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.refuse(match self.stage {
                Stage::Publishing(_) => Reason::Idle(self.config.idle_timeout),
                _ => Reason::Slow(self.config.handshake_timeout),
            });
        }
    }

    /// Reads on; false when more input is wanted first.
    fn step(&mut self) -> Result<bool, Reason> {
        match &mut self.stage {
            Stage::Closed | Stage::Asking => Ok(false),
            Stage::Handshake(handshake) => match handshake.step(&mut self.input, &mut self.send) {
                Step::Done => {
                    self.stage = Stage::Greeted;
                    Ok(true)
                }
                Step::More => Ok(!self.send.is_empty()),
                Step::NotRtmp(byte) => Err(Reason::NotRtmp(byte)),
            },
            Stage::Publishing(publish) => {
                if let Some(output) = publish.next()? {
                    self.outputs.push_back(output);
                    return Ok(true);
                }
                self.step_message()
            }
            Stage::Greeted | Stage::Connected => self.step_message(),
        }
    }

    fn step_message(&mut self) -> Result<bool, Reason> {
        let Some(message) = self.reader.step(&mut self.input)? else { return Ok(false) };
        match message.kind {
            kind::SET_CHUNK_SIZE | kind::ABORT | kind::WINDOW_SIZE | kind::USER_CONTROL => {
                self.control(&message)?;
            }
            kind::COMMAND => self.command(&message.body)?,
            // AMF3 commands are AMF0 after one byte.
            kind::COMMAND_AMF3 => self.command(message.body.get(1..).unwrap_or_default())?,
            _ => {
                if let Stage::Publishing(publish) = &mut self.stage {
                    self.outputs.extend(publish.message(&message)?);
                }
            }
        }
        Ok(true)
    }

    fn control(&mut self, message: &Message) -> Result<(), Reason> {
        let word = |at: usize| message.body.get(at..at + 4)?.try_into().ok();
        match message.kind {
            kind::USER_CONTROL => {
                if let (Some(&[0, 6]), Some(time)) = (message.body.get(..2), word(2)) {
                    command::write_pong(time, &mut self.send);
                }
            }
            kind::SET_CHUNK_SIZE => {
                self.reader.set_chunk_bytes(word(0).map_or(0, u32::from_be_bytes))?;
            }
            kind::ABORT => self.reader.abort(word(0).map_or(0, u32::from_be_bytes)),
            _ => self.ack_every_bytes = word(0).map_or(0, u32::from_be_bytes).max(1),
        }
        Ok(())
    }

    fn command(&mut self, body: &[u8]) -> Result<(), Reason> {
        if body.len() > AMF_BYTES_MAX {
            return Err(Reason::LongCommand(body.len()));
        }
        match (command::parse(body)?, &self.stage) {
            (Command::Connect { transaction, app, enhanced }, Stage::Greeted) => {
                self.connect(transaction, app.as_deref(), enhanced)
            }
            (Command::Connect { .. }, _) => Err(Reason::Order("connect")),
            (_, Stage::Greeted) => Err(Reason::Order("a command before connect")),
            (Command::CreateStream { transaction }, _) => {
                self.streams = (self.streams + 1).min(MESSAGE_STREAMS_MAX);
                self.stream = self.streams;
                command::write_created(transaction, self.streams, &mut self.send);
                Ok(())
            }
            (Command::Publish { name }, Stage::Connected) => {
                let key = StreamKey::parse(name.as_deref().unwrap_or_default())?;
                self.stage = Stage::Asking;
                self.deadline = None;
                self.outputs.push_back(Output::Publish { key });
                Ok(())
            }
            (Command::Publish { .. }, _) => Err(Reason::Order("a second publish")),
            (Command::Play, _) => Err(Reason::Play),
            (Command::Finish, Stage::Publishing(_)) => Err(Reason::Unpublished),
            (Command::Courtesy { transaction }, _) => {
                command::write_courtesy(transaction, &mut self.send);
                Ok(())
            }
            (Command::Finish | Command::Other, _) => Ok(()),
        }
    }

    fn connect(&mut self, transaction: f64, app: Option<&str>, enhanced: Enhanced) -> Result<(), Reason> {
        // Some encoders leave the slash or parameters of the URL in the name.
        let app = app.unwrap_or_default().split('?').next().unwrap_or_default().trim_matches('/');
        if app != self.config.app {
            let reason = Reason::App(self.config.app.clone());
            command::write_wrong_app(transaction, &reason.to_string(), &mut self.send);
            return Err(reason);
        }
        command::write_connected(transaction, enhanced, &mut self.send);
        self.stage = Stage::Connected;
        Ok(())
    }

    /// Ends the connection, tells the peer why where it can understand, and gives back what was held.
    fn refuse(&mut self, reason: Reason) {
        let (level, code) = match &reason {
            Reason::Unpublished => ("status", code::ENDED),
            Reason::Play => ("error", code::NO_PLAY),
            Reason::Refused(_) | Reason::Key(_) => ("error", code::REFUSED),
            _ => ("error", code::FAILED),
        };
        if matches!(self.stage, Stage::Connected | Stage::Asking | Stage::Publishing(_)) {
            let mut description = match &reason {
                Reason::Refused(description) | Reason::Stopped(description) => description.clone(),
                other => other.to_string(),
            };
            description.truncate(description.floor_char_boundary(DESCRIPTION_BYTES_MAX));
            command::write_status(self.stream, level, code, &description, &mut self.send);
        }
        self.stage = Stage::Closed;
        self.input = Bytes::new();
        self.reader = chunk::Reader::new(self.config.unadmitted);
        self.deadline = None;
        self.outputs.push_back(Output::Close { reason });
    }
}

/// Everything a connection may hold: unfinished messages, the headers of its chunk streams (a table that doubles),
/// what was handed in, and `FIXED_BYTES` for its own fields and an answer on its way out.
fn bytes_max(limits: Limits, received_bytes_max: usize) -> usize {
    const CHUNK_STREAM_BYTES: usize = 2 * 80;
    const FIXED_BYTES: usize = 4 * 1024 + 3 * HANDSHAKE_BYTES;
    limits.unfinished_bytes_max
        + limits.chunk_streams_max * CHUNK_STREAM_BYTES
        + received_bytes_max.max(ASKING_BYTES_MAX)
        + FIXED_BYTES
}
