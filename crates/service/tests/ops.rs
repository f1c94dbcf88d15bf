//! The ops listener as an orchestrator, a scraper and an operator see it.
#![cfg(test)]

use std::net::SocketAddr;

use http::StatusCode;
use millstream_service::{
    Tasks,
    ops::{Config, Listener, html, json, text},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn bind() -> Listener {
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)) };
    Listener::bind(&config, "mill", "1.2.3").await.unwrap()
}

async fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, &format!("GET {path}")).await;
    (status, body)
}

#[tokio::test]
async fn ready_once_every_gate_is_open_and_no_longer_when_one_closes() {
    let tasks = Tasks::new();
    let ops = bind().await;
    let tracker = ops.gate("tracker", "not connected yet");
    let keys = ops.gate("keys", "not loaded");
    let address = ops.serve(&tasks);
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
    assert_eq!(get(address, "/readyz").await, (503, "keys: not loaded\ntracker: not connected yet\n".into()));
    keys.open();
    tracker.open();
    assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
    tracker.close("lost 3 s ago");
    assert_eq!(get(address, "/readyz").await, (503, "tracker: lost 3 s ago\n".into()));
}

#[tokio::test]
async fn metrics_of_the_program_and_its_process_are_told() {
    let tasks = Tasks::new();
    let ops = bind().await;
    let turns = prometheus::IntCounter::new("mill_turns_total", "turns of the wheel").unwrap();
    ops.registry().register(Box::new(turns.clone())).unwrap();
    let address = ops.serve(&tasks);
    turns.inc_by(7);
    let (status, head, body) = ask(address, "GET /metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    for line in ["mill_turns_total 7", "millstream_build{program=\"mill\",version=\"1.2.3\"} 1"] {
        assert!(body.lines().any(|other| other == line), "{line} not in {body}");
    }
    assert!(body.contains("\nprocess_cpu_seconds_total ") && body.contains("\nprocess_open_fds "), "{body}");
}

#[tokio::test]
async fn a_program_adds_its_own_routes() {
    let tasks = Tasks::new();
    let ops = bind()
        .await
        .route("/", |_| async { html("<h1>mill</h1>") })
        .route("/v1/status", |request| async move {
            json(&serde_json::json!({ "turns": 7, "query": request.uri.query() }))
        })
        .route("/broken", |_| async { text(StatusCode::BAD_GATEWAY, "no water\n") });
    let address = ops.serve(&tasks);
    assert_eq!(get(address, "/").await, (200, "<h1>mill</h1>".into()));
    assert_eq!(get(address, "/v1/status?a=b").await, (200, r#"{"query":"a=b","turns":7}"#.into()));
    assert_eq!(get(address, "/broken").await, (502, "no water\n".into()));
    assert_eq!(get(address, "/nowhere").await.0, 404);
    let (status, head, _) = ask(address, "POST /v1/status").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: GET, HEAD"), "{head}");
    assert_eq!(ask(address, "HEAD /v1/status").await.2, "");
}

#[tokio::test]
async fn without_a_page_of_its_own_the_routes_are_listed() {
    let tasks = Tasks::new();
    let address = bind().await.route("/v1/status", |_| async { html("") }).serve(&tasks);
    assert_eq!(get(address, "/").await, (200, "/healthz\n/metrics\n/readyz\n/v1/status\n".into()));
}

#[tokio::test]
async fn a_route_that_panics_costs_its_connection_alone() {
    let tasks = Tasks::new();
    let broken = |_| async { panic!("planted") };
    let address = bind().await.route("/broken", broken).serve(&tasks);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(get(address, "/healthz").await.0, 200);
}
