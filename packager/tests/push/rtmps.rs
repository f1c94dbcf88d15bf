//! RTMPS: real encoders behind TLS, and those that never get through the handshake.

use std::{net::SocketAddr, path::Path, process::Stdio};

use millstream_packager::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    codecs::ffmpeg_8,
    world::{KEY, World, follow, localhost, media, within},
};

async fn world(settings: impl FnOnce(&mut Config)) -> World {
    World::start(|config| {
        config.rtmp.tls.self_made = true;
        config.rtmp.tls.listen = localhost();
        settings(config);
    })
    .await
}

fn address(world: &World) -> SocketAddr {
    world.addresses.rtmps.unwrap()
}

fn url(world: &World) -> String {
    format!("rtmps://localhost:{}/live/{KEY}", address(world).port())
}

fn push(ffmpeg: &Path, file: &Path, arguments: &[&str], url: &str) -> Child {
    Command::new(ffmpeg)
        .args(["-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(file)
        .args(["-c", "copy"])
        .args(arguments)
        .args(["-f", "flv", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn ffmpeg_pushes_by_rtmps() {
    let world = world(|_| {}).await;
    let file = media(60, 20).await;
    // Debian's, which checks the certificate when it is told to.
    let trust = world.folder.path().join("rtmps.crt");
    let checks = ["-tls_verify", "1", "-ca_file", trust.to_str().unwrap()];
    let first = push(Path::new("ffmpeg"), &file, &checks, &url(&world));
    world.begun().await;
    follow(&world, "video", 12).await;
    drop(first);
    world.state("away").await;
    // Another one, with another TLS.
    let _second = push(&ffmpeg_8(), &file, &[], &url(&world));
    world.state("live").await;
    follow(&world, "video", 8).await;
}

#[tokio::test]
async fn gstreamer_pushes_by_rtmps() {
    let world = world(|_| {}).await;
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! x264enc key-int-max=60 tune=zerolatency speed-preset=ultrafast ! h264parse \
         ! flvmux name=mux streamable=true ! rtmp2sink tls-validation-flags=0 location={} \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux.",
        url(&world)
    );
    let _encoder = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    world.begun().await;
    follow(&world, "video", 12).await;
}

#[tokio::test]
async fn whoever_never_gets_through_the_handshake_holds_a_seat_no_longer_than_a_key_may_take() {
    let world = world(|config| {
        config.rtmp.handshake_timeout_ms = 300;
        config.rtmp.waiting_per_address_max = 1;
    })
    .await;
    for words in [&b""[..], b"\x03not TLS at all, but RTMP's first byte", &[0x16, 3, 1, 0x40, 0]] {
        let mut silent = TcpStream::connect(address(&world)).await.unwrap();
        silent.write_all(words).await.unwrap();
        // The seat is taken: the next one is closed at once, without a word.
        let mut rest = Vec::new();
        let turned_away = async {
            let mut other = TcpStream::connect(address(&world)).await.unwrap();
            other.read_to_end(&mut Vec::new()).await
        };
        if words.is_empty() {
            assert_eq!(within(turned_away).await.unwrap(), 0);
        }
        let _ = within(silent.read_to_end(&mut rest)).await;
    }
    // Then there is room again.
    let _encoder = push(Path::new("ffmpeg"), &media(60, 20).await, &[], &url(&world));
    world.begun().await;
}
