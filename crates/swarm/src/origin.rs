//! The origin by HTTP: the start, records that no edge brings, and pieces that are late.

use alloc::{format, vec::Vec};
use core::time::Duration;

use bytes::Bytes;
use millstream_model::{Instant, RenditionId};
use millstream_wire::frame::{Deframer, Frame};

use crate::{
    fetch::Purpose,
    limits::{FETCH_ATTEMPTS_MAX, FETCH_RETRY_MS},
    port::{FetchId, Output, Resource, Source, WantId},
    swarm::Swarm,
};

impl Swarm {
    pub(crate) fn fetch(
        &mut self,
        purpose: Purpose,
        path: &str,
        range: Option<(u64, u64)>,
        bytes_max: usize,
        now: Instant,
    ) -> Option<FetchId> {
        let url = self.session.url(self.config.stream.as_str(), path)?;
        if self.fetches.ready_at(&purpose) > now {
            return None;
        }
        let token = self.session.token.as_ref().map(|token| format!("{token}"));
        let fetch = self.fetches.begin(purpose, now)?;
        self.push(Output::Fetch { fetch, url, range, token, bytes_max });
        Some(fetch)
    }

    pub(crate) fn on_fetched(&mut self, id: FetchId, body: Bytes, now: Instant) {
        let Some(fetch) = self.fetches.end(id) else { return };
        // A body is a success when it brought something: a login page and an empty answer are none.
        let brought = match fetch.purpose {
            Purpose::Start if self.chain.is_none() => {
                self.unread = Some(body);
                return;
            }
            Purpose::Start => {
                self.read_records(&body, now);
                self.catalog().is_some()
            }
            Purpose::Records { .. } => self.read_records(&body, now),
            Purpose::Pieces { rendition, number, first, count } => {
                self.estimate.burst(body.len() as u64, now.0.saturating_sub(fetch.since.0));
                let mut rest = body;
                for index in first..first + count {
                    let Some(record) = self.record(rendition, number) else { break };
                    let len = millstream_model::piece_len(record.size, index) as usize;
                    if rest.len() < len {
                        break;
                    }
                    let data = rest.split_to(len);
                    self.place(Source::Origin, rendition, number, index, &data, now);
                }
                let part = self.renditions.get(&rendition).and_then(|rendition| rendition.part(number));
                part.is_none_or(|part| part.missing_in(first, count) < count)
            }
        };
        if brought {
            self.fetches.succeed(&fetch.purpose);
            self.is_over(&fetch.purpose);
        } else {
            self.fetch_failed(&fetch.purpose, Some(502), now);
        }
    }

    /// Reads a body of frames; true when a record or a catalog in it was new.
    pub(crate) fn read_records(&mut self, body: &[u8], now: Instant) -> bool {
        let mut frames = Deframer::default();
        frames.push(body);
        let mut brought = false;
        while let Ok(Some(frame)) = frames.next_frame() {
            match frame {
                Frame::Delegation(signed) => self.on_delegation(Source::Origin, &signed, now),
                Frame::Catalog(signed) => brought |= self.on_catalog(Source::Origin, &signed, now),
                Frame::Record(signed) => brought |= self.on_record(Source::Origin, &signed, now),
                _ => {}
            }
        }
        brought
    }

    pub(crate) fn on_fetch_failed(&mut self, id: FetchId, status: Option<u16>, now: Instant) {
        let Some(fetch) = self.fetches.end(id) else { return };
        self.fetch_failed(&fetch.purpose, status, now);
    }

    /// A request brought nothing: it is made again after a while, or given up.
    pub(crate) fn fetch_failed(&mut self, purpose: &Purpose, status: Option<u16>, now: Instant) {
        let jitter = self.jitter(FETCH_RETRY_MS);
        let again = |failures: u32| {
            let wait = FETCH_RETRY_MS << failures.min(5);
            now + Duration::from_millis(wait + jitter)
        };
        let failures = self.fetches.fail(purpose, again);
        self.fetches.prune(now);
        self.is_over(purpose);
        if let Purpose::Pieces { rendition, number, .. } = *purpose
            && (matches!(status, Some(404 | 410)) || failures >= FETCH_ATTEMPTS_MAX)
        {
            self.give_up(rendition, number, status.unwrap_or(504));
        }
    }

    /// A request is not under way any more, however it ended.
    fn is_over(&mut self, purpose: &Purpose) {
        match *purpose {
            Purpose::Start => self.started = false,
            Purpose::Records { rendition } => {
                if let Some(rendition) = self.renditions.get_mut(&rendition) {
                    rendition.records_fetch = None;
                }
            }
            Purpose::Pieces { rendition, number, .. } => {
                if let Some(part) = self.renditions.get_mut(&rendition).and_then(|r| r.part_mut(number)) {
                    part.fetching = false;
                }
            }
        }
    }

    /// Nobody has this part any more: the player has to know.
    fn give_up(&mut self, id: RenditionId, number: u64, status: u16) {
        let Some(rendition) = self.renditions.get_mut(&id) else { return };
        rendition.open.remove(&number);
        let Some(part) = rendition.part_mut(number) else { return };
        part.wanted = false;
        let segment = part.record.segment;
        let name = rendition.name.clone();
        let lost: Vec<WantId> = self
            .wants
            .iter()
            .filter(|(_, resource)| match resource {
                Resource::Part { rendition, number: wanted } => *rendition == name && *wanted == number,
                Resource::Segment { rendition, segment: wanted } => *rendition == name && *wanted == segment,
                _ => false,
            })
            .map(|(want, _)| want)
            .collect();
        for want in lost {
            self.wants.remove(want);
            self.push(Output::Refuse { want, status });
        }
    }
}
