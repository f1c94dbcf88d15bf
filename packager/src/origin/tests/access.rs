//! Tokens, and pages of other sites.

use millstream_model::{PublicKey, SessionId};
use millstream_wire::{
    session::{Bearer, Token},
    sign::{Context, SecretKey, Signer as _},
};

use super::*;

fn token(bearer: Bearer) -> Token {
    Token { stream: show::stream(), bearer, expires: WallTime(u64::MAX / 2) }
}

fn session() -> Bearer {
    Bearer::Session(SessionId([7; 16]))
}

fn edge() -> Bearer {
    Bearer::Edge(PublicKey([9; 32]))
}

fn signed(token: Token, key: &SecretKey) -> String {
    Signed::new(token, Context::None, key).to_string()
}

async fn private_world(public: bool) -> World {
    let mut world = world(|_, _, permission| {
        permission.tracker = Some(show::tracker().public());
        permission.public = public;
    })
    .await;
    world.announce();
    world.run(9);
    world
}

impl World {
    async fn with(&self, path: &str, token: &str) -> Response {
        let request = self.client.get(format!("{}/{path}", self.url)).bearer_auth(token);
        request.send().await.unwrap()
    }
}

const EVERYTHING: [&str; 6] =
    ["index.m3u8", "video.m3u8", "video/init-1-1.mp4", "video/s0.m4s", "video/p1.m4s", "start"];

#[tokio::test]
async fn a_stream_that_is_not_public_wants_a_token_for_everything() {
    let world = private_world(false).await;
    let good = signed(token(session()), &show::tracker());
    for path in EVERYTHING {
        let got = world.get(path).await;
        assert_eq!((got.status().as_u16(), header(&got, "www-authenticate")), (401, "Bearer"), "{path}");
        assert_eq!(header(&got, "access-control-allow-origin"), "*", "pages must see the status");
        let got = world.with(path, &good).await;
        assert_eq!(got.status(), 200, "{path}");
        let cache = header(&got, "cache-control").to_owned();
        assert!(!cache.contains("public"), "{path}: {cache}");
    }
    assert_eq!(world.status("video/p99.m4s").await, 401, "what is not there is nobody's business either");
}

#[tokio::test]
async fn a_token_must_be_the_trackers_and_for_this_and_now() {
    let world = private_world(false).await;
    let elsewhere = millstream_model::StreamId::new("elsewhere").unwrap();
    let good = signed(token(session()), &show::tracker());
    let cases = [
        (signed(token(session()), &show::root()), 401),
        (signed(Token { stream: elsewhere, ..token(session()) }, &show::tracker()), 403),
        (signed(Token { expires: WallTime(NOW.0 - 1), ..token(session()) }, &show::tracker()), 401),
        (good[1..].to_owned(), 401),
        (format!("{good}AAAA"), 401),
        ("x".repeat(5_000), 401),
        (String::new(), 401),
        (good, 200),
    ];
    for (token, status) in cases {
        // Twice: what was found good is remembered, and nothing else.
        for _ in 0..2 {
            assert_eq!(world.with("video.m3u8", &token).await.status(), status, "{token}");
        }
    }
}

#[tokio::test]
async fn a_bad_token_shuts_nobody_out_of_a_public_stream() {
    let world = private_world(true).await;
    let expired = signed(Token { expires: WallTime(1), ..token(session()) }, &show::tracker());
    assert_eq!(world.with("video/p1.m4s", &expired).await.bytes().await.unwrap().len(), 1_000);
    assert_eq!(world.origin.sessions(10), [], "and counts for nobody");
}

#[tokio::test]
async fn feeds_want_an_edges_token_even_of_public_streams() {
    for public in [true, false] {
        let world = private_world(public).await;
        let path = "feed?rendition=video";
        assert_eq!(world.status(path).await, 401);
        assert_eq!(world.with(path, &signed(token(session()), &show::tracker())).await.status(), 403);
        assert_eq!(world.with(path, &signed(token(edge()), &show::tracker())).await.status(), 200);
        assert_eq!(world.with("start", &signed(token(edge()), &show::tracker())).await.status(), 200);
    }
}

#[tokio::test]
async fn a_session_is_known_by_its_token() {
    let world = private_world(false).await;
    let good = signed(token(session()), &show::tracker());
    let other = SessionId([8; 16]);
    world.with(&format!("video/p1.m4s?session={other}"), &good).await.bytes().await.unwrap();
    let sessions = world.origin.sessions(10);
    assert_eq!(
        sessions,
        [SessionBytes { session: SessionId([7; 16]), bytes: 1_000 }],
        "and not by what it claims"
    );
}

#[tokio::test]
async fn pages_of_other_sites_may_ask() {
    let world = private_world(false).await;
    let preflight = world
        .client
        .request(Method::OPTIONS, format!("{}/video.m3u8", world.url))
        .header("origin", "https://example.org")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization,range")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
    assert_eq!(header(&preflight, "access-control-allow-headers"), "Authorization, Range");
    assert_eq!(header(&preflight, "access-control-max-age"), "86400");
    assert_eq!(header(&preflight, "vary"), "Origin");
}

#[tokio::test]
async fn only_the_pages_that_are_allowed_may_ask() {
    let mut world = world(|config, _, _| config.allow_origins = vec!["https://example.org".into()]).await;
    world.announce();
    world.run(1);
    for (origin, allowed) in [("https://example.org", "https://example.org"), ("https://example.com", "")] {
        let got = world
            .client
            .get(format!("{}/video.m3u8", world.url))
            .header("origin", origin)
            .send()
            .await
            .unwrap();
        assert_eq!(got.status(), 200);
        assert_eq!(header(&got, "access-control-allow-origin"), allowed);
        assert_eq!(header(&got, "vary"), "Origin");
    }
}
