//! What a client gets: plain services, warp's routes, streams, upgrades.

use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use millstream_service::{
    Tasks,
    http::{self, Limits, Peer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warp::Filter as _;

use crate::client::{Answer, connect, listen, nothing, rest, say, send, streamed, until};

#[tokio::test]
async fn a_request_is_answered_and_the_service_knows_who_asks() {
    let tasks = Tasks::new();
    let who = |request: Request<Incoming>| {
        let peer = request.extensions().get::<Peer>().copied();
        say(format!("{:?}", peer.unwrap()))
    };
    let (address, counts) = listen(None, &Limits::default(), &tasks, who).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let expected = Peer { address: client.local_addr().unwrap(), tls: false };
    let text = rest(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(&format!("{expected:?}")), "{text}");
    assert_eq!((counts.accepted(), counts.refused(), counts.open()), (1, 0, 0));
}

#[tokio::test]
async fn routes_of_warp_are_served_and_know_who_asks() {
    let tasks = Tasks::new();
    let routes = warp::path!("hello" / String)
        .and(warp::ext::get::<Peer>())
        .map(|name: String, peer: Peer| format!("hello {name} from {}", peer.address.ip()));
    let listener = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    http::serve(listener, None, &Limits::default(), http::tower(warp::service(routes)), &tasks);
    let mut client = connect(address).await;
    send(&mut client, "GET /hello/mill HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let text = rest(&mut client).await;
    assert!(text.ends_with("hello mill from 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_long_response_arrives_while_it_is_made() {
    let tasks = Tasks::new();
    let (senders, mut started) = tokio::sync::mpsc::unbounded_channel();
    let feed = move |_: Request<Incoming>| -> Answer {
        let (sender, body) = streamed();
        senders.send(sender).unwrap();
        Box::pin(async { Ok(Response::new(body)) })
    };
    let (address, _) = listen(None, &Limits::default(), &tasks, feed).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let sender = started.recv().await.unwrap();
    sender.send("part 1".into()).await.unwrap();
    until(&mut client, "part 1\r\n").await;
    // Only now that the first has come is the second made.
    sender.send("part 2".into()).await.unwrap();
    until(&mut client, "part 2\r\n").await;
    drop(sender);
    until(&mut client, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_response_ends_when_its_client_goes_away() {
    let tasks = Tasks::new();
    let (senders, mut started) = tokio::sync::mpsc::unbounded_channel();
    let feed = move |_: Request<Incoming>| -> Answer {
        let (sender, body) = streamed();
        senders.send(sender).unwrap();
        Box::pin(async { Ok(Response::new(body)) })
    };
    let (address, counts) = listen(None, &Limits::default(), &tasks, feed).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let sender = started.recv().await.unwrap();
    sender.send("part 1".into()).await.unwrap();
    until(&mut client, "part 1\r\n").await;
    drop(client);
    // Nothing is being sent; the end of the connection alone tells.
    sender.closed().await;
    assert_eq!(tasks.shutdown(std::time::Duration::from_secs(30)).await, Vec::<String>::new());
    assert_eq!(counts.open(), 0);
}

/// Answers 101 and echoes what comes, until the client ends.
fn echo(mut request: Request<Incoming>) -> Answer {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            stream.write_all(&byte).await.unwrap();
        }
    });
    let mut response = Response::new(nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("echo"));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    Box::pin(async { Ok(response) })
}

#[tokio::test]
async fn an_upgraded_connection_talks_both_ways_and_keeps_its_place() {
    let tasks = Tasks::new();
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (address, counts) = listen(None, &limits, &tasks, echo).await;
    let mut client = connect(address).await;
    send(&mut client, "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    let head = until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    send(&mut client, "a").await;
    until(&mut client, "a").await;
    assert_eq!(counts.open(), 1);
    // It is still one of the connections: the only place is taken.
    assert_eq!(rest(&mut connect(address).await).await, "");
    send(&mut client, "b").await;
    until(&mut client, "b").await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(counts.open(), 0);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = http::bind(address).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}
