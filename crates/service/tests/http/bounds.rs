//! What a client cannot take: heads, headers, time, places.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::{Request, Response, body::Incoming};
use millstream_service::{Tasks, http::Limits};
use tokio::io::AsyncWriteExt as _;

use crate::client::{Answer, connect, hello, listen, rest, send, streamed, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_head_beyond_its_bound_is_refused() {
    let tasks = Tasks::new();
    let limits = Limits { header_bytes_max: 1_000, headers_max: 10, ..Limits::default() };
    let (address, _) = listen(None, &limits, &tasks, hello).await;
    let mut client = connect(address).await;
    send(&mut client, &format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(1_000))).await;
    let text = rest(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");

    let mut client = connect(address).await;
    let many = (0..10).fold(String::new(), |mut text, at| {
        let _ = write!(text, "h{at}: x\r\n");
        text
    });
    send(&mut client, &format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    let text = rest(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");

    // An endless head without a line end.
    let mut client = connect(address).await;
    let endless = "x".repeat(64 * 1024);
    while client.write_all(endless.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_head_is_closed() {
    let tasks = Tasks::new();
    let limits = Limits { header_ms: 50, ..Limits::default() };
    let (address, counts) = listen(None, &limits, &tasks, hello).await;
    let mut silent = connect(address).await;
    let mut half = connect(address).await;
    send(&mut half, "GET / HTTP/1.1\r\nhost").await;
    let mut preface = connect(address).await;
    send(&mut preface, "PRI * HTTP/2.0\r\n").await;
    let mut idle = connect(address).await;
    send(&mut idle, GET).await;
    until(&mut idle, "hello").await;
    assert_eq!(rest(&mut silent).await, "");
    assert!(!rest(&mut half).await.contains("hello"));
    rest(&mut preface).await;
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(counts.open(), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_room_is_given_back() {
    let tasks = Tasks::new();
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let (address, counts) = listen(None, &limits, &tasks, hello).await;
    let mut seated = [connect(address).await, connect(address).await];
    for client in &mut seated {
        send(client, GET).await;
        until(client, "hello").await;
    }
    let mut third = connect(address).await;
    let _ = third.write_all(GET.as_bytes()).await;
    assert_eq!(rest(&mut third).await, "");
    assert_eq!(counts.refused(), 1);
    let registry = prometheus::Registry::new();
    counts.register(&registry, "origin").unwrap();
    for _scrape in 0..2 {
        let told = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "millstream_http_connections{listener=\"origin\"} 2",
            "millstream_http_connections_accepted_total{listener=\"origin\"} 2",
            "millstream_http_connections_refused_total{listener=\"origin\"} 1",
        ] {
            assert!(told.lines().any(|other| other == line), "{line} not in {told}");
        }
    }
    let [mut first, _second] = seated;
    first.shutdown().await.unwrap();
    rest(&mut first).await;
    let mut fourth = connect(address).await;
    send(&mut fourth, GET).await;
    until(&mut fourth, "hello").await;
    assert_eq!(counts.open(), 2);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let tasks = Tasks::new();
    let limits = Limits { stall_ms: 100, ..Limits::default() };
    let (senders, mut started) = tokio::sync::mpsc::unbounded_channel();
    let flood = move |_: Request<Incoming>| -> Answer {
        let (sender, body) = streamed();
        senders.send(sender).unwrap();
        Box::pin(async { Ok(Response::new(body)) })
    };
    let (address, counts) = listen(None, &limits, &tasks, flood).await;
    let mut client = connect(address).await;
    send(&mut client, GET).await;
    let sender = started.recv().await.unwrap();
    // Fails once the response is dropped, which is what this waits for.
    while sender.send(Bytes::from(vec![0; 64 * 1024])).await.is_ok() {}
    rest(&mut client).await;
    assert_eq!(counts.open(), 0);
}
