//! Viewers: joining, resuming, grants, vouchers; and everything that is refused.

use base64::Engine as _;
use millstream_model::TrackerId;
use millstream_wire::{
    session::{Bearer, Resume, Token},
    sign::{Context, SecretKey, SessionSecret, Signed, Signer as _},
    tracker::{FaultCode, FromViewer, ToViewer},
};
use serde_json::json;

use crate::world::{PRICE, ViewerLink, World, same_session, viewer, voucher};

fn code(answer: &ToViewer) -> FaultCode {
    match answer {
        ToViewer::Error(fault) => fault.code,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn a_viewer_gets_two_edges_and_a_grant_for_each() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_one, first) = world.edge(1).await;
    let (_two, second) = world.edge(2).await;
    let (_link, welcome) = world.welcome("show").await;
    let offered: Vec<_> = welcome.edges.iter().map(|offer| offer.id).collect();
    assert_eq!(offered.len(), 2);
    assert!(offered.contains(&first) && offered.contains(&second));
    for offer in &welcome.edges {
        let grant = offer.grant.unverified();
        assert_eq!((grant.edge, grant.key, grant.price.0), (offer.id, viewer().public(), PRICE));
        same_session(grant.session, welcome.session);
        assert!(grant.cap_bytes > 0);
        assert!(offer.grant.verify(&grant.tracker, Context::None).is_ok());
    }
    assert_eq!(welcome.token, None, "a public stream's origin asks for nothing");
}

#[tokio::test]
async fn a_voucher_is_booked_once_and_its_receipt_signed() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_edge_link, _) = world.edge(1).await;
    let (mut link, welcome) = world.welcome("show").await;
    let grant = welcome.edges[0].grant.unverified().clone();
    world.carry("show", (1 << 40) + (64 << 20)).await;
    let bytes = 1_000_000;
    for _ in 0..3 {
        link.say(&FromViewer::Voucher { voucher: voucher(&grant, bytes) }).await;
        let ToViewer::Receipt { receipt } = link.hear().await else { panic!("a receipt") };
        let receipt = receipt.verify(&grant.tracker, Context::None).unwrap().clone();
        assert_eq!(receipt.payable, bytes);
        assert_eq!(receipt.earned.0, i64::try_from((bytes * u64::from(PRICE)) >> 30).unwrap());
    }
    let (_, audit) = world.get("/v1/audit").await;
    assert_eq!((&audit["sum"], &audit["sound"]), (&json!(0), &json!(true)), "{audit}");
    let over = voucher(&grant, grant.cap_bytes + 1);
    link.say(&FromViewer::Voucher { voucher: over }).await;
    let ToViewer::Rejected { edge, reason } = link.hear().await else { panic!("refused") };
    assert_eq!(edge, grant.edge);
    assert!(reason.contains("granted"), "{reason}");
    let mut forged = voucher(&grant, bytes + 1).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    link.say(&FromViewer::Voucher { voucher: Signed::decode(forged.into()).unwrap() }).await;
    assert!(matches!(link.hear().await, ToViewer::Rejected { .. }));
}

#[tokio::test]
async fn a_grant_is_renewed_with_a_higher_serial() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_edge_link, edge) = world.edge(1).await;
    let (mut link, welcome) = world.welcome("show").await;
    let old = welcome.edges[0].grant.unverified().clone();
    link.say(&FromViewer::Renew { edge }).await;
    let ToViewer::Grants { grants, .. } = link.hear().await else { panic!("grants") };
    assert_eq!(grants[0].unverified().cap_bytes, old.cap_bytes, "nothing was used yet");
    world.carry("show", (1 << 40) + old.cap_bytes).await;
    let used = voucher(&old, old.cap_bytes / 4 * 3);
    link.say(&FromViewer::Voucher { voucher: used }).await;
    let answer = link.hear().await;
    assert!(matches!(answer, ToViewer::Receipt { .. }), "{answer:?}");
    link.say(&FromViewer::Renew { edge }).await;
    let ToViewer::Grants { grants, .. } = link.hear().await else { panic!("grants") };
    let new = grants[0].unverified();
    assert!(new.serial > old.serial && new.cap_bytes > old.cap_bytes && new.expires >= old.expires);
}

pub(crate) async fn resume(
    world: &World,
    welcome: &millstream_wire::tracker::Welcome,
    secret: &SessionSecret,
) -> (ViewerLink, ToViewer) {
    let mut link: ViewerLink = world.connect("viewer").await;
    let ToViewer::Challenge(challenge) = link.hear().await else { panic!("a challenge comes first") };
    let resume = Resume { tracker: challenge.tracker, nonce: challenge.nonce.0, session: welcome.session };
    let proof = Signed::new(resume, Context::None, secret);
    link.say(&FromViewer::Resume { certificate: welcome.certificate.clone(), proof }).await;
    let answer = link.hear().await;
    (link, answer)
}

#[tokio::test]
async fn a_session_is_resumed_by_its_key_alone() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (_edge_link, edge) = world.edge(1).await;
    let (link, welcome) = world.welcome("show").await;
    drop(link);
    let thief = SessionSecret::from_bytes(&[99; 32]).unwrap();
    assert_eq!(code(&resume(&world, &welcome, &thief).await.1), FaultCode::BadProof);
    let (mut link, answer) = resume(&world, &welcome, &viewer()).await;
    let ToViewer::Welcome(again) = answer else { panic!("{answer:?}") };
    same_session(again.session, welcome.session);
    assert_eq!(again.edges[0].id, edge, "it keeps its edge");
    link.say(&FromViewer::Leave).await;
    assert!(link.listen().await.is_none());
    assert_eq!(code(&resume(&world, &welcome, &viewer()).await.1), FaultCode::BadProof, "it left");
}

#[tokio::test]
async fn sessions_streams_and_the_book_survive_a_restart() {
    let mut world = World::new().await;
    let key = world.live("show", json!({})).await;
    let (edge_link, _) = world.edge(1).await;
    let (mut link, welcome) = world.welcome("show").await;
    world.carry("show", (1 << 40) + (64 << 20)).await;
    let grant = welcome.edges[0].grant.unverified().clone();
    link.say(&FromViewer::Voucher { voucher: voucher(&grant, 500_000) }).await;
    assert!(matches!(link.hear().await, ToViewer::Receipt { .. }));
    drop(edge_link);
    world.restart().await;
    assert!(matches!(link.listen().await, Some(ToViewer::Goaway { .. }) | None));
    assert_eq!(world.admit(&key).await.stream.as_str(), "show", "the stream key still opens");
    world.carry("show", (1 << 40) + (96 << 20)).await;
    let (_edge_link, _) = world.edge(1).await;
    let (mut link, answer) = resume(&world, &welcome, &viewer()).await;
    assert!(matches!(answer, ToViewer::Welcome(_)), "{answer:?}");
    link.say(&FromViewer::Voucher { voucher: voucher(&grant, 700_000) }).await;
    let ToViewer::Receipt { receipt } = link.hear().await else { panic!("a receipt") };
    assert_eq!(receipt.unverified().payable, 700_000);
    let (_, audit) = world.get("/v1/audit").await;
    assert_eq!(audit["sound"], true, "{audit}");
}

#[tokio::test]
async fn who_may_not_watch_is_told_why() {
    let world = World::new().await;
    assert_eq!(code(&world.join("nothing", None).await.1), FaultCode::UnknownStream);
    let offline = json!({ "id": "offline", "account": "show" });
    world.post("/v1/streams", &offline).await;
    assert_eq!(code(&world.join("offline", None).await.1), FaultCode::NotLive);
    let broadcaster = SecretKey::from_seed(&[40; 32]);
    world.live("members", json!({ "ticket_key": broadcaster.public() })).await;
    assert_eq!(code(&world.join("members", None).await.1), FaultCode::BadTicket);

    let ticket = ticket(&broadcaster, "members", "a");
    let (_link, answer) = world.join("members", Some(ticket.clone())).await;
    assert!(matches!(answer, ToViewer::Welcome(_)), "{answer:?}");
    assert_eq!(code(&world.join("members", Some(ticket)).await.1), FaultCode::BadTicket, "once");
}

/// A ticket for our viewer.
fn ticket(broadcaster: &SecretKey, stream: &str, jti: &str) -> String {
    let encode = |value: &serde_json::Value| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": stream, "key": viewer().public(), "jti": jti, "exp": seconds + 200 });
    let input = format!("{}.{}", encode(&json!({ "alg": "EdDSA", "typ": "JWT" })), encode(&claims));
    let signature =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(broadcaster.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

#[tokio::test]
async fn without_a_session_a_token_is_had_on_the_terms_of_one() {
    let world = World::new().await;
    let broadcaster = SecretKey::from_seed(&[40; 32]);
    world.live("show", json!({})).await;
    world.live("metered", json!({ "public": false })).await;
    world.live("members", json!({ "public": false, "ticket_key": broadcaster.public() })).await;
    let ask = async |stream: &str, ticket: Option<&str>| {
        let request = world.http.get(format!("{}/v1/watch/{stream}", world.url));
        let request = match ticket {
            Some(ticket) => request.bearer_auth(ticket),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "any page may ask");
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (status, public) = ask("show", None).await;
    assert_eq!((status, &public["token"]), (200, &json!(null)), "nobody asks for one there");
    let (status, metered) = ask("metered", None).await;
    assert_eq!(status, 200, "{metered}");
    let token: Signed<Token> = metered["token"].as_str().unwrap().parse().unwrap();
    let tracker = tracker_key(&world).await;
    let token = token.verify(&tracker, Context::None).unwrap();
    assert_eq!(token.stream.as_str(), "metered");
    assert!(matches!(token.bearer, Bearer::Session(_)), "it opens no feed: {token:?}");

    let (status, refused) = ask("members", None).await;
    assert_eq!((status, &refused["code"]), (403, &json!("bad_ticket")));
    let own = ticket(&broadcaster, "members", "a");
    let (status, member) = ask("members", Some(&own)).await;
    assert!(status == 200 && member["token"].is_string(), "{member}");
    assert_eq!(ask("members", Some(&own)).await.0, 403, "once");
    assert_eq!(code(&world.join("members", Some(own)).await.1), FaultCode::BadTicket, "here or there");
    assert_eq!(ask("members", Some(&ticket(&broadcaster, "show", "b"))).await.0, 403, "of another stream");

    let preflight = world.http.request("OPTIONS".parse().unwrap(), format!("{}/v1/watch/members", world.url));
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-headers"], "Authorization");
}

/// The tracker's key, as it tells everybody.
async fn tracker_key(world: &World) -> TrackerId {
    let mut link: ViewerLink = world.connect("viewer").await;
    match link.hear().await {
        ToViewer::Challenge(challenge) => challenge.tracker,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_funds_a_viewer_watches_without_edges() {
    let world = World::new().await;
    let wanted = json!({ "id": "poor", "account": "broke", "price_per_gib": PRICE });
    let (_, created) = world.post("/v1/streams", &wanted).await;
    world.admit(created["stream_key"].as_str().unwrap()).await;
    world.carry("poor", 1).await;
    let (_edge_link, _) = world.edge(1).await;
    let (_link, welcome) = world.welcome("poor").await;
    assert!(welcome.edges.is_empty(), "no reserve, no grant");
}

#[tokio::test]
async fn garbage_ends_nobodys_session_but_its_own() {
    let world = World::new().await;
    world.live("show", json!({})).await;
    let (mut good, _) = world.welcome("show").await;
    for text in ["", "{", "[]", "null", r#"{"type":"dance"}"#, r#"{"type":"join"}"#, &"x".repeat(60_000)] {
        let mut link: ViewerLink = world.connect("viewer").await;
        assert!(matches!(link.hear().await, ToViewer::Challenge(_)));
        link.say_text(text.to_owned()).await;
        assert_eq!(code(&link.hear().await), FaultCode::BadRequest, "{text:.20}");
    }
    let mut flood: ViewerLink = world.connect("viewer").await;
    flood.hear().await;
    // One more than ten seconds' worth.
    for _ in 0..=200 {
        flood.say_text("{}".into()).await;
    }
    let mut last = None;
    while let Some(message) = flood.listen().await {
        last = Some(message);
    }
    assert_eq!(code(&last.unwrap()), FaultCode::RateLimited);
    good.say(&FromViewer::Leave).await;
    assert!(good.listen().await.is_none());
}
