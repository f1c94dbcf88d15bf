//! What is served of recordings: segments that left the window, and streams that are over.

use std::sync::Arc;

use http::StatusCode;
use millstream_model::StreamId;

use super::{Answer, Ask, Desk, No, media_type};
use crate::{
    keep::{self, Recorded},
    stream::Stream,
    window::Found,
};

impl Desk {
    /// The stream, live or recorded.
    pub(super) async fn stream(&self, id: &StreamId) -> Result<Arc<Stream>, No> {
        if let Some(stream) = self.streams.get(id) {
            return Ok(stream);
        }
        let absent = No(StatusCode::NOT_FOUND, "no such stream is on\n");
        let Some(keeper) = self.streams.keeper() else { return Err(absent) };
        match keeper.recorded(id).await {
            Recorded::Here(stream) => Ok(stream),
            Recorded::Absent => Err(absent),
            Recorded::Busy => Err(No(StatusCode::SERVICE_UNAVAILABLE, "recordings cannot be read now\n")),
        }
    }

    pub(super) async fn segment(&self, ask: &Ask<'_>, name: &str, segment: u64) -> Answer {
        let (found, show) = ask.stream.look(|inner| {
            let window = &inner.window;
            let found =
                window.named(name).map_or(Found::Unknown, |rendition| window.segment(rendition, segment));
            (found, inner.show.clone())
        });
        let gone = No(StatusCode::GONE, "this segment is no longer here\n");
        let kept = match &found {
            Found::Here(_) | Found::Next => None,
            Found::Gone | Found::Unknown => show.as_ref().and_then(|show| show.segment(name, segment)),
        };
        let parts = match (found, kept) {
            (Found::Here(parts), _) | (_, Some(keep::Found::Here(parts))) => parts,
            (_, Some(keep::Found::Stored { name: object, bytes })) => {
                let Some(keeper) = self.streams.keeper() else { return gone.into() };
                match keeper.read(&object, bytes).await {
                    Some(Some(bytes)) => vec![bytes],
                    Some(None) => {
                        show.iter().for_each(|show| show.lose(name, segment));
                        return gone.into();
                    }
                    None => return Answer::busy("the store does not answer\n"),
                }
            }
            (_, Some(keep::Found::Lost)) | (Found::Gone, None) => return gone.into(),
            (Found::Next | Found::Unknown, None) => {
                return Answer::refuse(StatusCode::NOT_FOUND, "no such segment\n");
            }
        };
        Answer::bytes(parts, media_type(name)).ranged(ask.headers)
    }
}
