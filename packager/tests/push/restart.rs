//! `kill -9`: what was used never comes again, and receivers go on believing.

use std::{path::Path, process::Stdio};

use millstream_model::PublicKey;
use millstream_playlist::check;
use millstream_wire::sign::{SecretKey, Signer as _};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::world::{KEY, Receiver, assert_clean, client, media, push, within};

/// The program itself, with a data folder that outlives it.
struct Program {
    child: Child,
    rtmp: String,
    origin: String,
}

impl Program {
    async fn start(data: &Path) -> Self {
        let local = format!("local=[{{ stream = \"demo\", key = \"{KEY}\" }}]");
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-packager"));
        for set in [
            &format!("data={}", data.display()),
            &local,
            "rtmp.listen=127.0.0.1:0",
            "origin.listen=127.0.0.1:0",
            "ops.listen=127.0.0.1:0",
            "log.format=json",
        ] {
            command.args(["--set", set]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready: serde_json::Value = loop {
            let line = within(lines.next_line()).await.unwrap().expect("it gets ready");
            assert!(!line.contains(KEY), "{line}");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "packager is ready" {
                break line;
            }
        };
        // Somebody has to take the log, or the program would wait.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { child, rtmp: format!("rtmp://{}/live/{KEY}", text("rtmp")), origin: text("origin") }
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        within(async {
            loop {
                let response = client().get(format!("{}/s/demo/{path}", self.origin)).send().await.unwrap();
                if response.status() == 200 {
                    return response.bytes().await.unwrap().to_vec();
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await; // waits because HTTP answers only when asked
            }
        })
        .await
    }

    /// Waits until `receiver` believes a video record of segment `segment` or later.
    async fn until_segment(&self, receiver: &mut Receiver, segments: u64) {
        let mut first = None;
        within(async {
            loop {
                receiver.start(&self.get("start").await);
                let segment = receiver.newest("video").segment;
                if segment >= *first.get_or_insert(segment) + segments {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await; // waits because HTTP answers only when asked
            }
        })
        .await;
    }
}

fn root(data: &Path) -> PublicKey {
    let seed = std::fs::read(data.join("root.key")).unwrap();
    SecretKey::from_seed(&seed.try_into().unwrap()).public()
}

#[tokio::test]
async fn after_a_kill_numbers_go_on_and_the_generation_is_higher() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = media(60, 20).await;
    let mut receiver: Option<Receiver> = None;
    let mut text: Option<String> = None;
    for round in 0..3 {
        let mut program = Program::start(&data).await;
        let mut encoder = push(&file, "3", &program.rtmp);
        let old = receiver.as_ref().map(|receiver| receiver.newest("video").clone());
        let receiver = receiver.get_or_insert_with(|| Receiver::new(root(&data)));
        program.until_segment(receiver, 2).await;
        let now = String::from_utf8(program.get("video.m3u8").await).unwrap();
        assert_clean(&check::media(&now), &now);
        if let Some(before) = text.replace(now.clone()) {
            assert_clean(&check::succession(&before, &now), &format!("{before}\n{now}"));
        }
        let new = receiver.newest("video");
        if let Some(old) = old {
            assert!(new.generation > old.generation, "round {round}");
            assert!(new.number > old.number && new.segment > old.segment);
            assert!(new.discontinuity > old.discontinuity);
            assert!(new.media_time.0 > old.media_time.0);
        }
        // SIGKILL: nothing is said, nothing is written.
        program.child.kill().await.unwrap();
        encoder.kill().await.unwrap();
    }
    use std::os::unix::fs::PermissionsExt as _;
    for key in ["packager.key", "root.key"] {
        let mode = std::fs::metadata(data.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[tokio::test]
async fn it_prints_its_configuration_and_refuses_what_it_does_not_know() {
    let run = |arguments: &'static [&'static str]| async move {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-packager"));
        within(command.args(arguments).stdin(Stdio::null()).output()).await.unwrap()
    };
    let printed = run(&["--print-config", "--set", "tracker.token=hunter2"]).await;
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("away_ms") && text.contains("[origin]") && !text.contains("hunter2"), "{text}");
    let refused = run(&["--set", "origin.lisen=127.0.0.1:0"]).await;
    assert!(!refused.status.success());
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("did you mean `listen`"), "{text}");
}
