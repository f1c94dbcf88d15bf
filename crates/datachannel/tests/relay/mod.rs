//! A NAT in bad weather, for the tests of each file beside: viewers speak to its front, and to the edge it speaks from a
//! port that can change. It loses, delays and repeats datagrams as it is told.
#![allow(dead_code, reason = "no file needs all of it")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, sync::watch};

/// What the relay does with datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Loses one in so many, either way.
    Losing(u64),
    /// After so many, everything is lost for a moment, either way.
    Bursts {
        every: u64,
        lost: Duration,
    },
    /// Loses, repeats and overtakes one in so many each, either way.
    Unruly(u64),
    /// Loses everything.
    Silent,
}

/// Datagrams by which one that is late is overtaken.
const LATE_BY: u64 = 5;

pub(crate) struct Relay {
    pub(crate) front: SocketAddr,
    pub(crate) weather: watch::Sender<Weather>,
    /// How often it has changed its port.
    bindings: watch::Sender<u32>,
    /// Datagrams it has lost in silence.
    pub(crate) swallowed: watch::Receiver<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(edge: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let (weather, mut sky) = watch::channel(Weather::Fair);
        let (bindings, mut rebind) = watch::channel(0);
        let (swallow, swallowed) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut viewer = None;
            let (mut up, mut down) = (vec![0; 2_048], vec![0; 2_048]);
            let mut count = 0;
            let mut dark_until: Option<Instant> = None;
            // The one that is late: whether it goes up, when, and what it is.
            let mut late: Option<(bool, u64, Vec<u8>)> = None;
            loop {
                let (is_up, datagram) = tokio::select! {
                    _ = rebind.changed() => {
                        back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                        continue;
                    }
                    Ok((length, from)) = front.recv_from(&mut up) => {
                        viewer = Some(from);
                        (true, &up[..length])
                    }
                    Ok((length, _)) = back.recv_from(&mut down) => (false, &down[..length]),
                };
                let Some(viewer) = viewer else { continue };
                let send = async |is_up: bool, datagram: &[u8]| {
                    let (socket, to) = if is_up { (&back, edge) } else { (&front, viewer) };
                    let _ = socket.send_to(datagram, to).await;
                };
                count += 1;
                if let Some((is_up, _, datagram)) = late.take_if(|(_, at, _)| *at <= count) {
                    send(is_up, &datagram).await;
                }
                let weather = *sky.borrow_and_update();
                match weather {
                    Weather::Silent => {
                        swallow.send_modify(|count| *count += 1);
                        continue;
                    }
                    Weather::Losing(one_in) if count % one_in == 0 => continue,
                    Weather::Bursts { .. } if dark_until.is_some_and(|end| Instant::now() < end) => {
                        count -= 1;
                        continue;
                    }
                    Weather::Bursts { every, lost } if count % every == 0 => {
                        dark_until = Some(Instant::now() + lost);
                        continue;
                    }
                    Weather::Unruly(one_in) => match count % one_in {
                        0 => continue,
                        n if n == one_in / 3 => send(is_up, datagram).await,
                        n if n == one_in / 2 && late.is_none() => {
                            late = Some((is_up, count + LATE_BY, datagram.to_vec()));
                            continue;
                        }
                        _ => {}
                    },
                    _ => {}
                }
                send(is_up, datagram).await;
            }
        });
        Self { front: address, weather, bindings, swallowed, task }
    }

    pub(crate) fn rebind(&self) {
        self.bindings.send_modify(|bindings| *bindings += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
