//! Packagers: who has a stream, what is believed of whom, and what a wrong line costs.

use millstream_model::{SessionId, StreamId};
use millstream_wire::{
    media::{Catalog, Media, Rendition},
    sign::{Context, SecretKey, Signed, Signer as _},
    tracker::{Admit, Admitted, GENERATION_STEP_MAX, PackagerReport, Published, State, StreamReport},
};
use serde_json::{Value, json};

use crate::world::World;

struct Packager {
    key: SecretKey,
    origin: &'static str,
}

const ONE: &str = "http://one.example";
const OTHER: &str = "http://other.example";

impl Packager {
    fn new(seed: u8, origin: &'static str) -> Self {
        Self { key: SecretKey::from_seed(&[seed; 32]), origin }
    }

    async fn ask(&self, world: &World, stream_key: &str, above: u32) -> (u16, Value) {
        let admit = Admit {
            stream_key: stream_key.to_owned(),
            packager: self.key.public(),
            origin: self.origin.to_owned(),
            generation: above,
        };
        world.post("/v1/packager/admit", &admit).await
    }

    /// The generation it is given.
    async fn admit(&self, world: &World, stream_key: &str) -> u32 {
        let (status, admitted) = self.ask(world, stream_key, 0).await;
        assert_eq!(status, 200, "{admitted}");
        let admitted: Admitted = serde_json::from_value(admitted).unwrap();
        admitted.delegation.unverified().generation
    }

    async fn say(&self, world: &World, lines: Vec<StreamReport>) -> Value {
        let report =
            PackagerReport { packager: self.key.public(), origin: self.origin.to_owned(), streams: lines };
        let (status, answer) = world.post("/v1/packager/report", &report).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

fn show() -> StreamId {
    "show".parse().unwrap()
}

fn line(generation: u32, state: State) -> StreamReport {
    let published = vec![Published { run: SessionId([1; 16]), bytes: 1_000 }];
    StreamReport { stream: show(), generation, state, catalog: None, published }
}

fn catalog(packager: &Packager, generation: u32, renditions: u8) -> Signed<Catalog> {
    let rendition = |n: u8| Rendition {
        id: millstream_model::RenditionId(n),
        name: format!("v{n}"),
        group: "video".into(),
        media: Media::Video { width: 640, height: 360, frame_rate_milli: 30_000 },
        codecs: "avc1.64001f".into(),
        bandwidth: millstream_model::BitRate(1_000_000),
        timescale: 90_000,
        target_duration_ms: 4_000,
        part_target_ms: 250,
        init: vec![7; 1_500].into(),
    };
    let catalog = Catalog {
        generation,
        version: 1,
        created: millstream_model::WallTime(1),
        ended: false,
        renditions: (0..renditions).map(rendition).collect(),
    };
    Signed::new(catalog, Context::Stream(&show()), &packager.key)
}

async fn stream(world: &World, id: &str) -> String {
    let (status, created) =
        world.post("/v1/streams", &json!({ "id": id, "account": "show", "public": true })).await;
    assert_eq!(status, 201, "{created}");
    created["stream_key"].as_str().unwrap().to_owned()
}

/// Where viewers are sent.
async fn origin(world: &World) -> Value {
    world.get("/v1/watch/show").await.1["origin"].clone()
}

#[tokio::test]
async fn a_packager_that_lost_its_encoder_says_nothing_of_the_stream_any_more() {
    let mut world = World::new().await;
    let key = stream(&world, "show").await;
    let (one, other) = (Packager::new(21, ONE), Packager::new(22, OTHER));
    let first = one.admit(&world, &key).await;
    one.say(&world, vec![line(first, State::Live)]).await;
    assert_eq!(origin(&world).await, ONE);
    assert_eq!(other.ask(&world, &key, 0).await.0, 409, "one at a time");

    one.say(&world, vec![line(first, State::Away)]).await;
    let second = other.admit(&world, &key).await;
    assert_eq!(origin(&world).await, OTHER, "from its admission on");
    for state in [State::Away, State::Live, State::Ended] {
        other.say(&world, vec![line(second, State::Live)]).await;
        one.say(&world, vec![line(first, state)]).await;
        assert_eq!(origin(&world).await, OTHER, "{state:?}");
    }
    assert_eq!(one.ask(&world, &key, 0).await.0, 409, "the other one is live");

    // A tracker that begins anew knows whom it was delegated to.
    world.restart().await;
    one.say(&world, vec![line(first, State::Live)]).await;
    assert_eq!(origin(&world).await, json!(null));
    other.say(&world, vec![line(second, State::Live)]).await;
    assert_eq!(origin(&world).await, OTHER);
}

#[tokio::test]
async fn the_end_of_a_show_is_not_the_end_of_the_next() {
    let world = World::new().await;
    let key = stream(&world, "show").await;
    let one = Packager::new(21, ONE);
    let first = one.admit(&world, &key).await;
    one.say(&world, vec![line(first, State::Ended)]).await;
    assert_eq!(origin(&world).await, json!(null));
    let second = one.admit(&world, &key).await;
    one.say(&world, vec![line(first, State::Ended)]).await;
    assert_eq!(origin(&world).await, ONE);
    // The answer to a question may get lost; the packager goes on with what it has.
    one.admit(&world, &key).await;
    one.say(&world, vec![line(second, State::Live)]).await;
    assert_eq!(origin(&world).await, ONE);
}

#[tokio::test]
async fn a_line_that_cannot_be_read_costs_no_other_and_only_its_catalog() {
    let world = World::new().await;
    let key = stream(&world, "show").await;
    let one = Packager::new(21, ONE);
    let generation = one.admit(&world, &key).await;
    let mut damaged = serde_json::to_value(line(generation, State::Live)).unwrap();
    damaged["catalog"] = json!("bm8gY2F0YWxvZw");
    let body = |lines: Vec<Value>| json!({ "packager": one.key.public(), "origin": ONE, "streams": lines });
    let (status, answer) = world
        .post("/v1/packager/report", &body(vec![json!({ "stream": 7 }), json!([]), json!("x"), damaged]))
        .await;
    assert_eq!((status, &answer["wanted"]), (200, &json!(["show"])));
    assert_eq!(origin(&world).await, ONE);
}

#[tokio::test]
async fn a_catalog_is_asked_for_until_it_is_there_however_many_renditions_it_has() {
    let world = World::new().await;
    let key = stream(&world, "show").await;
    let one = Packager::new(21, ONE);
    let generation = one.admit(&world, &key).await;
    assert_eq!(one.say(&world, vec![line(generation, State::Live)]).await["wanted"], json!(["show"]));
    let catalog = Some(catalog(&one, generation, 32));
    let told = StreamReport { catalog, ..line(generation, State::Live) };
    assert_eq!(one.say(&world, vec![told]).await["wanted"], json!([]));
    assert_eq!(one.say(&world, vec![line(generation, State::Live)]).await["wanted"], json!([]));
}

#[tokio::test]
async fn nobody_uses_up_a_streams_generations_and_a_slow_clock_believes_a_delegation() {
    let world = World::new().await;
    let key = stream(&world, "show").await;
    let one = Packager::new(21, ONE);
    let mut before = 0;
    for _ in 0..3 {
        let (status, admitted) = one.ask(&world, &key, u32::MAX).await;
        assert_eq!(status, 200, "{admitted}");
        let admitted: Admitted = serde_json::from_value(admitted).unwrap();
        let delegation = admitted.delegation.unverified();
        assert!((before + 1..=before + GENERATION_STEP_MAX + 1).contains(&delegation.generation));
        assert!(admitted.time.millis_since(delegation.not_before) >= 30 * 60_000);
        before = delegation.generation;
    }
}
