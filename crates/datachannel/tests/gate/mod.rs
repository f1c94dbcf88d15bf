//! A NAT in front of an edge that lets a datagram in from where one has gone out to, and from nowhere else.
//!
//! Everything is on one machine, so the way out is a port for each outside address: what the edge sends to
//! [`Gate::towards`] that address leaves for it from the gate's front.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{net::UdpSocket, task::JoinSet};

pub(crate) struct Gate {
    /// Where the outside sees the edge, as long as the gate maps alike for everybody.
    pub(crate) front: SocketAddr,
    front_socket: Arc<UdpSocket>,
    edge: SocketAddr,
    /// Another port in front for each outside address.
    maps_per_destination: bool,
    ways: Arc<Mutex<HashMap<SocketAddr, Way>>>,
    /// Datagrams that were kept out.
    pub(crate) refused: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Way {
    inside: Arc<UdpSocket>,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) async fn start(edge: SocketAddr, maps_per_destination: bool) -> Self {
        let front_socket = Arc::new(bind().await);
        let mut gate = Self {
            front: front_socket.local_addr().unwrap(),
            front_socket: front_socket.clone(),
            edge,
            maps_per_destination,
            ways: Arc::default(),
            refused: Arc::default(),
            tasks: JoinSet::new(),
        };
        gate.let_in(front_socket);
        gate
    }

    /// What the edge must take for the outside address `peer`.
    pub(crate) async fn towards(&mut self, peer: SocketAddr) -> SocketAddr {
        let known = self.ways.lock().unwrap().get(&peer).cloned();
        if let Some(way) = known {
            return way.inside.local_addr().unwrap();
        }
        let way = Way { inside: Arc::new(bind().await), is_open: Arc::default() };
        self.ways.lock().unwrap().insert(peer, way.clone());
        let outside = if self.maps_per_destination {
            let own = Arc::new(bind().await);
            self.let_in(own.clone());
            own
        } else {
            self.front_socket.clone()
        };
        let address = way.inside.local_addr().unwrap();
        self.tasks.spawn(async move {
            let mut datagram = vec![0; 2_048];
            while let Ok((length, _)) = way.inside.recv_from(&mut datagram).await {
                way.is_open.store(true, Ordering::Relaxed);
                let _ = outside.send_to(&datagram[..length], peer).await;
            }
        });
        address
    }

    fn let_in(&mut self, outside: Arc<UdpSocket>) {
        let (ways, refused, edge) = (self.ways.clone(), self.refused.clone(), self.edge);
        self.tasks.spawn(async move {
            let mut datagram = vec![0; 2_048];
            while let Ok((length, from)) = outside.recv_from(&mut datagram).await {
                let way = ways.lock().unwrap().get(&from).cloned();
                match way.filter(|way| way.is_open.load(Ordering::Relaxed)) {
                    Some(way) => {
                        let _ = way.inside.send_to(&datagram[..length], edge).await;
                    }
                    None => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}
