//! OBS Studio, the encoder that most broadcasters have, as it is when nothing was set: on a screen that nobody sees.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use millstream_playlist::check;
use tokio::process::{Child, Command};

use crate::{
    playback::assert_readable,
    world::{KEY, PATIENCE, World, assert_clean, follow, within},
};

/// Of `SceneCollection`: one plain colour, which is media enough.
const SCENES: &str = r#"{
    "current_program_scene": "Scene", "current_scene": "Scene", "name": "Test",
    "scene_order": [{ "name": "Scene" }], "transitions": [], "groups": [], "quick_transitions": [],
    "sources": [
        { "id": "scene", "name": "Scene", "settings": { "id_counter": 1, "items": [
            { "id": 1, "name": "Colour", "visible": true, "pos": { "x": 0.0, "y": 0.0 }, "scale": { "x": 1.0, "y": 1.0 } }
        ] } },
        { "id": "color_source_v3", "name": "Colour", "settings": { "color": 4278255360, "width": 640, "height": 360 } }
    ]
}"#;

/// Its picture is small, so that a machine without a graphics card keeps up. All else is OBS's own choice.
const PROFILE: &str = "[General]\nName=Test\n[Output]\nMode=Simple\n[SimpleOutput]\nVBitrate=1000\nPreset=ultrafast\n\
                       [Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n";

/// No questions at the first start.
const GLOBAL: &str = "[General]\nFirstRun=true\nEnableAutoUpdates=false\n[Basic]\nProfile=Test\nProfileDir=Test\n\
                      SceneCollection=Test\nSceneCollectionFile=Test\n";

/// OBS that streams, and the screen that it is on. Gone when this is dropped.
struct Obs {
    home: PathBuf,
    screen: Child,
    program: Child,
}

impl Obs {
    async fn start(home: &Path, server: &str, key: &str) -> Self {
        let settings = home.join(".config/obs-studio");
        let profile = settings.join("basic/profiles/Test");
        for folder in [&profile, &settings.join("basic/scenes"), &home.join("run")] {
            fs::create_dir_all(folder).unwrap();
        }
        let service =
            serde_json::json!({ "type": "rtmp_custom", "settings": { "server": server, "key": key } });
        fs::write(profile.join("service.json"), service.to_string()).unwrap();
        fs::write(profile.join("basic.ini"), PROFILE).unwrap();
        fs::write(settings.join("global.ini"), GLOBAL).unwrap();
        fs::write(settings.join("basic/scenes/Test.json"), SCENES).unwrap();
        let (screen, display) = screen().await;
        let log = fs::File::create(home.join("obs.log")).unwrap();
        let mut command = Command::new("dbus-run-session");
        command
            .args(["--", "obs", "--startstreaming", "--multi", "--profile", "Test", "--collection", "Test"])
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("DISPLAY", display)
            .env("QT_QPA_PLATFORM", "xcb")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // Its own, so that the session's bus and OBS end together.
            .process_group(0);
        Self { home: home.to_owned(), screen, program: command.spawn().unwrap() }
    }

    /// Kills OBS itself, as a crash would; then the session around it ends by itself, and the screen with it.
    async fn kill(mut self) {
        let session = self.program.id().unwrap();
        let children = fs::read_to_string(format!("/proc/{session}/task/{session}/children")).unwrap();
        for child in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            if name.trim() == "obs" {
                let killed = Command::new("kill").args(["-KILL", child]).status().await.unwrap();
                assert!(killed.success());
            }
        }
        within(self.program.wait()).await.unwrap();
        self.screen.kill().await.unwrap();
    }

    fn said(&self) -> String {
        fs::read_to_string(self.home.join("obs.log")).unwrap_or_default()
    }
}

impl Drop for Obs {
    fn drop(&mut self) {
        for process in [&self.program, &self.screen] {
            if let Some(id) = process.id() {
                let group = format!("-{id}");
                // It may be gone by itself.
                let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
            }
        }
    }
}

/// A screen in memory on a number that is free.
async fn screen() -> (Child, String) {
    let mut command = Command::new("Xvfb");
    command
        .args(["-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut screen = command.spawn().unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(screen.stdout.take().unwrap()));
    let number = within(lines.next_line()).await.unwrap().expect("Xvfb says its number");
    (screen, format!(":{number}"))
}

#[tokio::test]
async fn obs_streams_and_comes_back_after_it_was_killed() {
    let world = World::start(|config| config.policy.away_ms = 30_000).await;
    let server = format!("rtmp://{}/live", world.addresses.rtmp);
    let home = tempfile::tempdir().unwrap();
    let obs = Obs::start(home.path(), &server, KEY).await;
    world.state("live").await;
    world.begun().await;
    let multivariant = world.text("index.m3u8").await;
    assert_clean(&check::multivariant(&multivariant), &multivariant);
    assert!(multivariant.contains("RESOLUTION=640x360,FRAME-RATE=30.000"), "{multivariant}");
    let (video, audio) = tokio::join!(follow(&world, "video", 20), follow(&world, "audio", 20));
    assert_clean(&check::together(&[&video, &audio]), &format!("{video}\n{audio}"));
    obs.kill().await;

    world.state("away").await;
    let obs = Obs::start(home.path(), &server, KEY).await;
    let back = async {
        loop {
            let text = follow(&world, "video", 4).await;
            let playlist = check::Playlist::parse(&text);
            if playlist.segments.last().is_some_and(|last| last.discontinuity == 1) {
                return text;
            }
        }
    };
    let back = tokio::time::timeout(PATIENCE, back).await;
    let text = back.unwrap_or_else(|_| panic!("{}", obs.said()));
    assert_readable(&world, "video", &text).await;
    obs.kill().await;
    assert!(world.stop().await.is_empty());
}
