//! The ends of `webrtc` connections. They need an offer and an answer, which cross a connection of their own, a line of
//! JSON each way: it is on loopback and is not delayed by any path that is measured.
//!
//! Both ends trust what is signalled, and name no candidate but where the answering side is to be found.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, SettingEngineBuilder,
    },
};

use super::{MESSAGE_BYTES, PIECE, messages, say};
use crate::path;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source that sends nothing for so long is asked again, so many times.
const ASK_AGAIN: Duration = Duration::from_secs(2);
const ASKS_MAX: usize = 10;

/// One side of a connection, with both channels.
pub(super) struct Peer {
    connection: Box<dyn PeerConnection>,
    control: Arc<dyn DataChannel>,
    pieces: Arc<dyn DataChannel>,
    gathered: mpsc::Receiver<()>,
    /// What came when the source was asked.
    first: Mutex<Option<Bytes>>,
}

struct Gathering(mpsc::Sender<()>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Gathering {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.try_send(());
        }
    }
}

/// Answers whoever offers, and sends him as many bytes as he asks for.
pub(super) async fn source(ip: IpAddr, send_bytes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind((ip, 0)).await?;
    say(&json!({ "signal": listener.local_addr()?.to_string() }))?;
    let mut serving = tokio::task::JoinSet::new();
    loop {
        let (line, _) = listener.accept().await?;
        let peer = answer(line, ip, send_bytes).await?;
        serving.spawn(peer.serve());
        while serving.try_join_next().is_some() {}
    }
}

async fn answer(line: TcpStream, ip: IpAddr, send_bytes: usize) -> anyhow::Result<Peer> {
    let mut line = BufReader::new(line);
    let mut peer = Peer::new(ip, 256 * 1024, send_bytes).await?;
    let offer = RTCSessionDescription::offer(without_candidates(&read(&mut line).await?))?;
    peer.connection.set_remote_description(offer).await?;
    let answer = peer.connection.create_answer(None).await?;
    peer.connection.set_local_description(answer).await?;
    timeout(PATIENCE, peer.gathered.recv()).await?;
    let described = peer.connection.local_description().await.context("no description of ours")?;
    write(&mut line, &described.sdp).await?;
    Ok(peer)
}

impl Peer {
    async fn new(ip: IpAddr, window: u32, send_bytes: usize) -> anyhow::Result<Self> {
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(u32::try_from(MESSAGE_BYTES)?))
            .with_sctp_max_receive_buffer_size(window)
            .build();
        let (sender, gathered) = mpsc::channel(1);
        let connection = PeerConnectionBuilder::new()
            .with_handler(Arc::new(Gathering(sender)))
            .with_udp_addrs(vec![SocketAddr::new(ip, 0)])
            .with_setting_engine(settings)
            .with_data_channel_send_buffer_limit(send_bytes)
            .build()
            .await?;
        let negotiated =
            |id, ordered| Some(RTCDataChannelInit { negotiated: Some(id), ordered, ..Default::default() });
        let control = connection.create_data_channel("control", negotiated(0, true)).await?;
        let pieces = connection.create_data_channel("pieces", negotiated(1, false)).await?;
        Ok(Self { connection: Box::new(connection), control, pieces, gathered, first: Mutex::default() })
    }

    /// Offers to the source that is told of by `address`: where it answers offers, and maybe the path that leads to it.
    pub(super) async fn connect(address: &Value, window: u32) -> anyhow::Result<Self> {
        let signal: SocketAddr = address["signal"].as_str().context("no place for offers")?.parse()?;
        let peer = Self::new(signal.ip(), window, 256 * 1024).await?;
        let offer = peer.connection.create_offer(None).await?;
        peer.connection.set_local_description(offer.clone()).await?;
        let mut line = BufReader::new(TcpStream::connect(signal).await?);
        write(&mut line, &offer.sdp).await?;
        let mut answer = read(&mut line).await?;
        if let Some(via) = address["via"].as_str() {
            answer = led_over(&answer, via.parse()?)?;
        }
        peer.connection.set_remote_description(RTCSessionDescription::answer(answer)?).await?;
        for channel in [&peer.control, &peer.pieces] {
            opened(channel).await?;
        }
        Ok(peer)
    }

    pub(super) async fn ask(&self, bytes: u64) -> anyhow::Result<()> {
        // What is sent as soon as the channel is open is sometimes lost at the other end.
        for _ in 0..ASKS_MAX {
            self.control.send(BytesMut::from(bytes.to_string().as_bytes())).await?;
            if let Ok(piece) = timeout(ASK_AGAIN, self.recv()).await {
                *self.first.lock().unwrap_or_else(PoisonError::into_inner) = piece;
                return Ok(());
            }
        }
        bail!("the source does not hear")
    }

    pub(super) async fn recv(&self) -> Option<Bytes> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if first.is_some() {
            return first;
        }
        loop {
            match self.pieces.poll().await? {
                DataChannelEvent::OnMessage(message) => return Some(message.data.freeze()),
                DataChannelEvent::OnClose => return None,
                _ => {}
            }
        }
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close().await?)
    }

    async fn serve(self) {
        while let Some(event) = self.control.poll().await {
            let message = match event {
                DataChannelEvent::OnMessage(message) => message.data,
                DataChannelEvent::OnClose => break,
                _ => continue,
            };
            let wanted = std::str::from_utf8(&message).ok().and_then(|text| text.parse::<u64>().ok());
            for _ in 0..messages(wanted.unwrap_or(0)) {
                // It takes each message as a buffer of its own.
                if self.pieces.send(BytesMut::from(&PIECE[..])).await.is_err() {
                    break;
                }
            }
        }
        let _ = self.connection.close().await;
    }
}

async fn opened(channel: &Arc<dyn DataChannel>) -> anyhow::Result<()> {
    loop {
        match timeout(PATIENCE, channel.poll()).await.context("the channel does not open")? {
            Some(DataChannelEvent::OnOpen) => return Ok(()),
            Some(_) => {}
            None => bail!("the channel closed"),
        }
    }
}

/// Has the path lead to the candidate in `answer`, and writes the path's address in its place.
fn led_over(answer: &str, via: SocketAddr) -> anyhow::Result<String> {
    let candidate = answer.lines().find(|line| is_candidate(line)).context("an answer without candidate")?;
    let fields: Vec<&str> = candidate.split(' ').collect();
    let (Some(ip), Some(port)) = (fields.get(4), fields.get(5)) else { bail!("{candidate}") };
    path::lead(via, SocketAddr::new(ip.parse()?, port.parse()?))?;
    let moved = candidate
        .replacen(&format!(" {ip} {port} "), &format!(" {} {} ", via.ip(), via.port()), 1)
        .trim_end()
        .to_owned();
    let mut lines: Vec<&str> = answer.lines().filter(|line| !is_candidate(line)).collect();
    let end = lines.iter().position(|line| line.starts_with("a=end-of-candidates")).unwrap_or(lines.len());
    lines.insert(end, &moved);
    lines.push("");
    Ok(lines.join("\r\n"))
}

/// The other side learns from its checks where it is: so everything takes the path that it was given.
fn without_candidates(sdp: &str) -> String {
    sdp.lines().filter(|line| !is_candidate(line)).flat_map(|line| [line, "\r\n"]).collect()
}

fn is_candidate(line: &str) -> bool {
    line.starts_with("a=candidate:")
}

async fn read(line: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut text = String::new();
    timeout(PATIENCE, line.read_line(&mut text)).await??;
    Ok(serde_json::from_str(&text)?)
}

async fn write(line: &mut BufReader<TcpStream>, sdp: &str) -> anyhow::Result<()> {
    line.get_mut().write_all(format!("{}\n", Value::from(sdp)).as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_without_candidates_is_the_same_otherwise() {
        let offer = "v=0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=mid:0\r\n";
        assert_eq!(without_candidates(offer), "v=0\r\na=mid:0\r\n");
    }
}
