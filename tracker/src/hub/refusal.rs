//! What a viewer is told when it gets no grant: one whose session is over begins another, one that nobody pays for
//! plays on by plain HTTP.

use millstream_ledger::grant::Refused;
use millstream_wire::tracker::FaultCode;

/// The code of a renewal that was refused.
pub(super) const fn code(refused: &Refused) -> FaultCode {
    match refused {
        Refused::Closed(_) | Refused::UnknownSession(_) => FaultCode::BadProof,
        _ => FaultCode::NoFunds,
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::{SessionId, StreamId};

    use super::*;

    #[test]
    fn a_session_that_is_over_is_told_apart_from_one_that_nobody_pays_for() {
        let session = SessionId([7; 16]);
        assert_eq!(code(&Refused::Closed(session)), FaultCode::BadProof);
        assert_eq!(code(&Refused::UnknownSession(session)), FaultCode::BadProof);
        assert_eq!(code(&Refused::Stopped(StreamId::new("show").unwrap())), FaultCode::NoFunds);
    }
}
