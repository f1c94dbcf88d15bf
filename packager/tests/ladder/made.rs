//! The pipeline itself, fed faster than any publisher is: what changes within a stream, what the machine cannot carry.

use std::{process::Command, time::Duration};

use millstream_model::{RenditionId, WallTime};
use millstream_packager::{
    pipeline::{Pipeline, Pipelines as _, Remark},
    renditions::{Config, Ladders},
};
use millstream_segmenter::{Input, Media, Output, Part, Segmenter, Track, VIDEO};

use crate::{flv, world::stream};

/// Longer than any machine takes for what is done here.
const PATIENCE: Duration = Duration::from_secs(60);

fn ladders(renditions: &str, cores: f64) -> Ladders {
    let default = renditions.parse().unwrap();
    Ladders::new(Config { default, cpu_cores_max: cores, ..Config::default() }).unwrap()
}

/// Pictures of this size, 30 a second, and no sound.
fn encode(size: &str, seconds: u32) -> Vec<(Input, WallTime)> {
    let text = format!(
        "-v error -nostdin -f lavfi -t {seconds} -i testsrc2=size={size}:rate=30 -c:v libx264 -preset ultrafast \
         -threads 1 -pix_fmt yuv420p -g 60 -sc_threshold 0 -f flv pipe:1"
    );
    let made = Command::new("ffmpeg").args(text.split_whitespace()).output().expect("ffmpeg is installed");
    assert!(made.status.success(), "{made:?}");
    flv::read(&made.stdout)
}

/// The same, later.
fn later(inputs: Vec<(Input, WallTime)>, by_ms: i64) -> Vec<(Input, WallTime)> {
    let moved = inputs.into_iter().map(|(mut input, wall)| {
        if let Input::Sample(sample) = &mut input {
            sample.dts_ms += by_ms;
        }
        (input, wall.plus_millis(by_ms.unsigned_abs()))
    });
    moved.collect()
}

/// Everything that comes of a pipeline.
struct Made {
    /// Cuts the same without a ladder.
    straight: Segmenter,
    /// Parts of the publisher's own that there must be.
    expected: usize,
    outputs: Vec<Output>,
    remarks: Vec<Remark>,
}

impl Made {
    fn new() -> Self {
        let straight = Segmenter::new(millstream_segmenter::Config::default());
        Self { straight, expected: 0, outputs: Vec::new(), remarks: Vec::new() }
    }

    fn take(&mut self, pipeline: &mut dyn Pipeline) {
        self.outputs.extend(std::iter::from_fn(|| pipeline.poll()));
        self.remarks.extend(std::iter::from_fn(|| pipeline.remark()));
    }

    /// Feeds `inputs`; after each batch of `pace` waits until every rendition announced has what the publisher's has.
    async fn feed(&mut self, pipeline: &mut dyn Pipeline, inputs: Vec<(Input, WallTime)>, pace: usize) {
        let wake = pipeline.wake().unwrap();
        for (index, (input, wall)) in inputs.into_iter().enumerate() {
            self.straight.handle(input.clone(), wall);
            let parts = std::iter::from_fn(|| self.straight.poll());
            self.expected += parts.filter(|output| matches!(output, Output::Part(_))).count();
            pipeline.handle(input, wall);
            self.take(pipeline);
            while index % pace == 0 && !self.is_level() {
                tokio::time::timeout(PATIENCE, wake.notified()).await.expect("more comes");
                self.take(pipeline);
            }
        }
    }

    /// Waits until everything of a publisher that left is there.
    async fn settle(&mut self, pipeline: &mut dyn Pipeline) {
        let wake = pipeline.wake().unwrap();
        while pipeline.is_settling() {
            tokio::time::timeout(PATIENCE, wake.notified()).await.expect("it settles");
            self.take(pipeline);
        }
    }

    fn is_level(&self) -> bool {
        let tracks = self.tracks();
        let mut tracks = tracks.last().into_iter().copied().flatten();
        self.parts(VIDEO).len() == self.expected
            && tracks.all(|track| self.last(track.rendition) == self.last(VIDEO))
    }

    fn last(&self, rendition: RenditionId) -> Option<(u64, u16)> {
        self.parts(rendition).last().map(|part| (part.segment, part.part))
    }

    fn tracks(&self) -> Vec<&Vec<Track>> {
        let all = self.outputs.iter();
        all.filter_map(|output| match output {
            Output::Tracks(tracks) => Some(tracks),
            _ => None,
        })
        .collect()
    }

    fn parts(&self, rendition: RenditionId) -> Vec<&Part> {
        let all = self.outputs.iter();
        all.filter_map(|output| match output {
            Output::Part(part) if part.rendition == rendition => Some(part),
            _ => None,
        })
        .collect()
    }
}

fn sizes(tracks: &[Track]) -> Vec<(u16, u16)> {
    let size = |track: &Track| match track.media {
        Media::Video { width, height, .. } => Some((width, height)),
        Media::Audio { .. } => None,
    };
    tracks.iter().filter_map(size).collect()
}

/// Where a part stands.
fn place(part: &&Part) -> (u64, u16, u64, u32, bool, u32) {
    (part.segment, part.part, part.media_time.0, part.duration, part.first, part.discontinuity)
}

#[tokio::test]
async fn a_change_of_resolution_is_a_new_ladder_after_the_whole_of_the_old() {
    let mut pipeline = ladders("240p,144p", 16.0).begin(&stream(), millstream_segmenter::Config::default());
    let mut inputs = encode("640x360", 5);
    inputs.extend(later(encode("320x180", 5), 5_000));
    // And back, to a ladder that was there before.
    inputs.extend(later(encode("640x360", 5), 10_000));
    let mut made = Made::new();
    made.feed(&mut *pipeline, inputs, 8).await;
    pipeline.handle(Input::End, WallTime(0));
    made.settle(&mut *pipeline).await;
    made.take(&mut *pipeline);
    let sizes: Vec<Vec<(u16, u16)>> = made.tracks().into_iter().map(|tracks| sizes(tracks)).collect();
    let large = vec![(640, 360), (426, 240), (256, 144)];
    assert_eq!(sizes, [large.clone(), vec![(320, 180), (256, 144)], large]);
    assert_eq!(made.remarks, []);
    assert_eq!(made.outputs.last(), Some(&Output::Ended));
    let own: Vec<_> = made.parts(VIDEO).iter().map(place).collect();
    let (high, low) = (RenditionId(16), RenditionId(17));
    assert_eq!(made.parts(low).iter().map(place).collect::<Vec<_>>(), own, "in step all the way");
    let expected: Vec<_> = own.into_iter().filter(|place| place.5 != 1).collect();
    assert_eq!(
        made.parts(high).iter().map(place).collect::<Vec<_>>(),
        expected,
        "away while it was too large"
    );
    // Whatever is described comes after its description, and before the next.
    let mut described: Vec<RenditionId> = Vec::new();
    let mut continuity = None;
    for output in &made.outputs {
        match output {
            Output::Tracks(tracks) => {
                described = tracks.iter().map(|track| track.rendition).collect();
                continuity = None;
            }
            Output::Part(part) => {
                assert!(described.contains(&part.rendition));
                assert_eq!(*continuity.get_or_insert(part.discontinuity), part.discontinuity);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn encoders_that_do_not_keep_up_cost_their_own_renditions_and_nothing_else() {
    let mut pipeline =
        ladders("720p,144p", 1_000.0).begin(&stream(), millstream_segmenter::Config::default());
    let inputs = encode("1280x722", 20);
    let mut made = Made::new();
    // Twenty seconds at once: no encoder is so fast.
    made.feed(&mut *pipeline, inputs, usize::MAX).await;
    pipeline.handle(Input::Gone, WallTime(0));
    made.settle(&mut *pipeline).await;
    let own = made.parts(VIDEO);
    assert!(own.len() >= 60, "the publisher's own is whole: {}", own.len());
    let lacks = |remark: &Remark| matches!(remark, Remark::Lack { message, .. } if message.contains("720p is given up"));
    assert!(made.remarks.iter().any(lacks), "{:?}", made.remarks);
    // What did come of the others is in step.
    let all: Vec<_> = own.iter().map(place).collect();
    for rung in [16, 17] {
        let parts = made.parts(RenditionId(rung));
        assert!(parts.iter().map(place).all(|place| all.contains(&place)));
    }
}

#[tokio::test]
async fn ladders_share_the_cores_and_the_last_gets_what_is_left() {
    let ladders = ladders("240p,144p", 0.12);
    let mut made = [Made::new(), Made::new()];
    let mut pipelines = [
        ladders.begin(&stream(), millstream_segmenter::Config::default()),
        ladders.begin(&stream(), millstream_segmenter::Config::default()),
    ];
    for (made, pipeline) in made.iter_mut().zip(&mut pipelines) {
        made.feed(&mut **pipeline, encode("640x360", 3), 8).await;
    }
    let sizes = |made: &Made| sizes(made.tracks().last().unwrap());
    assert_eq!(sizes(&made[0]), [(640, 360), (426, 240), (256, 144)]);
    assert_eq!(sizes(&made[1]).first(), Some(&(640, 360)));
    assert!(sizes(&made[1]).len() < 3, "trimmed");
    let [Remark::Lack { message, advice }] = &made[1].remarks[..] else { panic!("{:?}", made[1].remarks) };
    assert!(message.contains("no cores are left for 240p"), "{message}");
    assert!(advice.contains("cpu_cores_max"), "{advice}");
    // What the first had is there for the next.
    drop(pipelines);
    let mut pipeline = ladders.begin(&stream(), millstream_segmenter::Config::default());
    let mut third = Made::new();
    third.feed(&mut *pipeline, encode("640x360", 3), 8).await;
    assert_eq!(sizes(&third).len(), 3);
}

#[tokio::test]
async fn pictures_that_cannot_be_decoded_cost_the_ladder_and_not_the_stream() {
    let mut pipeline = ladders("240p", 16.0).begin(&stream(), millstream_segmenter::Config::default());
    let mut inputs = encode("640x360", 6);
    for (input, _) in &mut inputs {
        if let Input::Sample(sample) = input {
            sample.data = vec![0x5a; sample.data.len()].into();
        }
    }
    let mut made = Made::new();
    made.feed(&mut *pipeline, inputs, usize::MAX).await;
    pipeline.handle(Input::Gone, WallTime(0));
    made.settle(&mut *pipeline).await;
    assert!(made.parts(VIDEO).len() > 15);
    assert!(made.parts(RenditionId(16)).is_empty());
}
