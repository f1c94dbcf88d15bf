//! What a show's life is worth telling: when its publishers come and go, when it can be watched, when it is over.
//!
//! What never belongs here: how it is told (`crate::events`), and any decision about the show.

use millstream_model::Instant;
use millstream_segmenter::Complaint;

use crate::{
    events::{Code, Herald, Rendition, Sums, What},
    ingest::{Gone, Source},
    policy::Breach,
    stream::{Inner, Stream},
};
use std::{fmt, sync::Arc};

/// Why a publisher is served no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// Its connection says why.
    Gone(Gone),
    /// Another one with the same key came in its place.
    Replaced,
    /// It sent more than its stream takes.
    Over(Breach),
    /// We sent it away, for this reason.
    Dismissed(String),
}

impl fmt::Display for Left {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(gone) => gone.fmt(out),
            Self::Replaced => out.write_str("another publisher with the same key took over"),
            Self::Over(breach) => breach.fmt(out),
            Self::Dismissed(reason) => out.write_str(reason),
        }
    }
}

/// One show's.
#[derive(Debug)]
pub(super) struct News {
    herald: Herald,
    stream: Arc<Stream>,
    began: Instant,
    publisher: Option<(Source, Instant)>,
    is_ready: bool,
    complaints: Sums,
}

impl News {
    pub(super) fn new(herald: Herald, stream: Arc<Stream>, now: Instant) -> Self {
        let complaints = Sums::default();
        Self { herald, stream, began: now, publisher: None, is_ready: false, complaints }
    }

    /// When the show began.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn publishes(&mut self, source: Source, now: Instant) {
        self.tell(What::Publish { source: source.to_string() });
        self.publisher = Some((source, now));
        self.complaints = Sums::default();
    }

    pub(super) fn left(&mut self, left: &Left, now: Instant) {
        self.look(now, true);
        let Some((source, since)) = self.publisher.take() else { return };
        let reason = left.to_string();
        match left {
            Left::Gone(Gone::Closed(_) | Gone::Broken(_)) | Left::Dismissed(_) => {
                self.tell(What::error(Code::CutOff, &*reason));
            }
            Left::Over(_) => self.tell(What::error(Code::Limit, &*reason)),
            Left::Replaced | Left::Gone(Gone::Ended | Gone::Lost | Gone::Stopped) => {}
        }
        let duration_ms = millis(since, now);
        self.tell(What::Unpublish { source: source.to_string(), reason, duration_ms });
    }

    /// A part went into the window.
    pub(super) fn part(&mut self) {
        if self.is_ready {
            return;
        }
        if let Some(renditions) = self.stream.look(watchable) {
            self.is_ready = true;
            self.tell(What::Ready { renditions });
        }
    }

    pub(super) fn ended(&mut self, now: Instant) {
        self.tell(What::Ended { duration_ms: millis(self.began, now) });
    }

    pub(super) fn complaint(&mut self, complaint: &Complaint, now: Instant) {
        // What somebody can put right is told by itself, with how.
        if let Some(advice) = complaint.advice() {
            let (message, advice) = (complaint.to_string(), Some(advice));
            let complaints = Vec::new();
            return self.tell(What::Error { code: Code::LongGop, message, advice, complaints });
        }
        self.complaints.note(complaint.kind(), || complaint.to_string(), now);
    }

    /// Renditions are not as they were wanted.
    pub(super) fn lacks(&self, message: String, advice: String) {
        let code = Code::Renditions;
        self.tell(What::Error { code, message, advice: Some(advice), complaints: Vec::new() });
    }

    /// When [`Self::look`] has something to do.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.complaints.due()
    }

    /// Tells what has waited to be summed up.
    pub(super) fn look(&mut self, now: Instant, it_ends: bool) {
        if let Some(what) = self.complaints.take(now, it_ends) {
            self.tell(what);
        }
    }

    fn tell(&self, what: What) {
        self.herald.tell(self.stream.id(), what);
    }
}

/// The renditions, once each has a part.
fn watchable(inner: &Inner) -> Option<Vec<Rendition>> {
    let catalog = inner.catalogs_in_force().last()?.unverified();
    let renditions = catalog.renditions.iter().map(|rendition| {
        inner.window.head(rendition.id)?;
        Some(Rendition {
            name: rendition.name.clone(),
            codecs: rendition.codecs.clone(),
            bandwidth: rendition.bandwidth.0,
        })
    });
    renditions.collect()
}

fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}
