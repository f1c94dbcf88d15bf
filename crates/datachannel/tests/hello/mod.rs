//! A real ClientHello, for the tests of each file beside.

use std::time::Duration;

use millstream_datachannel::{Address, dial, stun};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Overheard from a viewer that dials a relay of this test.
pub(crate) async fn overhear(address: &Address) -> Vec<u8> {
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relayed = Address { socket: relay.local_addr().unwrap(), ..address.clone() };
    let viewer = tokio::spawn(async move { dial(&relayed, dial::Config::default()).await });
    let mut datagram = [0; 2_048];
    let hello = loop {
        let (length, from) = timeout(PATIENCE, relay.recv_from(&mut datagram)).await.unwrap().unwrap();
        if datagram[0] == 22 {
            break datagram[..length].to_vec();
        }
        let transaction = datagram[8..20].try_into().unwrap();
        relay.send_to(&stun::success(transaction, from, &address.password), from).await.unwrap();
    };
    viewer.abort();
    hello
}
