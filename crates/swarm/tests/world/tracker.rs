//! The tracker: lets viewers in, renews grants, books vouchers.

use super::*;

impl World {
    pub(super) fn tracker_hears(&mut self, message: FromViewer) {
        if !self.tracker_up {
            return;
        }
        match message {
            FromViewer::Join { .. } => {
                self.joins += 1;
                self.welcome();
            }
            FromViewer::Resume { certificate, proof } => {
                certificate.verify(&self.tracker.public(), Context::None).unwrap();
                proof.verify(&self.session_secret.public(), Context::None).unwrap();
                self.resumes += 1;
                if self.session_over {
                    self.end_session();
                } else {
                    self.welcome();
                }
            }
            FromViewer::Voucher { voucher } => {
                let said = voucher.verify(&self.session_secret.public(), Context::None).unwrap().clone();
                let receipt = Receipt {
                    session: said.session,
                    edge: said.edge,
                    payable: said.payable,
                    earned: Micros(1),
                    voucher: voucher.digest(),
                    at: self.wall(),
                };
                self.brought.push(voucher);
                let receipt = Signed::new(receipt, Context::None, &self.tracker);
                self.post(EDGE_MS, Input::Tracker(ToViewer::Receipt { receipt }));
            }
            FromViewer::Renew { .. } if self.session_over => self.end_session(),
            FromViewer::Renew { edge } => {
                let n = (0..self.edges.len()).find(|n| self.edge_id(*n) == edge).unwrap();
                let grants = vec![self.grant(n)];
                self.post(EDGE_MS, Input::Tracker(ToViewer::Grants { grants, token: None }));
            }
            FromViewer::Report { .. } | FromViewer::Signal(_) | FromViewer::Leave => {}
        }
    }

    /// The tracker refuses to resume, hangs up, and is there again: a new session is wanted.
    fn end_session(&mut self) {
        self.session_over = false;
        self.session = SessionId([10; 16]);
        let fault = Fault { code: FaultCode::BadProof, message: "the session is over; join again".into() };
        self.post(EDGE_MS, Input::Tracker(ToViewer::Error(fault)));
        self.post(EDGE_MS, Input::TrackerClosed);
        self.open_tracker();
    }

    fn grant(&self, n: usize) -> Signed<Grant> {
        let grant = Grant {
            tracker: self.tracker.public(),
            session: self.session,
            key: self.session_secret.public(),
            stream: stream(),
            edge: self.edge_id(n),
            price: Price(100),
            cap_bytes: self.cap,
            serial: u32::try_from(self.now.0 / 1_000_000).unwrap(),
            issued: self.wall(),
            expires: self.wall().plus_millis(120_000),
        };
        Signed::new(grant, Context::None, &self.tracker)
    }

    fn welcome(&mut self) {
        // As the tracker does: another one whenever half of the time is gone.
        for n in 1..=self.tokens_more {
            let after_ms = n * self.token_ms.unwrap_or(0) / 2;
            let token = self.token(after_ms);
            self.post(after_ms, Input::Tracker(ToViewer::Grants { grants: Vec::new(), token }));
        }
        let certificate = Certificate {
            session: self.session,
            stream: stream(),
            key: self.session_secret.public(),
            issued: self.wall(),
            expires: self.wall().plus_millis(3_600_000),
        };
        let edges = (0..self.edges_offered)
            .map(|n| EdgeOffer {
                id: self.edge_id(n),
                address: EdgeAddress {
                    sockets: vec!["127.0.0.1:4443".parse().unwrap()],
                    ufrag: "edge".into(),
                    password: "p".repeat(24),
                    fingerprint: Fingerprint([1; 32]),
                    behind_nat: false,
                    stun: Vec::new(),
                },
                grant: self.grant(n),
            })
            .collect();
        let welcome = Welcome {
            session: self.session,
            certificate: Signed::new(certificate, Context::None, &self.tracker),
            stream: stream(),
            root: self.root.public(),
            origin: "http://origin".into(),
            token: self.token(0),
            edges,
            time: self.wall().plus_millis(EDGE_MS),
            report_ms: 5_000,
        };
        self.post(EDGE_MS, Input::Tracker(ToViewer::Welcome(Box::new(welcome))));
    }
}
