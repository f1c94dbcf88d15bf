//! A message that must arrive as it left.

use std::time::Duration;

use bytes::Bytes;
use millstream_datachannel::{Channel, Connection, Message};
use tokio::time::timeout;

/// Longer than any message takes here.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn deliver(from: &Connection, to: &Connection, channel: Channel, length: usize) {
    let bytes = Bytes::from(vec![5; length]);
    from.send(channel, bytes.clone()).await.unwrap();
    let message = timeout(PATIENCE, to.recv()).await.expect("the message comes");
    assert_eq!(message, Some(Message { channel, bytes }));
}
