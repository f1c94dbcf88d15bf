//! What an origin serves of one stream, as any player could fetch it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millstream_playlist::check::{self, Playlist};
use millstream_service::Trust;
use millstream_wire::{
    frame::{Deframer, Frame},
    media::{Catalog, Record},
};

use crate::api;

/// How often a playlist is asked again.
const POLL: Duration = Duration::from_millis(50);

/// One stream at an origin.
#[derive(Debug, Clone)]
pub struct Origin {
    http: reqwest::blocking::Client,
    base: String,
}

impl Origin {
    /// The stream at the origin with this URL.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(origin: &str, stream: &str) -> anyhow::Result<Self> {
        let http = api::client(&Trust::system()?, Duration::from_secs(20))?;
        Ok(Self { http, base: format!("{origin}/s/{stream}/") })
    }

    /// What stands below the stream's folder.
    ///
    /// # Errors
    /// When the answer is no success.
    pub fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(format!("{}{path}", self.base)).send()?.error_for_status()?;
        Ok(answer.bytes()?.to_vec())
    }

    /// A rendition's media playlist as it is now.
    ///
    /// # Errors
    /// When the origin does not give it.
    pub fn playlist(&self, rendition: &str) -> anyhow::Result<Playlist> {
        let text = String::from_utf8(self.bytes(&format!("{rendition}.m3u8"))?)?;
        Ok(Playlist::parse(&text))
    }

    /// Asks for a rendition's playlist until it is as wanted.
    ///
    /// # Errors
    /// When it does not become so in time.
    pub fn wait(
        &self,
        rendition: &str,
        patience: Duration,
        judge: impl Fn(&Playlist) -> bool,
    ) -> anyhow::Result<Playlist> {
        let started = Instant::now();
        loop {
            let playlist = self.playlist(rendition);
            if let Ok(playlist) = &playlist
                && judge(playlist)
            {
                return Ok(playlist.clone());
            }
            if started.elapsed() > patience {
                bail!("{rendition} did not become what was expected in {patience:?}; it is {playlist:?}");
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// Holds the playlists of these renditions to the RFC's rules.
    ///
    /// # Errors
    /// When they break one.
    pub fn follows_the_rules(&self, renditions: &[&str]) -> anyhow::Result<()> {
        let mut texts = Vec::new();
        for rendition in renditions {
            texts.push(String::from_utf8(self.bytes(&format!("{rendition}.m3u8"))?)?);
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut broken: Vec<_> = texts.iter().flat_map(|text| check::media(text)).collect();
        broken.extend(check::together(&texts));
        ensure!(broken.is_empty(), "{broken:?} in {texts:#?}");
        Ok(())
    }

    /// The newest catalog and all records of a rendition that the origin has, oldest first.
    ///
    /// # Errors
    /// When the origin does not give them.
    pub fn records(&self, rendition: &str) -> anyhow::Result<(Catalog, Vec<Record>)> {
        let mut frames = Deframer::default();
        frames.push(&self.bytes(&format!("records?rendition={rendition}&from=1"))?);
        let (mut catalog, mut records) = (None, Vec::new());
        while let Some(frame) = frames.next_frame()? {
            match frame {
                Frame::Catalog(signed) => catalog = Some(signed.unverified().clone()),
                Frame::Record(signed) => records.push(signed.unverified().clone()),
                _ => {}
            }
        }
        records.sort_by_key(|record| record.number);
        Ok((catalog.context("no catalog")?, records))
    }

    /// Holds what a viewer wrote down of a rendition (init segments and parts as it played them) to what the origin
    /// has, byte for byte. Gives the bytes of media that were held.
    ///
    /// # Errors
    /// When it is not the same, or the origin does not have it any more.
    pub fn holds(&self, rendition: &str, dump: &[u8]) -> anyhow::Result<usize> {
        let kept = self.kept(rendition)?;
        for (index, first) in kept.iter().enumerate() {
            let Some(media) = dump.strip_prefix(first.init.as_slice()) else { continue };
            // A viewer may begin in the middle of a segment.
            let sample = &media[..media.len().min(SAMPLE_BYTES)];
            let Some(begin) = first.media.windows(sample.len()).position(|window| window == sample) else {
                continue;
            };
            let mut expected = first.media[begin..].to_vec();
            for pair in kept[index..].windows(2) {
                if pair[1].map != pair[0].map {
                    expected.extend_from_slice(&pair[1].init);
                }
                expected.extend_from_slice(&pair[1].media);
            }
            let same =
                media.iter().zip(&expected).take_while(|(played, true_one)| played == true_one).count();
            ensure!(
                same == media.len(),
                "{rendition}: {same} of {} bytes are the origin's {} bytes from segment {} on",
                media.len(),
                expected.len(),
                first.sequence
            );
            return Ok(same);
        }
        bail!("{rendition}: what was played ({} bytes) is nowhere at the origin", dump.len())
    }

    /// Everything of a rendition that the origin has now, oldest first. It keeps more than it lists; what is not
    /// listed any more is taken to have the oldest listed segment's init segment.
    fn kept(&self, rendition: &str) -> anyhow::Result<Vec<Kept>> {
        let mut kept = self.listed(rendition)?;
        let oldest = kept.first().context("an empty playlist")?;
        let (map, init, listed) = (oldest.map.clone(), oldest.init.clone(), oldest.sequence);
        for sequence in (0..listed).rev() {
            let Ok(media) = self.bytes(&format!("{rendition}/s{sequence}.m4s")) else { break };
            kept.insert(0, Kept { sequence, map: map.clone(), init: init.clone(), media });
        }
        Ok(kept)
    }

    fn listed(&self, rendition: &str) -> anyhow::Result<Vec<Kept>> {
        let mut kept: Vec<Kept> = Vec::new();
        for segment in self.playlist(rendition)?.segments {
            let map = segment.map.context("a segment has an init segment")?;
            let init = match kept.last() {
                Some(last) if last.map == map => last.init.clone(),
                _ => self.bytes(&map)?,
            };
            let media = match &segment.uri {
                Some(uri) => self.bytes(uri)?,
                None => {
                    let mut media = Vec::new();
                    for part in &segment.parts {
                        media.extend(self.bytes(&part.uri)?);
                    }
                    media
                }
            };
            kept.push(Kept { sequence: segment.sequence, map, init, media });
        }
        Ok(kept)
    }
}

/// Bytes by which the place of what was played is found: more than any two moments have in common.
const SAMPLE_BYTES: usize = 1_024;

/// A segment, or what there is of the newest one.
struct Kept {
    sequence: u64,
    map: String,
    init: Vec<u8>,
    media: Vec<u8>,
}
