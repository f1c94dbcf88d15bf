//! A stream that is for those alone whom its broadcaster gives a ticket: the whole way, private from origin to page.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in a test, a surprise shall be loud")]

use millstream_e2e::{
    api::Api,
    browser,
    media::PLAIN,
    pressure::Pressure,
    stack::{Created, PRICE_PER_GIB, Stack},
    tickets::TicketOffice,
    viewers::Watch,
};
use serde_json::json;

const VIEWERS: u32 = 3;

#[test]
fn who_has_a_ticket_watches_by_edges_and_nobody_else_gets_a_byte() {
    let stack = Stack::up(2).unwrap();
    let office = TicketOffice::open().unwrap();
    stack
        .api
        .post("/v1/accounts/show/fund", &json!({ "amount": 1_000_000_000, "transfer": "show" }))
        .unwrap();
    let wanted = json!({ "id": "show", "account": "show", "price_per_gib": PRICE_PER_GIB, "public": false,
        "ticket_key": office.key });
    let created: Created = serde_json::from_value(stack.api.post("/v1/streams", &wanted).unwrap()).unwrap();
    let _publisher = stack.push(&created, &PLAIN).unwrap();
    stack.on_air("show").unwrap();
    stack.edges(2).unwrap();

    let mut strangers = Watch::new(&stack.ready.tracker, "show", 3);
    strangers.viewers = VIEWERS;
    let strangers = strangers.start(stack.folder()).unwrap().report().unwrap();
    assert_eq!((strangers.bytes.edge, strangers.bytes.origin), (0, 0), "{strangers:?}");
    let refused = Api::new(&stack.ready.origin, "none").unwrap().fetch("/s/show/index.m3u8").unwrap_err();
    assert_eq!(refused.to_string(), "401", "the origin wants a token");

    let pressure = Pressure::begin();
    let mut guests = Watch::new(&stack.ready.tracker, "show", 8);
    guests.viewers = VIEWERS;
    guests.flags = vec!["--ticket-url".into(), office.url.clone()];
    let guests = guests.start(stack.folder()).unwrap().report().unwrap();
    assert_eq!(guests.stalls.count, 0, "{pressure}: {guests:?}");
    assert!(guests.bytes.edge > guests.bytes.origin, "{guests:?}");
    assert_eq!(office.given(), VIEWERS, "one for each");

    let page = format!("{}/watch/show?verify-key={}", stack.ready.tracker, created.root_public_key);
    let watch = |url: String, seconds: u32| {
        let script = browser::start("watch.mjs", &json!({ "url": url, "seconds": seconds }), stack.folder());
        script.unwrap().finish().unwrap()
    };
    let turned_away = watch(page.clone(), 5);
    assert_eq!(turned_away["played_parts"], 0, "{turned_away}");
    assert!(turned_away["errors"][0].as_str().unwrap().contains("ticket"), "it says why: {turned_away}");
    let seen = watch(format!("{page}&ticket-url={}", office.url), 12);
    eprintln!("{seen}");
    assert_eq!((&seen["mode"], &seen["errors"]), (&json!("swarm"), &json!([])), "{seen}");
    assert_eq!(seen["stalls"]["count"], 0, "{pressure}: {seen}");
    assert_eq!((&seen["parts_hashed_wrong"], &seen["parts_not_judged"]), (&json!(0), &json!(0)), "{seen}");
    assert!(seen["played_parts"].as_u64().unwrap() > 40, "{seen}");
}
