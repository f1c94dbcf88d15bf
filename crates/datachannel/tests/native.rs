//! Our own client and an edge, over real sockets on loopback.

use std::time::Duration;

use bytes::Bytes;
use millstream_datachannel::{
    Certificate, Channel, CloseReason, Connection, Listener, MESSAGE_BYTES_MAX, Message, SendError, dial,
    listen,
};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn listener() -> Listener {
    let config =
        listen::Config::new("127.0.0.1:0".parse().unwrap(), Certificate::generate().unwrap()).unwrap();
    Listener::bind(config).unwrap()
}

/// Both ends of a fresh connection: the viewer's, the edge's.
async fn connect(listener: &mut Listener, config: dial::Config) -> (Connection, Connection) {
    let address = listener.address().clone();
    let (viewer, edge) =
        timeout(PATIENCE, async { tokio::join!(dial(&address, config), listener.accept()) }).await.unwrap();
    (viewer.unwrap(), edge.unwrap())
}

async fn receive(connection: &Connection) -> Message {
    timeout(PATIENCE, connection.recv()).await.unwrap().expect("open")
}

async fn reason(connection: &Connection) -> CloseReason {
    timeout(PATIENCE, connection.closed()).await.unwrap()
}

/// A message whose bytes tell its number and where they stand.
fn message(number: u32, length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from((at + number as usize) % 251).unwrap()).collect()
}

#[tokio::test]
async fn both_channels_carry_full_messages_both_ways() {
    let mut listener = listener();
    let (viewer, edge) = connect(&mut listener, dial::Config::default()).await;
    for (from, to) in [(&viewer, &edge), (&edge, &viewer)] {
        for channel in [Channel::Control, Channel::Pieces] {
            for length in [0, 1, 1_200, 65_536, MESSAGE_BYTES_MAX] {
                let sent = message(7, length);
                from.send(channel, sent.clone()).await.unwrap();
                assert_eq!(receive(to).await, Message { channel, bytes: sent });
            }
        }
    }
    assert_eq!(listener.connections(), 1);
    let too_long = viewer.send(Channel::Control, message(0, MESSAGE_BYTES_MAX + 1)).await;
    assert_eq!(too_long, Err(SendError::TooLong(MESSAGE_BYTES_MAX + 1)));
}
