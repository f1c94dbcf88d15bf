//! The player: wants part after part, checks each byte, and counts how long it stood still.

use std::collections::BTreeSet;

use super::*;

/// Plays one rendition: wants part after part, and counts what came too late.
#[derive(Default)]
pub struct Player {
    pub next: Option<u64>,
    /// Where it goes on, when it came over from another rendition.
    goes_on: Option<u64>,
    want: Option<(WantId, Resource)>,
    /// Reloads its playlist, and asks for no media.
    paused: bool,
    /// When it began to play, and with which part.
    begun: Option<(Instant, u64)>,
    pub stalled_ms: u64,
    pub played: u64,
}

impl World {
    /// Begins to play a rendition.
    pub fn watch(&mut self, rendition: RenditionId) {
        self.player.insert(rendition, Player::default());
        self.play();
    }

    /// The player stands with a full buffer, or goes on at the live end.
    pub fn pause(&mut self, paused: bool) {
        let mut wants = Vec::new();
        for player in self.player.values_mut() {
            (player.paused, player.next) = (paused, None);
            (player.begun, player.played) = (None, 0);
            wants.extend(player.want.take().map(|(want, _)| want));
        }
        for want in wants {
            self.swarm.handle(Input::Unwant { want }, self.now);
        }
        self.play();
    }

    /// The player goes over to another rendition of the same pictures, part by part where it stopped.
    pub fn go_over(&mut self, from: RenditionId, to: RenditionId) {
        let mut player = self.player.remove(&from).unwrap();
        if let Some((want, _)) = player.want.take() {
            self.swarm.handle(Input::Unwant { want }, self.now);
        }
        player.goes_on = player.next.take();
        self.player.insert(to, player);
        self.play();
    }

    pub(super) fn play(&mut self) {
        let mut wants = Vec::new();
        for (rendition, player) in &mut self.player {
            if player.want.is_some() {
                continue;
            }
            self.order += 1;
            let want = WantId(u32::try_from(self.order).unwrap());
            let (_, name, _) = RENDITIONS[usize::from(rendition.0)];
            let name = name.to_string();
            let resource = match player.next {
                _ if player.paused => {
                    let head = self.records[rendition].last().unwrap().unverified();
                    let at = Reload { segment: head.segment, part: Some(u64::from(head.part) + 1) };
                    Resource::Playlist { rendition: name, at: Some(at) }
                }
                None => Resource::Playlist { rendition: name, at: None },
                Some(number) => Resource::Part { rendition: name, number },
            };
            player.want = Some((want, resource.clone()));
            wants.push((want, resource));
        }
        for (want, resource) in wants {
            self.swarm.handle(Input::Want { want, resource }, self.now);
        }
    }

    pub(super) fn player_gets(&mut self, want: WantId, content: Result<Content, u16>) {
        let hit = self.player.iter_mut().find(|(_, p)| p.want.as_ref().is_some_and(|(id, _)| *id == want));
        let Some((rendition, player)) = hit else { return };
        let (_, resource) = player.want.take().unwrap();
        match (resource, content) {
            (Resource::Playlist { .. }, Ok(_)) if player.paused => {}
            (Resource::Playlist { .. }, Ok(Content::Playlist(text))) => {
                let numbers: BTreeSet<u64> = text
                    .split("/p")
                    .skip(1)
                    .filter_map(|rest| rest.split(".m4s").next()?.parse().ok())
                    .collect();
                let newest = numbers.last().unwrap();
                // Three seconds behind the newest part.
                player.next = Some((newest - 11).max(*numbers.first().unwrap()));
                if let Some(number) = player.goes_on.take() {
                    let first = numbers.first().unwrap();
                    let is_live = *first <= number && number < newest + PARTS_PER_SEGMENT;
                    assert!(is_live, "{number} is far from what is listed: {numbers:?}");
                    assert!(text.contains("#EXTINF"), "hls.js turns back at a playlist of parts alone");
                    player.next = Some(number);
                }
            }
            (Resource::Part { number, .. }, Ok(Content::Media(bytes))) => {
                assert_eq!(bytes, self.media[&(*rendition, number)], "a wrong byte was played");
                self.delivered.insert((*rendition, number), self.now);
                player.played += 1;
                // It begins to play with a second in its buffer, as real players do.
                if player.played == 4 {
                    player.begun = Some((self.now, number - 3));
                }
                let (begun, first) = player.begun.unwrap_or((self.now, number));
                let due = begun.0 + (number - first) * PART_MS * 1_000;
                if self.now.0 > due {
                    let late = self.now.0 - due;
                    player.stalled_ms += late / 1_000;
                    player.begun = Some((Instant(begun.0 + late), first));
                }
                player.next = Some(number + 1);
                let at =
                    self.records[rendition][0].unverified().program_date_time.0 + (number - 1_000) * PART_MS;
                if *rendition != AUDIO {
                    let playhead = WallTime(at.saturating_sub(2_750));
                    let input = Input::Playhead { at: playhead, buffer_ms: 2_500, stalls: 0, stalled_ms: 0 };
                    self.swarm.handle(input, self.now);
                }
            }
            (resource, other) => panic!("the player asked for {resource:?} and got {other:?}"),
        }
    }

    pub fn stalled_ms(&self) -> u64 {
        self.player.values().map(|player| player.stalled_ms).sum()
    }
}
