//! How serving ends: work in hand is finished, nothing new begins, what hangs is cut off.

use std::time::Duration;

use hyper::{Request, Response, body::Incoming};
use millstream_service::{Tasks, http::Limits};
use tokio::{net::TcpStream, sync::mpsc};

use crate::client::{Answer, connect, hello, listen, rest, send, streamed, until};

/// More than any of this takes; cut off is what the test would fail with.
const GRACE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_request_in_hand_is_finished_and_idle_connections_are_closed() {
    let tasks = Tasks::new();
    let drain = tasks.drain();
    let (asked, mut asking) = mpsc::unbounded_channel();
    let last_words = move |_: Request<Incoming>| -> Answer {
        asked.send(()).unwrap();
        let drain = drain.clone();
        Box::pin(async move {
            drain.begun().await;
            hello_response().await
        })
    };
    let (address, counts) = listen(None, &Limits::default(), &tasks, last_words).await;
    let mut never_used = connect(address).await;
    let mut busy = connect(address).await;
    send(&mut busy, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    asking.recv().await.unwrap();
    assert_eq!(counts.accepted(), 2);
    let (cut_off, text, nothing) =
        tokio::join!(tasks.shutdown(GRACE), rest(&mut busy), rest(&mut never_used));
    assert_eq!(cut_off, Vec::<String>::new());
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("hello"), "{text}");
    assert!(text.contains("connection: close"), "{text}");
    assert_eq!(nothing, "");
    TcpStream::connect(address).await.unwrap_err();
}

async fn hello_response() -> Result<Response<crate::client::Body>, std::convert::Infallible> {
    crate::client::say("hello").await
}

#[tokio::test]
async fn a_connection_kept_alive_does_not_hold_up_the_end() {
    let tasks = Tasks::new();
    let (address, _) = listen(None, &Limits::default(), &tasks, hello).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut client, "hello").await;
    assert_eq!(tasks.shutdown(GRACE).await, Vec::<String>::new());
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_response_without_end_is_cut_off_by_name() {
    let tasks = Tasks::new();
    let (senders, mut started) = mpsc::unbounded_channel();
    let feed = move |_: Request<Incoming>| -> Answer {
        let (sender, body) = streamed();
        senders.send(sender).unwrap();
        Box::pin(async { Ok(Response::new(body)) })
    };
    let (address, counts) = listen(None, &Limits::default(), &tasks, feed).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let sender = started.recv().await.unwrap();
    assert_eq!(tasks.shutdown(Duration::from_millis(50)).await, ["http connection"]);
    rest(&mut client).await;
    assert_eq!(counts.open(), 0);
    drop(sender);
}
