//! The HTTP API: who may, what is shown once, what is refused.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_stream_key_is_shown_once_and_opens_only_its_stream() {
    let world = World::new().await;
    let wanted = json!({ "id": "show", "account": "show" });
    let (status, created) = world.post("/v1/streams", &wanted).await;
    assert_eq!(status, 201);
    let key = created["stream_key"].as_str().unwrap();
    let (_, shown) = world.get("/v1/streams/show").await;
    assert_eq!(shown["stream_key"], json!(null));
    assert_eq!(shown["root_public_key"], created["root_public_key"]);
    let (_, all) = world.get("/v1/streams").await;
    assert_eq!(all["streams"].as_array().unwrap().len(), 1);
    let database = std::fs::read(world.data.path().join("tracker.db")).unwrap();
    assert!(!database.windows(key.len()).any(|window| window == key.as_bytes()), "it is stored hashed");
    assert_eq!(world.post("/v1/streams", &wanted).await.0, 409);

    let first = world.admit(key).await;
    let second = world.admit(key).await;
    let (one, two) = (first.delegation.unverified(), second.delegation.unverified());
    assert!(two.generation > one.generation, "each delegation is above the one before");
    let admit = json!({
        "stream_key": "wrong", "packager": one.packager, "origin": "http://127.0.0.1:9", "generation": 0
    });
    let (status, refusal) = world.post("/v1/packager/admit", &admit).await;
    assert_eq!((status, &refusal["code"]), (403, &json!("bad_key")));
}

#[tokio::test]
async fn a_removed_stream_is_gone() {
    let world = World::new().await;
    world.post("/v1/streams", &json!({ "id": "show", "account": "show" })).await;
    let delete = world.http.delete(format!("{}/v1/streams/show", world.url)).bearer_auth(&world.token);
    assert_eq!(delete.send().await.unwrap().status(), 200);
    assert_eq!(world.get("/v1/streams/show").await.0, 404);
    assert_eq!(world.post("/v1/streams", &json!({ "id": "show", "account": "show" })).await.0, 201);
}

#[tokio::test]
async fn nothing_but_the_token_opens_the_api() {
    let world = World::new().await;
    for (method, path) in [("GET", "/v1/streams"), ("GET", "/v1/sessions"), ("POST", "/v1/packager/report")] {
        for token in ["", "wrong", &world.token[1..]] {
            let method = method.parse().unwrap();
            let request = world.http.request(method, format!("{}{path}", world.url));
            let answer = request.bearer_auth(token).json(&json!({})).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
    }
    let overview = world.http.get(format!("{}/v1/overview", world.url)).send().await.unwrap();
    assert_eq!(overview.status(), 200);
}

#[tokio::test]
async fn a_wrong_request_says_what_would_be_right() {
    let world = World::new().await;
    let cases = [
        (json!({ "id": "Show", "account": "a" }), 400, "slug"),
        (json!({ "id": "show" }), 400, "account"),
        (json!({ "id": "show", "account": "a", "prise_per_gib": 1 }), 400, "prise_per_gib"),
        (json!({ "id": "show", "account": "a/b" }), 400, "name"),
    ];
    for (body, status, word) in cases {
        let (got, answer) = world.post("/v1/streams", &body).await;
        assert_eq!(got, status, "{body}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer}");
    }
    let (status, answer) = world.get("/v1/nothing").await;
    assert_eq!(status, 404);
    assert!(answer["message"].as_str().unwrap().contains("openapi"));
    let huge = json!({ "id": "x".repeat(300_000), "account": "a" });
    assert_eq!(world.post("/v1/streams", &huge).await.0, 413);
}

#[tokio::test]
async fn money_is_added_once_for_each_payment() {
    let world = World::new().await;
    let funds = json!({ "amount": 5_000, "transfer": "invoice-1" });
    for _ in 0..2 {
        let (status, answer) = world.post("/v1/accounts/show/fund", &funds).await;
        assert_eq!((status, &answer["balance"]), (200, &json!(5_000)), "{answer}");
    }
    let other = json!({ "amount": 6_000, "transfer": "invoice-1" });
    assert_eq!(world.post("/v1/accounts/show/fund", &other).await.0, 400);
}

#[tokio::test]
async fn the_description_names_every_route() {
    let world = World::new().await;
    let (_, openapi) = world.get("/v1/openapi.json").await;
    let described: Vec<&String> = openapi["paths"].as_object().unwrap().keys().collect();
    let source = include_str!("../../src/api/mod.rs");
    for path in source.split("warp::path!(").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let parts: Vec<&str> = path.split('/').map(|part| part.trim().trim_matches('"')).collect();
        let fits = |described: &&&String| {
            let theirs: Vec<&str> = described.trim_start_matches('/').split('/').collect();
            theirs.len() == parts.len()
                && theirs
                    .iter()
                    .zip(&parts)
                    .all(|(a, b)| a == b || (a.starts_with('{') && matches!(*b, "String" | "u64")))
        };
        assert!(described.iter().any(|path| fits(&path)), "{path} is not in openapi.json");
    }
}

#[tokio::test]
async fn pages_and_the_player_are_served_with_a_policy() {
    let world = World::new().await;
    for path in ["/", "/watch/show", "/assets/style.css", "/sdk/millstream.full.js"] {
        let answer = world.http.get(format!("{}{path}", world.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let tag = answer.headers()["etag"].clone();
        let again = world.http.get(format!("{}{path}", world.url)).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304, "{path}");
    }
    let bad = world.http.get(format!("{}/watch/No%20Slug", world.url)).send().await.unwrap();
    assert_eq!(bad.status(), 404);
}
