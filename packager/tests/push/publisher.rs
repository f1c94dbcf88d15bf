//! A WHIP publisher on `str0m`: a real clip's frames, sent as a browser sends them, with sender reports and repairs.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::header;
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    format::Codec,
    media::{Direction, MediaKind, MediaTime, Mid},
    net::{Protocol, Receive},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::sleep_until};

use crate::{
    cryptography,
    world::{ffmpeg, localhost},
};

/// Pictures a second.
const RATE: u64 = 30;

/// What is sent over and over: access units of H.264 in Annex B, and packets of Opus of 20 ms.
#[derive(Clone)]
pub(crate) struct Clip {
    pictures: Arc<[Bytes]>,
    sounds: Arc<[Bytes]>,
}

impl Clip {
    /// 20 s with a white picture and a beep in the first fifth of each second, no B-frames; made once.
    pub(crate) async fn load() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("push-media");
        std::fs::create_dir_all(&folder).unwrap();
        let pictures = "nullsrc=s=320x180:r=30,geq=lum='if(lt(mod(T,1),0.2),235,16)':cb=128:cr=128";
        let sound = "aevalsrc='if(lt(mod(t,1),0.2),0.5*sin(880*2*PI*t),0)':s=48000:c=stereo";
        let video = "-t 20 -c:v libx264 -preset veryfast -profile:v baseline -pix_fmt yuv420p -g 60 -keyint_min 60 \
                     -sc_threshold 0 -x264-params aud=1:repeat-headers=1:sliced-threads=0 -b:v 500k -f h264";
        let audio = "-t 20 -c:a libopus -b:a 64k -frame_duration 20 -f ogg";
        let video = made(&folder, "whip-20s.h264", pictures, video).await;
        let audio = made(&folder, "whip-20s.ogg", sound, audio).await;
        Self { pictures: access_units(&video), sounds: packets(&audio) }
    }
}

async fn made(folder: &std::path::Path, name: &str, source: &str, coding: &str) -> Vec<u8> {
    let path = folder.join(name);
    if !path.exists() {
        // Tests run at once: only a whole file gets the name.
        let own = tempfile::Builder::new().tempfile_in(folder).unwrap().into_temp_path();
        let mut maker = ffmpeg(["-y", "-f", "lavfi", "-i", source]);
        let made = maker.args(coding.split_whitespace()).arg(&own).status().await.unwrap();
        assert!(made.success());
        own.persist(&path).unwrap();
    }
    std::fs::read(path).unwrap()
}

/// Cuts at access unit delimiters.
fn access_units(stream: &[u8]) -> Arc<[Bytes]> {
    let starts: Vec<_> = stream.windows(5).enumerate().filter(|(_, at)| *at == [0, 0, 0, 1, 9]).collect();
    let starts: Vec<_> = starts.iter().map(|(at, _)| *at).chain([stream.len()]).collect();
    starts.windows(2).map(|unit| Bytes::copy_from_slice(&stream[unit[0]..unit[1]])).collect()
}

/// Takes packets out of Ogg pages (RFC 3533); the first two are headers.
fn packets(mut ogg: &[u8]) -> Arc<[Bytes]> {
    let (mut packets, mut open) = (Vec::new(), Vec::new());
    while ogg.len() >= 27 {
        assert_eq!(&ogg[..4], b"OggS");
        let count = usize::from(ogg[26]);
        let (table, mut body) = ogg[27..].split_at(count);
        for &length in table {
            open.extend_from_slice(&body[..usize::from(length)]);
            body = &body[usize::from(length)..];
            if length < 255 {
                packets.push(Bytes::from(std::mem::take(&mut open)));
            }
        }
        ogg = body;
    }
    packets.into_iter().skip(2).collect()
}

/// A publisher that sends until it is dropped.
pub(crate) struct Publisher {
    task: JoinHandle<()>,
    client: reqwest::Client,
    session: String,
    asked: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn connection(local: std::net::SocketAddr) -> (Rtc, SdpOffer, SdpPendingOffer, [Mid; 2]) {
    let (provider, certificate) = cryptography::provider().unwrap();
    let mut rtc = RtcConfig::new()
        .set_crypto_provider(provider)
        .set_dtls_cert(certificate)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_h264(true)
        .build(Instant::now());
    rtc.add_local_candidate(Candidate::host(local, "udp").unwrap());
    let mut changes = rtc.sdp_api();
    let video = changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let audio = changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    let (offer, pending) = changes.apply().unwrap();
    (rtc, offer, pending, [video, audio])
}

/// An offer of one who never connects.
pub(crate) fn offer() -> String {
    connection("127.0.0.1:9".parse().unwrap()).1.to_sdp_string()
}

impl Publisher {
    /// Publishes, and waits until it is connected. One datagram of `one_in` is lost; 0: none.
    pub(crate) async fn start(
        client: &reqwest::Client,
        endpoint: &str,
        key: &str,
        clip: Clip,
        one_in: u64,
    ) -> Self {
        let socket = UdpSocket::bind(localhost()).await.unwrap();
        let local = socket.local_addr().unwrap();
        let (mut rtc, offer, pending, mids) = connection(local);
        let request = client.post(endpoint).bearer_auth(key).header(header::CONTENT_TYPE, "application/sdp");
        let response = request.body(offer.to_sdp_string()).send().await.unwrap();
        assert_eq!(response.status(), 201);
        let session = response.headers()[header::LOCATION].to_str().unwrap();
        let session = format!("{}{session}", endpoint.strip_suffix("/whip").unwrap());
        let answer = SdpAnswer::from_sdp_string(&response.text().await.unwrap()).unwrap();
        rtc.sdp_api().accept_answer(pending, answer).unwrap();
        let (asked, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (connected, connection) = tokio::sync::oneshot::channel();
        let sender = Sender {
            rtc,
            socket,
            clip,
            mids,
            one_in,
            seed: 7,
            asked: Arc::clone(&asked),
            lost: Arc::clone(&lost),
            connected: Some(connected),
        };
        let task = tokio::spawn(sender.run());
        connection.await.expect("it connects");
        Self { task, client: client.clone(), session, asked, lost }
    }

    /// Ends its session by HTTP.
    pub(crate) async fn delete(&self) -> u16 {
        self.client.delete(&self.session).send().await.unwrap().status().as_u16()
    }

    pub(crate) fn keyframes_asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

struct Sender {
    rtc: Rtc,
    socket: UdpSocket,
    clip: Clip,
    mids: [Mid; 2],
    one_in: u64,
    seed: u64,
    asked: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    connected: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Sender {
    async fn run(mut self) {
        let local = self.socket.local_addr().unwrap();
        let mut datagram = vec![0; 2_048];
        let (mut start, mut pictures, mut sounds) = (None::<Instant>, 0_u64, 0_u64);
        while let Some(mut due) = self.settle().await {
            if self.connected.is_none() {
                let start = *start.get_or_insert_with(Instant::now);
                let picture = start + Duration::from_micros(pictures * 1_000_000 / RATE);
                let sound = start + Duration::from_millis(sounds * 20);
                let now = Instant::now();
                if picture <= now {
                    let time = MediaTime::from_90khz(pictures * 90_000 / RATE + 4_000_000_000);
                    self.write(Codec::H264, pictures, picture, time);
                    pictures += 1;
                    continue;
                }
                if sound <= now {
                    let time =
                        MediaTime::new(sounds * 960 + 77_000, str0m::media::Frequency::FORTY_EIGHT_KHZ);
                    self.write(Codec::Opus, sounds, sound, time);
                    sounds += 1;
                    continue;
                }
                due = due.min(picture).min(sound);
            }
            let received = tokio::select! {
                received = self.socket.recv_from(&mut datagram) => received.ok(),
                () = sleep_until(due.into()) => None, // waits because media has its own pace
            };
            let now = Instant::now();
            let input = received.and_then(|(length, from)| {
                let receive = Receive::new(Protocol::Udp, from, local, &datagram[..length]).ok()?;
                Some(Input::Receive(now, receive))
            });
            self.rtc.handle_input(input.unwrap_or(Input::Timeout(now))).unwrap();
        }
    }

    /// Frames of `number`, sent as if captured at `captured`.
    fn write(&mut self, codec: Codec, number: u64, captured: Instant, time: MediaTime) {
        let (mid, frames) = match codec {
            Codec::H264 => (self.mids[0], &self.clip.pictures),
            _ => (self.mids[1], &self.clip.sounds),
        };
        // As many pictures as sounds in a round, so that they stay in step.
        let round = if codec == Codec::H264 { 20 * RATE } else { 1_000 };
        let frame = &frames[usize::try_from(number % round).unwrap()];
        let writer = self.rtc.writer(mid).expect("it may send");
        let pt = writer.payload_params().find(|format| format.spec().codec == codec).unwrap().pt();
        writer.write(pt, captured, time, frame.to_vec()).unwrap();
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
    }

    /// When it wants to be asked again; `None` when it is over.
    async fn settle(&mut self) -> Option<Instant> {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) if !self.rtc.is_alive() => return None,
                Output::Timeout(due) => return Some(due),
                Output::Transmit(transmit) => {
                    self.seed ^= self.seed << 13;
                    self.seed ^= self.seed >> 7;
                    self.seed ^= self.seed << 17;
                    // Media alone, which has the first two bits set as it likes it (RFC 7983).
                    let is_media = transmit.contents[0] >= 128;
                    if is_media && self.one_in > 0 && self.seed.is_multiple_of(self.one_in) {
                        self.lost.fetch_add(1, Relaxed);
                        continue;
                    }
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination).await;
                }
                Output::Event(Event::Connected) => {
                    let _ = self.connected.take().map(|connected| connected.send(()));
                }
                Output::Event(Event::KeyframeRequest(_)) => {
                    self.asked.fetch_add(1, Relaxed);
                }
                Output::Event(_) => {}
            }
        }
    }
}
