//! Edges: push what is subscribed to, answer what is asked for, and keep count of what is owed.

use super::*;

impl World {
    pub(super) fn tell_edges(&mut self) {
        for n in 0..self.edges.len() {
            for (rendition, _, _) in RENDITIONS {
                let record = self.records[&rendition].last().unwrap().clone();
                let number = record.unverified().number;
                let told = self.edges[n].told.get(&rendition).copied();
                if self.edges[n].connected
                    && matches!(told, Some(Subscription::Records | Subscription::Pieces))
                {
                    self.edge_says(n, &Frame::Record(record));
                }
                if told == Some(Subscription::Pieces) && !self.edges[n].manners.never_pushes {
                    self.send_pieces(n, Span { rendition, number, first: 0, count: u32::MAX });
                }
            }
        }
    }

    pub fn edge_says(&mut self, n: usize, frame: &Frame) {
        self.edge_says_later(n, 0, frame);
    }

    fn edge_says_later(&mut self, n: usize, late_ms: u64, frame: &Frame) {
        if self.edges[n].connected && self.edges[n].up {
            let edge = self.edge_id(n);
            self.post(EDGE_MS + late_ms, Input::EdgeMessage { edge, message: frame.encode() });
        }
    }

    /// What waits to be sent of a part is not sent.
    fn cancel(&mut self, n: usize, part: (RenditionId, u64)) {
        let (id, sent) = (self.edge_id(n), self.now.0 + EDGE_MS * 1_000);
        self.queue.retain(|(at, _), input| {
            let Input::EdgeMessage { edge, message } = input else { return true };
            let piece = match Frame::decode(message.clone()) {
                Ok(Some(Frame::Piece { rendition, number, .. })) => Some((rendition, number)),
                _ => None,
            };
            *edge != id || *at <= sent || piece != Some(part)
        });
    }

    fn send_pieces(&mut self, n: usize, span: Span) {
        let Some(data) = self.media.get(&(span.rendition, span.number)).cloned() else {
            return self.edge_says(n, &Frame::Missing(span));
        };
        if self.edges[n].manners.never_sends {
            return;
        }
        let pieces = data.chunks(PIECE_BYTES as usize);
        for (index, piece) in (0u32..).zip(pieces).skip(span.first as usize).take(span.count as usize) {
            let edge = &mut self.edges[n];
            edge.pieces_sent += 1;
            edge.bytes_sent += piece.len() as u64;
            *edge.sent_of.entry(span.rendition).or_default() += piece.len() as u64;
            let mut bytes = piece.to_vec();
            if edge.manners.corrupt_every > 0 && edge.pieces_sent.is_multiple_of(edge.manners.corrupt_every) {
                bytes[17] ^= 1;
            }
            let frame =
                Frame::Piece { rendition: span.rendition, number: span.number, index, data: bytes.into() };
            let Manners { late_every, late_ms, .. } = self.edges[n].manners;
            let is_late = late_every > 0 && span.number.is_multiple_of(late_every);
            self.edge_says_later(n, if is_late { late_ms } else { 0 }, &frame);
        }
    }

    pub fn kill_edge(&mut self, n: usize) {
        let edge = self.edge_id(n);
        self.edges[n].up = false;
        self.edges[n].connected = false;
        self.edges[n].told.clear();
        // Data in flight still arrives; that the edge is gone shows after a while.
        self.post(3_000, Input::EdgeClosed { edge });
    }

    pub fn revive_edge(&mut self, n: usize) {
        self.edges[n].up = true;
    }

    pub fn restart_edge(&mut self, n: usize) {
        self.edges[n].manners.forgot = true;
        self.edges[n].told.clear();
    }

    pub(super) fn edge_hears(&mut self, n: usize, frame: Frame) {
        if self.edges[n].manners.forgot && !matches!(frame, Frame::Hello { .. }) {
            return;
        }
        match frame {
            Frame::Hello { grant, hello, .. } => {
                self.edges[n].manners.forgot = false;
                grant.verify(&self.tracker.public(), Context::None).unwrap();
                hello.verify(&self.session_secret.public(), Context::None).unwrap();
                self.edge_says(n, &Frame::Welcome { protocol: 1, window: WINDOW });
                self.edge_says(n, &Frame::Delegation(self.delegation.clone()));
                self.edge_says(n, &Frame::Catalog(self.catalog.clone()));
            }
            Frame::Subscribe { rendition, want, from } => {
                self.edges[n].subscriptions += 1;
                self.edges[n].told.insert(rendition, want);
                self.edges[n].from.insert(rendition, from);
                let newest = self.records[&rendition].last().map_or(0, |record| record.unverified().segment);
                let is_missed = |record: &Record| match from {
                    0 => record.segment == newest,
                    from => record.number >= from,
                };
                let missed: Vec<_> = self.records[&rendition]
                    .iter()
                    .filter(|record| want != Subscription::Nothing && is_missed(record.unverified()))
                    .cloned()
                    .collect();
                for record in missed {
                    let number = record.unverified().number;
                    self.edge_says(n, &Frame::Record(record));
                    if want == Subscription::Pieces && !self.edges[n].manners.never_pushes {
                        self.send_pieces(n, Span { rendition, number, first: 0, count: u32::MAX });
                    }
                }
            }
            Frame::Request(span) => {
                self.edges[n].requests += 1;
                self.send_pieces(n, span);
            }
            Frame::Voucher(voucher) => {
                let said = voucher.verify(&self.session_secret.public(), Context::None).unwrap();
                let unpaid = said.received - said.payable;
                if unpaid > 1 << 20 && unpaid > said.received / 20 {
                    self.edge_says(n, &Frame::Refuse { reason: Reason::Unpaid, text: String::new() });
                }
                self.edges[n].voucher = Some(said.clone());
            }
            Frame::Cancel { rendition, number } => {
                self.edges[n].cancels += 1;
                self.cancel(n, (rendition, number));
            }
            Frame::Ping(value) => self.edge_says(n, &Frame::Pong(value)),
            Frame::Refuse { .. } => self.edges[n].refused = true,
            _ => {}
        }
    }
}
