//! Bodies: bytes that are there, shared with the window, or a feed that goes on.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};

use super::meter::Tally;

/// The body of an answer.
#[derive(Default)]
pub struct Body {
    content: Content,
    tally: Option<Tally>,
}

enum Content {
    Bytes(VecDeque<Bytes>),
    Feed(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(VecDeque::new())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Body").field("length", &self.length()).finish()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::from(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(bytes: Vec<Bytes>) -> Self {
        let bytes = bytes.into_iter().filter(|bytes| !bytes.is_empty()).collect();
        Self { content: Content::Bytes(bytes), tally: None }
    }
}

impl Body {
    /// A body of bytes as they come.
    pub(super) fn feed(feed: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { content: Content::Feed(Box::pin(feed)), tally: None }
    }

    /// Bytes left, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes.iter().map(|bytes| bytes.len() as u64).sum()),
            Content::Feed(_) => None,
        }
    }

    /// Keeps the bytes from `first` to `last`, both included.
    pub(super) fn cut(&mut self, first: u64, last: u64) {
        let Content::Bytes(bytes) = &mut self.content else { return };
        let mut at: u64 = 0;
        let mut kept = VecDeque::new();
        for slice in bytes.drain(..) {
            let end = at + slice.len() as u64;
            let from = first.clamp(at, end) - at;
            let to = last.saturating_add(1).clamp(at, end) - at;
            // Both are at most the slice's length.
            let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
            if from < to {
                kept.push_back(slice.slice(from..to));
            }
            at = end;
        }
        *bytes = kept;
    }

    pub(super) fn count(&mut self, tally: Tally) {
        self.tally = Some(tally);
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Bytes(bytes) => bytes.pop_front(),
            Content::Feed(feed) => match feed.as_mut().poll_next(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        if let (Some(bytes), Some(tally)) = (&next, &self.tally) {
            tally.add(bytes.len() as u64);
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(first: u64, last: u64) -> Vec<u8> {
        let parts = [&b"abc"[..], b"", b"d", b"efgh"].map(Bytes::from_static);
        let mut body = Body::from(parts.to_vec());
        body.cut(first, last);
        let Content::Bytes(bytes) = body.content else { panic!() };
        bytes.into_iter().flatten().collect()
    }

    #[test]
    fn a_range_is_cut_over_the_borders_of_parts() {
        assert_eq!(cut(0, 7), b"abcdefgh");
        assert_eq!(cut(2, 4), b"cde");
        assert_eq!(cut(3, 3), b"d");
        assert_eq!(cut(7, u64::MAX), b"h");
        assert_eq!(cut(8, 9), b"");
    }
}
