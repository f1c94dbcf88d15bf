//! What waits, what is given up, and what a reader of the journal finds.

use millstream_segmenter::{AUDIO, VIDEO};

use super::*;
use crate::{
    keep::{index::Span, journal},
    show::{self, NOW, Object, Parts, tracks},
    signer::Signer,
};

/// A recording, and a store that holds what it is told.
struct World {
    recording: Recording,
    signer: Signer,
    video: Parts,
    audio: Parts,
    media: BTreeMap<(RenditionId, u64), usize>,
    pages: BTreeMap<u64, Bytes>,
}

impl World {
    fn new(backlog_bytes_max: usize) -> Self {
        let mut world = Self {
            recording: Recording::new(backlog_bytes_max),
            signer: show::signer(),
            video: Parts::video(),
            audio: Parts::audio(),
            media: BTreeMap::new(),
            pages: BTreeMap::new(),
        };
        world.recording.delegation(&show::permission(1).delegation);
        let catalog = world.signer.tracks(&tracks(), NOW).unwrap();
        world.recording.catalog(&catalog);
        world
    }

    /// Parts of both; eight make a segment.
    fn run(&mut self, parts: u32) -> &mut Self {
        for _ in 0..parts {
            for part in [self.video.next(), self.audio.next()] {
                let record = self.signer.part(&part).unwrap();
                self.recording.part(&record, &part.data);
            }
        }
        self
    }

    fn end(&mut self) -> &mut Self {
        let catalog = self.signer.end(NOW).unwrap();
        self.recording.catalog(&catalog);
        self
    }

    /// The store takes everything.
    fn store(&mut self) -> &mut Self {
        while self.recording.has_more() {
            while let Some(put) = self.recording.next_put() {
                let bytes = put.parts.iter().map(Bytes::len).sum();
                self.media.insert((put.rendition, put.segment), bytes);
                self.recording.put_done(put.rendition, put.segment, true);
            }
            if let Some((number, page)) = self.recording.page() {
                self.pages.insert(number, page);
                self.recording.page_stored();
            }
        }
        self
    }

    /// The store fails at everything.
    fn fail(&mut self) -> &mut Self {
        let puts: Vec<Put> = std::iter::from_fn(|| self.recording.next_put()).collect();
        for put in puts {
            self.recording.put_done(put.rendition, put.segment, false);
        }
        self
    }

    /// What somebody finds who has nothing but the pages.
    fn read(&self) -> Index {
        let mut index = Index::default();
        for page in self.pages.values() {
            journal::read_into(page, &mut index).unwrap();
        }
        index
    }

    fn segments(index: &Index, rendition: RenditionId) -> Vec<(u64, Media)> {
        index.spans(rendition).map(|span| (span.outline.segment, span.media)).collect()
    }
}

/// All that pages hold is believed by who knows the root alone.
fn believe(pages: &BTreeMap<u64, Bytes>) -> Vec<u64> {
    let mut chain = show::chain();
    let mut numbers = Vec::new();
    for page in pages.values() {
        journal::read(page, |frame| {
            let object = match frame {
                Frame::Delegation(signed) => Object::Delegation(signed),
                Frame::Catalog(signed) => Object::Catalog(signed),
                Frame::Record(signed) => {
                    numbers.push(signed.unverified().number);
                    Object::Record(signed)
                }
                _ => return,
            };
            show::believe(&mut chain, [&object]);
        })
        .unwrap();
    }
    numbers
}

#[test]
fn what_the_journal_names_is_in_the_store_at_every_moment() {
    let mut world = World::new(1 << 20);
    for _ in 0..30 {
        world.run(3);
        // A store that is killed between any two calls: each state must be readable.
        while let Some(put) = world.recording.next_put() {
            world.media.insert((put.rendition, put.segment), 0);
            world.recording.put_done(put.rendition, put.segment, true);
            if let Some((number, page)) = world.recording.page() {
                world.pages.insert(number, page);
                world.recording.page_stored();
            }
            let index = world.read();
            for (rendition, span) in index.all() {
                assert!(world.media.contains_key(&(rendition, span.outline.segment)), "{span:?}");
            }
        }
    }
    world.end().store();
    let index = world.read();
    assert_eq!(World::segments(&index, VIDEO).len(), 12, "90 parts, the last segment not full");
    assert!(index.has_ended() && world.recording.is_done());
    assert_eq!(believe(&world.pages).len(), 180);
}

#[test]
fn what_is_read_back_is_what_was_known() {
    let mut world = World::new(1 << 20);
    world.run(80).end().store();
    let index = world.read();
    for rendition in [VIDEO, AUDIO] {
        let spans = |index: &Index| index.spans(rendition).copied().collect::<Vec<Span>>();
        assert_eq!(spans(&index), spans(world.recording.index()));
    }
    assert_eq!(world.recording.backlog_bytes(), 0);
    let index = world.recording.index();
    assert_eq!(index.init("video", 1, 1).unwrap(), "video init");
    assert_eq!(index.init("video", 1, 9), None);
}

#[test]
fn pages_are_full_and_then_left_alone() {
    let mut world = World::new(1 << 20);
    let mut full: BTreeMap<u64, Bytes> = BTreeMap::new();
    for _ in 0..300 {
        world.run(8).store();
        let newest = *world.pages.keys().last().unwrap();
        for (number, page) in world.pages.range(..newest) {
            let known = full.entry(*number).or_insert_with(|| page.clone());
            assert_eq!(known, page, "page {number} changed after it was full");
        }
    }
    assert!(world.pages.len() > 5, "{}", world.pages.len());
    let longest = world.pages.values().map(Bytes::len).max().unwrap();
    assert!(longest < 2 * journal::PAGE_BYTES, "{longest}");
    // Each page is believed on its own.
    for (number, page) in &world.pages {
        assert!(!believe(&BTreeMap::from([(*number, page.clone())])).is_empty());
    }
}

#[test]
fn at_the_bound_the_oldest_media_goes_and_the_journal_says_so() {
    // Segments have 8,000 bytes and some 2 KB of records.
    let mut world = World::new(100_000);
    world.run(8 * 20).fail();
    assert!(world.recording.backlog_bytes() <= 100_000);
    let lost = world.recording.counts().lost;
    assert!(lost > 10, "{lost}");
    world.run(8).end().store();
    let index = world.read();
    let video = World::segments(&index, VIDEO);
    assert_eq!(video.len(), 21, "records are kept, so that the recording says what it lost");
    let count = |media: Media| index.all().filter(|(_, span)| span.media == media).count();
    assert_eq!(count(Media::Lost), usize::try_from(world.recording.counts().lost).unwrap());
    assert!(index.all().all(|(_, span)| span.outline.lost == (span.media == Media::Lost)));
    assert_eq!(video[0].1, Media::Lost);
    assert_eq!(video[20].1, Media::Stored, "the newest stays");
    assert_eq!(believe(&world.pages).len(), 2 * 8 * 21, "the chain is whole");
    let stored: Vec<_> = index.all().filter(|(_, span)| span.media == Media::Stored).collect();
    assert!(stored.iter().all(|(rendition, span)| world.media[&(*rendition, span.outline.segment)] == 8_000));
}

#[test]
fn when_even_records_are_too_much_the_oldest_go_and_memory_is_bounded() {
    let mut world = World::new(60_000);
    for _ in 0..200 {
        world.run(8).fail();
        assert!(world.recording.backlog_bytes() <= 60_000 + 2 * 20_000, "the open segments may be beside it");
    }
    world.end().store();
    let index = world.read();
    let video = World::segments(&index, VIDEO);
    assert!(video.len() < 60, "{}", video.len());
    assert_eq!(video.last().unwrap(), &(199, Media::Stored));
    believe(&world.pages);
}

#[test]
fn what_is_under_way_is_not_given_up() {
    let mut world = World::new(50_000);
    world.run(9);
    let put = world.recording.next_put().unwrap();
    world.run(8 * 20);
    assert_eq!(world.recording.waiting(put.rendition, put.segment), Some(put.parts));
    world.recording.put_done(put.rendition, put.segment, true);
    assert_eq!(world.recording.index().find(put.rendition, put.segment).unwrap().media, Media::Stored);
}

#[test]
fn a_segment_that_waits_can_be_had_from_memory() {
    let mut world = World::new(1 << 20);
    world.run(9);
    let parts = world.recording.waiting(VIDEO, 0).unwrap();
    assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), 8_000);
    assert_eq!(world.recording.waiting_count(), 2);
    world.store();
    assert_eq!(world.recording.waiting(VIDEO, 0), None);
}

#[test]
fn a_recording_goes_on_where_it_was_left() {
    let mut world = World::new(1 << 20);
    world.run(20).store();
    let before = world.read();
    let pages = world.pages.clone();
    // Killed: what was open is gone, and the next run begins far behind with a new generation.
    let mut next = World::new(1 << 20);
    next.pages = pages;
    next.recording = Recording::new(1 << 20);
    next.recording.delegation(&show::permission(2).delegation);
    let numbers = crate::sequence::Numbers { number: 4_096, segment: 512, discontinuity: 64, media_ms: 0 };
    next.signer = Signer::new(show::stream(), show::packager(), 2, numbers);
    next.video.discontinuity = 64;
    next.audio.discontinuity = 64;
    let catalog = next.signer.tracks(&tracks(), NOW).unwrap();
    next.recording.catalog(&catalog);
    next.run(16);
    next.recording.goes_on_from(before, 1);
    next.end().store();
    let index = next.read();
    let video: Vec<u64> = World::segments(&index, VIDEO).into_iter().map(|(segment, _)| segment).collect();
    assert_eq!(video, [0, 1, 512, 513], "the open segment was lost with the program, and nothing else");
    assert_eq!(World::segments(next.recording.index(), VIDEO), World::segments(&index, VIDEO));
    believe(&next.pages);
}

#[test]
fn once_a_playlist_was_given_out_nothing_is_put_in_front_of_it() {
    let mut world = World::new(1 << 20);
    world.run(20).store();
    let before = world.read();
    for listed in [false, true] {
        let mut recording = Recording::new(1 << 20);
        recording.delegation(&show::permission(2).delegation);
        if listed {
            assert_eq!(recording.listed(VIDEO).count(), 0);
        }
        recording.goes_on_from(before.clone(), 1);
        assert_eq!(recording.listed(VIDEO).count(), if listed { 0 } else { 2 });
        assert_eq!(recording.index().spans(VIDEO).count(), 2, "the recording has it all the same");
    }
}

#[test]
fn a_damaged_page_is_found() {
    let mut world = World::new(1 << 20);
    world.run(80).store();
    let page = &world.pages[&0];
    let mut index = Index::default();
    for cut in [1, 3, 5, page.len() / 2, page.len() - 1] {
        assert!(journal::read_into(&page[..cut], &mut index).is_err(), "cut at {cut}");
    }
    let mut changed = page.to_vec();
    changed[4] ^= 0x40;
    assert!(journal::read_into(&changed, &mut index).is_err());
}

#[test]
fn what_is_counted_is_found_again_whenever_the_packager_is_killed() {
    let mut world = World::new(1 << 20);
    world.run(8 * 3);
    while let Some(put) = world.recording.next_put() {
        world.recording.put_done(put.rendition, put.segment, true);
        assert_eq!(world.recording.counts().stored, 0, "no page names it yet");
    }
    let (number, page) = world.recording.page().unwrap();
    assert_eq!(world.recording.counts().stored, 0, "the page is under way");
    world.pages.insert(number, page);
    world.recording.page_stored();
    let found = world.read().all().count() as u64;
    let counts = world.recording.counts();
    assert_eq!((counts.stored, counts.stored_bytes), (found, 8_000 * found));
    assert!(found >= 4, "{found}");
}
