//! TLS with real handshakes: versions by ALPN, renewal of the files, clients that hang.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use millstream_service::{
    Tasks,
    http::{Limits, Tls, tls},
};
use rcgen::{CertifiedKey, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use crate::client::{connect, hello, listen, rest};

/// Writes a new certificate into `folder` and gives it.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([String::from("mill.test")]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn config(folder: &Path) -> tls::Config {
    tls::Config {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        ..tls::Config::default()
    }
}

/// A handshake by a client that trusts `root` alone.
async fn handshake(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    versions: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
    let name = ServerName::try_from("mill.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(address).await).await
}

#[tokio::test]
async fn http_2_is_spoken_where_the_client_offers_it_and_http_1_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let root = certify(folder.path());
    let tasks = Tasks::new();
    let tls = Tls::load(&config(folder.path())).unwrap();
    let (address, _) = listen(Some(tls), &Limits::default(), &tasks, hello).await;

    let stream = handshake(address, &root, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let talk = tokio::spawn(connection);
    let request = || hyper::Request::get("https://mill.test/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = sender.send_request(request()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");

    let stream = handshake(address, &root, &[]).await.unwrap();
    let (mut sender_1, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let talk_1 = tokio::spawn(connection);
    let response = sender_1.send_request(request()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");

    // Both kinds end in the drain.
    assert_eq!(tasks.shutdown(Duration::from_secs(30)).await, Vec::<String>::new());
    talk.await.unwrap().unwrap();
    talk_1.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let tasks = Tasks::new();
    let tls = Tls::load(&config(folder.path())).unwrap();
    let (address, _) = listen(Some(tls.clone()), &Limits::default(), &tasks, hello).await;
    handshake(address, &old, &[]).await.unwrap();
    assert!(!tls.reload().unwrap());

    let new = certify(folder.path());
    assert!(tls.reload().unwrap());
    handshake(address, &new, &[]).await.unwrap();
    handshake(address, &old, &[]).await.unwrap_err();

    // Half a renewal: a certificate whose key is not there yet.
    std::fs::write(folder.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("cert.pem with ") && error.contains("key.pem: "), "{error}");
    handshake(address, &new, &[]).await.unwrap();
}

#[tokio::test]
async fn the_files_are_looked_at_again_while_serving() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let tasks = Tasks::new();
    let tls = Tls::load(&tls::Config { reload_seconds: 1, ..config(folder.path()) }).unwrap();
    let (address, _) = listen(Some(tls), &Limits::default(), &tasks, hello).await;
    handshake(address, &old, &[]).await.unwrap();
    let new = certify(folder.path());
    // Ends when the new certificate is served; nextest ends it when it never is.
    while handshake(address, &new, &[]).await.is_err() {}
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_a_key_is_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let error = Tls::load(&config).unwrap_err().to_string();
    assert!(error.contains("cert.pem: cannot be read"), "{error}");
    certify(folder.path());
    std::fs::write(folder.path().join("key.pem"), "hunter2").unwrap();
    let error = Tls::load(&config).unwrap_err().to_string();
    assert!(error.contains("key.pem: holds none in PEM") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let tasks = Tasks::new();
    let limits = Limits { handshake_ms: 50, ..Limits::default() };
    let tls = Tls::load(&config(folder.path())).unwrap();
    let (address, counts) = listen(Some(tls), &limits, &tasks, hello).await;
    assert_eq!(rest(&mut connect(address).await).await, "");
    assert_eq!(counts.open(), 0);
}
