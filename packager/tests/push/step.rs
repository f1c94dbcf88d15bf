//! Whether what is seen and what is heard belong together at the far end: flashes and beeps that begin at once.

use std::{path::PathBuf, process::Stdio};

use crate::world::{World, ffmpeg, within};

/// Further apart than this, people notice.
const APART_MS_MAX: f64 = 45.0;

/// 20 s with a white picture and a beep in the first fifth of each second, H.264 with two B-frames and AAC; made once.
pub(crate) async fn media() -> PathBuf {
    made(2).await
}

/// The same without B-frames, as cameras send it.
pub(crate) async fn ordered() -> PathBuf {
    made(0).await
}

async fn made(b_frames: u32) -> PathBuf {
    let coding = format!(
        "-c:v libx264 -preset veryfast -g 60 -keyint_min 60 -sc_threshold 0 -bf {b_frames} -b:v 500k -c:a aac -b:a 96k"
    );
    coded(&format!("step-b{b_frames}.mp4"), &coding).await
}

/// The same in other codecs; made once under this name, whose end says in which container.
pub(crate) async fn coded(name: &str, coding: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("push-media");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    if !path.exists() {
        // Tests run at once: only a whole file gets the name.
        let own = tempfile::Builder::new().suffix(name).tempfile_in(&folder).unwrap().into_temp_path();
        let pictures = "nullsrc=s=320x180:r=30,geq=lum='if(lt(mod(T,1),0.2),235,16)':cb=128:cr=128";
        let sound = "aevalsrc='if(lt(mod(t,1),0.2),0.5*sin(880*2*PI*t),0)':s=48000";
        let made = ffmpeg(["-y", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound])
            .args(["-t", "20", "-pix_fmt", "yuv420p"])
            .args(coding.split_whitespace())
            .arg(&own)
            .status()
            .await
            .unwrap();
        assert!(made.success());
        own.persist(&path).unwrap();
    }
    path
}

/// Plays `seconds` from the origin and compares when flashes and beeps begin.
pub(crate) async fn assert_in_step(world: &World, seconds: u32) {
    let mut player =
        ffmpeg(["-loglevel", "info", "-i", &world.url("index.m3u8"), "-t", &seconds.to_string()]);
    player.args([
        "-vf",
        "blackdetect=d=0.3:pix_th=0.3",
        "-af",
        "silencedetect=n=-30dB:d=0.3",
        "-f",
        "null",
        "-",
    ]);
    let output = within(player.stderr(Stdio::piped()).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (flashes, beeps) = (times(&said, "black_end:"), times(&said, "silence_end: "));
    let mut pairs = 0;
    for flash in &flashes {
        let Some(apart) = beeps.iter().map(|beep| (beep - flash).abs() * 1_000.0).reduce(f64::min) else {
            break;
        };
        // The last one of either kind may lack its partner.
        if apart > 500.0 {
            continue;
        }
        assert!(apart <= APART_MS_MAX, "{apart} ms apart\n{said}");
        pairs += 1;
    }
    assert!(pairs + 3 >= seconds as usize, "only {pairs} flashes with beeps\n{said}");
    for complaint in ["error while decoding", "corrupt", "concealing", "Invalid"] {
        assert!(!said.contains(complaint), "{said}");
    }
}

fn times(said: &str, name: &str) -> Vec<f64> {
    said.split(name).skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}
