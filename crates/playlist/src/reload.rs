//! Blocking playlist reload (RFC 8216bis §6.2.5.2): whether a playlist request is answered, held or refused.
//!
//! The judgement alone: who asks does the waiting. The origin and edges hold the HTTP request, the player's own
//! playlist loader holds its promise.

use millstream_wire::media::Record;

use crate::query;

/// The newest part of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Its segment's media sequence number.
    pub segment: u64,
    /// Its index in the segment.
    pub part: u16,
}

impl Head {
    /// The head once `record` is the newest.
    #[must_use]
    pub const fn of(record: &Record) -> Self {
        Self { segment: record.segment, part: record.part }
    }
}

/// What a client that reloads wants the playlist to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// `_HLS_msn`: this segment, or a later one.
    pub segment: u64,
    /// `_HLS_part`: this part of it; without, the whole segment.
    pub part: Option<u64>,
}

/// What a playlist request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The playlist, now.
    Ready,
    /// Nothing yet: judge again when there is another part. After three target durations, 503.
    Wait,
    /// 400: nobody who follows the playlist asks for this.
    Absurd,
}

/// The query asks for a part of no segment, or for no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Reload {
    /// Reads the directives of a playlist request's query; `None` when there are none.
    ///
    /// # Errors
    /// [`Malformed`]: 400.
    pub fn of_query(query: &str) -> Result<Option<Self>, Malformed> {
        let segment = query::number(query, "_HLS_msn").map_err(|_| Malformed)?;
        let part = query::number(query, "_HLS_part").map_err(|_| Malformed)?;
        match (segment, part) {
            (Some(segment), part) => Ok(Some(Self { segment, part })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Malformed),
        }
    }

    /// Judges against the rendition's newest part. `ended`: the playlist has an EXT-X-ENDLIST.
    #[must_use]
    pub fn judge(self, head: Option<Head>, part_target_ms: u32, ended: bool) -> Verdict {
        if ended {
            return Verdict::Ready;
        }
        let Some(head) = head else { return Verdict::Wait };
        let there = match self.part {
            // A part past a segment's last is the first of the next: the head has passed it either way.
            Some(part) => (head.segment, u64::from(head.part)) >= (self.segment, part),
            None => head.segment > self.segment,
        };
        if there {
            return Verdict::Ready;
        }
        // The newest whole segment is the one before the head's; two more than that is the limit.
        let ahead = self.segment.saturating_sub(head.segment);
        let from = if ahead == 0 { u64::from(head.part) } else { 0 };
        let parts = self.part.unwrap_or(0).saturating_sub(from);
        if ahead > 1 || parts > advance_part_limit(part_target_ms) { Verdict::Absurd } else { Verdict::Wait }
    }
}

/// How many parts beyond the last a client may ask for (§6.2.5.2): three seconds' worth, or three.
const fn advance_part_limit(part_target_ms: u32) -> u64 {
    if part_target_ms == 0 || part_target_ms >= 1_000 { 3 } else { 3_000_u64.div_ceil(part_target_ms as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Option<Head> = Some(Head { segment: 12, part: 3 });

    fn judge(segment: u64, part: Option<u64>) -> Verdict {
        Reload { segment, part }.judge(HEAD, 250, false)
    }

    #[test]
    fn what_is_there_is_given_at_once() {
        assert_eq!(judge(12, Some(3)), Verdict::Ready);
        assert_eq!(
            judge(11, Some(99)),
            Verdict::Ready,
            "past its last part is the first of the next segment"
        );
        assert_eq!(judge(11, None), Verdict::Ready);
        assert_eq!(judge(0, Some(0)), Verdict::Ready, "long gone from the playlist");
    }

    #[test]
    fn what_is_coming_is_waited_for() {
        assert_eq!(judge(12, Some(4)), Verdict::Wait);
        assert_eq!(judge(12, None), Verdict::Wait, "a segment is there when it is whole");
        assert_eq!(judge(13, Some(0)), Verdict::Wait);
        assert_eq!(judge(13, None), Verdict::Wait);
        assert_eq!(Reload { segment: 5, part: None }.judge(None, 250, false), Verdict::Wait);
    }

    #[test]
    fn what_nobody_asks_for_is_refused() {
        assert_eq!(judge(14, None), Verdict::Absurd);
        assert_eq!(judge(u64::MAX, Some(u64::MAX)), Verdict::Absurd);
        assert_eq!(judge(12, Some(3 + 12)), Verdict::Wait);
        assert_eq!(judge(12, Some(3 + 13)), Verdict::Absurd);
        assert_eq!(judge(13, Some(13)), Verdict::Absurd);
        let slow = Reload { segment: 12, part: Some(7) };
        assert_eq!(slow.judge(HEAD, 1_000, false), Verdict::Absurd, "three parts when they are long");
    }

    #[test]
    fn an_ended_playlist_ignores_the_directives() {
        assert_eq!(Reload { segment: 99, part: None }.judge(HEAD, 250, true), Verdict::Ready);
    }

    #[test]
    fn directives_are_read_from_the_query() {
        assert_eq!(Reload::of_query(""), Ok(None));
        assert_eq!(Reload::of_query("session=x"), Ok(None));
        assert_eq!(Reload::of_query("_HLS_msn=3"), Ok(Some(Reload { segment: 3, part: None })));
        let both = Ok(Some(Reload { segment: 3, part: Some(1) }));
        assert_eq!(Reload::of_query("_HLS_msn=3&_HLS_part=1&_HLS_skip=YES"), both);
        for query in ["_HLS_part=1", "_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=1.0", "_HLS_msn=1&_HLS_part=x"] {
            assert_eq!(Reload::of_query(query), Err(Malformed), "{query}");
        }
    }
}
