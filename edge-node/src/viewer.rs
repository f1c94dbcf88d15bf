//! One viewer's connection: carries out what its lane says, and tells the lane what happened. Decides nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_datachannel::{Channel, Connection, SendError};
use millstream_lane::{
    Admission, Channel as LaneChannel, Credit, Found, Input, Lane, Local, Lookup, Output, Stats,
};
use millstream_model::{RenditionId, SessionId};
use millstream_service::tasks::Drain;
use millstream_wire::{
    frame::{Frame, Reason, Subscription},
    session::Grant,
    sign::Signer as _,
};

use crate::{
    edge::Shared,
    outgoing::Leaving,
    roster::Seat,
    store::{Entered, NoStream},
};

/// The refusal is sent, and then the connection closes; the transport gives it a moment by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is needed to let a viewer in.
type Admitted = Result<(Seat, Entered), (Reason, &'static str)>;

pub(crate) struct Viewer {
    shared: Arc<Shared>,
    connection: Connection,
    lane: Lane,
    session: Option<SessionId>,
    entered: Option<Entered>,
    seat: Option<Seat>,
    grant: Option<Box<Grant>>,
    /// The piece that the full transport did not take.
    pending: Option<Bytes>,
    /// The description's revision that the lane has.
    revision: u64,
    counted: Stats,
    closed: bool,
}

/// What woke the viewer's task.
enum Event {
    Message(Option<Bytes>),
    Sent(Result<(), SendError>),
    News,
    Reach,
    Admitted(Box<Admitted>),
    Claimed,
    Drain,
    Stop,
    Due,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, connection: Connection, drain: Drain) {
    let Some(tracker) = *shared.tracker.borrow() else {
        let text = String::from("this edge has not met its tracker yet");
        let refusal = Frame::Refuse { reason: Reason::Full, text }.encode();
        let _ = connection.try_send(Channel::Control, refusal);
        return connection.close();
    };
    let edge = shared.identity.key.public();
    let local = Local { edge, tracker, peer: connection.remote_fingerprint() };
    let lane = Lane::new(local, *shared.reach.borrow(), shared.clock.now(), shared.clock.wall());
    let mut viewer = Viewer {
        shared,
        connection,
        lane,
        session: None,
        entered: None,
        seat: None,
        grant: None,
        pending: None,
        revision: 0,
        counted: Stats::default(),
        closed: false,
    };
    viewer.run(&drain).await;
    viewer.leave();
    viewer.connection.close();
    let _ = tokio::time::timeout(FAREWELL, viewer.connection.closed()).await;
}

impl Viewer {
    async fn run(&mut self, drain: &Drain) {
        let shared = Arc::clone(&self.shared);
        let mut reach = shared.reach.subscribe();
        let mut opening = None;
        let mut stops = None;
        loop {
            if let Some(grant) = self.work_off() {
                opening = Some(Box::pin(open(Arc::clone(&shared), grant)));
            }
            self.count();
            if self.closed {
                return;
            }
            let due = self.lane.deadline().map(|at| shared.clock.at(at));
            let event = tokio::select! {
                message = self.connection.recv() => Event::Message(message.map(|message| message.bytes)),
                sent = send(&self.connection, self.pending.as_ref()) => Event::Sent(sent),
                () = news(self.entered.as_mut()) => Event::News,
                admitted = wait(opening.as_mut()) => Event::Admitted(Box::new(admitted)),
                () = claimed(self.seat.as_mut()) => Event::Claimed,
                Ok(()) = reach.changed() => Event::Reach,
                () = drain.begun(), if stops.is_none() => Event::Drain,
                () = sleep_until(stops) => Event::Stop,
                () = sleep_until(due) => Event::Due,
            };
            match event {
                Event::Message(Some(message)) => self.tell(Input::Message(message)),
                Event::Message(None) | Event::Sent(Err(_)) => return,
                Event::Sent(Ok(())) => {
                    self.pending = None;
                    self.tell(Input::Writable);
                }
                Event::News => self.news(),
                Event::Reach => {
                    let reach = *reach.borrow_and_update();
                    self.tell(Input::Tracker(reach));
                }
                Event::Admitted(admitted) => {
                    opening = None;
                    self.admit(*admitted);
                }
                Event::Claimed => self.dismiss(Reason::Full, "another connection of this session took over"),
                Event::Drain => {
                    stops = Some(tokio::time::Instant::now() + shared.drain_time());
                    self.tell(Input::Goaway { within: shared.drain_time() });
                }
                Event::Stop => {
                    stops = None;
                    self.dismiss(Reason::Shutdown, "the edge stops");
                }
                Event::Due => self.lane.handle_timeout(shared.clock.now(), shared.clock.wall()),
            }
        }
    }

    fn tell(&mut self, input: Input) {
        self.lane.handle(input, self.shared.clock.now(), self.shared.clock.wall());
    }

    fn dismiss(&mut self, reason: Reason, text: &str) {
        self.tell(Input::Dismiss { reason, text: text.to_owned() });
    }

    /// Does what the lane wants; gives the grant of a viewer that wants to be let in.
    fn work_off(&mut self) -> Option<Box<Grant>> {
        let mut asks = None;
        while let Some(output) = self.lane.poll() {
            match output {
                Output::Send { channel: LaneChannel::Control, message } => {
                    if self.connection.try_send(Channel::Control, message).is_err() {
                        // It does not even take what says that it is too slow.
                        self.closed = true;
                        return None;
                    }
                }
                Output::Send { channel: LaneChannel::Pieces, message } => self.send(message),
                Output::Open(grant) => {
                    self.session = Some(grant.session);
                    asks = Some(grant);
                }
                Output::Subscribe { rendition, want } => {
                    if let Some(entered) = &mut self.entered {
                        entered.want(rendition, want != Subscription::Nothing);
                    }
                }
                Output::Record { rendition, from } => {
                    let found = self.record(rendition, from);
                    self.tell(Input::Record(found));
                }
                Output::Piece { rendition, number, index } => {
                    let found = self.piece(rendition, number, index);
                    self.tell(Input::Piece(found));
                }
                Output::Bring(voucher) => {
                    if let Some(grant) = &self.grant {
                        self.shared.ledger.book().take(grant, *voucher);
                    }
                }
                Output::Renewed(grant) => {
                    self.shared.ledger.book().renewed(grant.unverified());
                    self.grant = Some(Box::new(grant.unverified().clone()));
                    if let Some(seat) = &mut self.seat {
                        seat.past.grant = Some(*grant);
                    }
                }
                Output::Close { reason, text, by_viewer } => {
                    self.closed = true;
                    self.shared.closed(self.session, reason, &text, by_viewer);
                }
            }
        }
        asks
    }

    fn send(&mut self, message: Bytes) {
        match self.connection.try_send(Channel::Pieces, message.clone()) {
            Ok(()) => {}
            Err(SendError::Full) => {
                self.pending = Some(message);
                self.tell(Input::Busy);
            }
            Err(_) => self.closed = true,
        }
    }

    fn record(&self, rendition: RenditionId, from: Option<u64>) -> Option<Found> {
        let grant = self.grant.as_ref()?;
        let cache = self.shared.store.cache();
        let part = cache.record(&grant.stream, rendition, from)?;
        let record = part.record();
        Some(Found { number: record.number, message: part.message().clone(), size: record.size })
    }

    fn piece(&self, rendition: RenditionId, number: u64, index: u32) -> Lookup {
        let Some(grant) = &self.grant else { return Lookup::Absent };
        let found = self.shared.store.cache().piece(&grant.stream, rendition, number, index);
        match found {
            millstream_cache::Lookup::Here(piece) => {
                let leaving = Leaving {
                    session: grant.session,
                    stream: &grant.stream,
                    rendition,
                    number,
                    index,
                    message: piece.message(),
                };
                Lookup::Here { message: self.shared.outgoing.piece(&leaving), bytes: piece.bytes() }
            }
            millstream_cache::Lookup::Coming => Lookup::Coming,
            millstream_cache::Lookup::Absent => Lookup::Absent,
        }
    }

    fn admit(&mut self, admitted: Admitted) {
        let (mut seat, entered) = match admitted {
            Ok(admitted) => admitted,
            Err((reason, text)) => return self.dismiss(reason, text),
        };
        let Some(grant) = self.lane.grant().cloned() else { return };
        let shared = &self.shared;
        let credit = match seat.past.credit {
            Some(mut credit) => {
                credit.reconnect();
                credit
            }
            None => match shared.ledger.book().claim(grant.unverified().session) {
                Some(claim) => Credit::forgotten(Some(claim)),
                // A lane that is older than this process, or that was renewed elsewhere, has a past.
                None if grant.unverified().serial > 1 || grant.unverified().issued < shared.clock.began() => {
                    Credit::forgotten(None)
                }
                None => Credit::fresh(),
            },
        };
        seat.past.credit = Some(credit);
        let newer = seat.past.grant.take();
        self.grant = Some(Box::new(grant.unverified().clone()));
        self.seat = Some(seat);
        self.entered = Some(entered);
        self.tell(Input::Admitted(Box::new(Admission { credit, grant: newer })));
        self.news();
    }

    /// Something is new in the stream, or may be.
    fn news(&mut self) {
        let Some(grant) = &self.grant else { return };
        let described = {
            let cache = self.shared.store.cache();
            if !cache.knows(&grant.stream) {
                drop(cache);
                return self.dismiss(Reason::Stream, "the stream was made anew");
            }
            let described = cache.described(&grant.stream);
            described.filter(|described| described.revision != self.revision).cloned()
        };
        if let Some(described) = described {
            self.revision = described.revision;
            let (delegation, catalog) = (described.delegation, described.catalog);
            self.tell(Input::Described { delegation, catalog });
        }
        self.tell(Input::Changed);
    }

    fn count(&mut self) {
        let now = *self.lane.stats();
        let before = std::mem::replace(&mut self.counted, now);
        let metrics = &self.shared.metrics;
        metrics.sent_bytes.inc_by(now.bytes - before.bytes);
        if now.pushed != before.pushed {
            metrics.sent_pieces.with_label_values(&["push"]).inc_by(now.pushed - before.pushed);
        }
        if now.answered != before.answered {
            metrics.sent_pieces.with_label_values(&["request"]).inc_by(now.answered - before.answered);
        }
        metrics.sent_records.inc_by(now.records - before.records);
        metrics.dropped_parts.inc_by(now.dropped - before.dropped);
        metrics.missing.inc_by(now.missing - before.missing);
        metrics.blocked.inc_by(now.blocked - before.blocked);
        metrics.vouchers.inc_by(now.vouchers - before.vouchers);
    }

    fn leave(&mut self) {
        if let (Some(seat), Some(credit)) = (&mut self.seat, self.lane.credit()) {
            seat.past.credit = Some(credit);
        }
        if let Some(session) = self.session {
            self.shared.ledger.book().closed(session);
            self.shared.bring.notify_one();
        }
        self.seat = None;
        self.entered = None;
    }
}

/// Finds the lane's seat and the viewer's stream.
async fn open(shared: Arc<Shared>, grant: Box<Grant>) -> Admitted {
    let entered = shared.store.enter(&grant.stream).await.map_err(|why| match why {
        NoStream::Silent => (Reason::Stream, "the tracker does not say where the stream comes from"),
        NoStream::Unknown => (Reason::Stream, "the stream is not live"),
        NoStream::Full => (Reason::Full, "this edge carries as many streams as it can"),
    })?;
    let seat = shared.roster.claim(&grant, shared.clock.wall()).await;
    let seat = seat.ok_or((Reason::Full, "another connection of this session does not end"))?;
    shared.metrics.viewers_total.inc();
    Ok((seat, entered))
}

async fn send(connection: &Connection, pending: Option<&Bytes>) -> Result<(), SendError> {
    match pending {
        Some(message) => connection.send(Channel::Pieces, message.clone()).await,
        None => std::future::pending().await,
    }
}

async fn news(entered: Option<&mut Entered>) {
    match entered {
        Some(entered) => entered.news().await,
        None => std::future::pending().await,
    }
}

async fn claimed(seat: Option<&mut Seat>) {
    match seat {
        Some(seat) => seat.claimed().await,
        None => std::future::pending().await,
    }
}

async fn wait<F: Future + Unpin>(work: Option<&mut F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
