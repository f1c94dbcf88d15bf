//! The HTTP API: who may, what is shown once, what is refused.

use millstream_wire::{sign::Signer as _, tracker::FromEdge};
use serde_json::json;

use crate::world::{World, voucher};

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
async fn a_broadcaster_changes_the_terms_and_pulls_the_hard_stop() {
    let mut world = World::new().await;
    world.live("show", json!({ "budget_per_day": 900_000_000 })).await;
    let (_edge, _) = world.edge(1).await;
    let (_viewer, welcome) = world.welcome("show").await;
    assert_eq!(welcome.edges.len(), 1);
    let (status, shown) =
        world.patch("/v1/streams/show", &json!({ "price_per_gib": 7, "stopped": true })).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!((&shown["price_per_gib"], &shown["stopped"]), (&json!(7), &json!(true)));
    assert_eq!(shown["budget_per_day"], json!(900_000_000), "what is left out stays");
    assert!(shown["reserved"].as_i64().unwrap() > 0);
    let (_viewer, stopped) = world.welcome("show").await;
    assert!(stopped.edges.is_empty(), "nobody is granted anything any more");

    let wish = json!({ "stopped": false, "public": false, "budget_per_day": null });
    let (_, shown) = world.patch("/v1/streams/show", &wish).await;
    assert_eq!((&shown["public"], &shown["budget_per_day"]), (&json!(false), &json!(null)));
    let (_viewer, again) = world.welcome("show").await;
    assert_eq!(again.edges[0].grant.unverified().price.0, 7);
    assert!(again.token.is_some(), "the origin wants one from now on");

    world.restart().await;
    let (_, kept) = world.get("/v1/streams/show").await;
    assert_eq!((&kept["price_per_gib"], &kept["public"]), (&json!(7), &json!(false)));
    assert_eq!(world.patch("/v1/streams/other", &json!({})).await.0, 404);
    assert_eq!(world.patch("/v1/streams/show", &json!({ "prise": 1 })).await.0, 400);
    assert_eq!(world.patch("/v1/streams/show", &json!({ "budget_per_day": -1 })).await.0, 400);
}

#[tokio::test]
async fn an_operator_reads_earnings_and_refusals() {
    let world = World::new().await;
    world.live_with("show", json!({}), 0).await;
    let (mut edge, id) = world.edge(1).await;
    let (_viewer, welcome) = world.welcome("show").await;
    world.carry("show", 1 << 30).await;
    let grant = welcome.edges[0].grant.unverified();
    for payable in [5_000_000, 1 << 40] {
        edge.say(&FromEdge::Voucher { voucher: voucher(grant, payable) }).await;
        edge.hear().await;
    }
    let (status, earned) = world.get(&format!("/v1/earnings/{id}")).await;
    assert_eq!(status, 200, "{earned}");
    let lines = earned["earnings"].as_array().unwrap();
    assert_eq!(
        (lines.len(), &lines[0]["bytes"], &lines[0]["earned"]),
        (1, &json!(5_000_000), &earned["balance"])
    );
    let epoch = &lines[0]["epoch"];
    let (_, older) = world.get(&format!("/v1/earnings/{id}?before={epoch}")).await;
    assert_eq!(older["earnings"], json!([]));
    let (status, refused) = loop {
        // A refusal is answered before it is on disk.
        let (status, refused) = world.get(&format!("/v1/edges/{id}/refusals")).await;
        if refused["refusals"] != json!([]) {
            break (status, refused);
        }
    };
    assert_eq!((status, &refused["refusals"][0]["code"]), (200, &json!("over_cap")), "{refused}");
    let at = &refused["refusals"][0]["at"];
    let (_, older) = world.get(&format!("/v1/edges/{id}/refusals?before={at}")).await;
    assert_eq!(older["refusals"], json!([]));
    assert_eq!(world.get("/v1/edges/nonsense/refusals").await.0, 400);
}

#[tokio::test]
async fn streams_are_listed_by_pages_and_a_removed_one_is_told_to_its_packager() {
    let world = World::new().await;
    for id in ["a", "b", "c"] {
        world.live(id, json!({})).await;
    }
    let names = |all: serde_json::Value| -> Vec<String> {
        all["streams"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(world.get("/v1/streams").await.1), ["a", "b", "c"]);
    assert_eq!(names(world.get("/v1/streams?after=a").await.1), ["b", "c"]);
    let delete = world.http.delete(format!("{}/v1/streams/b", world.url)).bearer_auth(&world.token);
    assert_eq!(delete.send().await.unwrap().status(), 200);
    let line = |id: &str| json!({ "stream": id, "generation": 1, "state": "live", "published": [] });
    let report = json!({
        "packager": crate::world::packager().public(), "origin": "http://127.0.0.1:9",
        "streams": [line("a"), line("b")],
    });
    let (status, answer) = world.post("/v1/packager/report", &report).await;
    assert_eq!((status, &answer["gone"]), (200, &json!(["b"])), "{answer}");
}

#[tokio::test]
async fn an_overview_is_made_once_a_second_however_often_it_is_asked_for() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_, first) = world.get("/v1/overview").await;
    for _ in 0..50 {
        let (_, again) = world.get("/v1/overview").await;
        if again["time"].as_u64().unwrap() >= first["time"].as_u64().unwrap() + 1_000 {
            break;
        }
        assert_eq!(again, first);
    }
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
