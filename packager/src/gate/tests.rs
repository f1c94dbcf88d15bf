//! Who is let in, and what is remembered of them.

use std::sync::Arc;

use millstream_service::data::Folder;
use millstream_wire::sign::Signer as _;

use super::*;
use crate::{ingest::Gate as _, sequence::Generations, show};

fn local(name: &str) -> LocalStream {
    LocalStream { stream: StreamId::new(name).unwrap(), key: Secret::new(format!("key-of-{name}")) }
}

fn gate(folder: &tempfile::TempDir, names: &[&str], streams_max: usize) -> Arc<Gate> {
    let folder = Arc::new(Folder::open(folder.path()).unwrap());
    let generations = Arc::new(Generations::open(folder).unwrap());
    let streams = names.iter().map(|name| local(name)).collect();
    let judge = Judge::Local(Local::new(streams, show::root(), generations));
    Arc::new(Gate::new(judge, show::packager().public(), Clock::start(), streams_max))
}

async fn admit(gate: &Arc<Gate>, key: &str) -> Result<String, String> {
    let key = StreamKey::parse(key).unwrap();
    let admitted = gate.admit(&key).await.map_err(|refusal| refusal.reason)?;
    Ok(admitted.stream.to_string())
}

#[tokio::test]
async fn a_key_of_the_configuration_is_good_for_its_stream() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder, &["one", "two"], 4);
    assert_eq!(admit(&gate, "key-of-two").await, Ok("two".into()));
    let refused = admit(&gate, "key-of-three").await.unwrap_err();
    assert!(!refused.contains("three"), "{refused}");
    let id = StreamId::new("two").unwrap();
    let first = gate.permission(&id).unwrap();
    assert_eq!(first.root, show::root().public());
    assert!(first.renew_at() > gate.time());
    let renewed = gate.renew(&id).await.unwrap();
    let generation = |permission: &Permission| permission.delegation.unverified().generation;
    assert_eq!((generation(&first), generation(&renewed)), (1, 2));
    gate.forget(&id);
    assert_eq!(gate.permission(&id), None);
    gate.renew(&id).await.unwrap_err();
}

#[tokio::test]
async fn streams_are_so_many_and_those_that_never_came_on_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(&folder, &["one", "two", "three"], 2);
    admit(&gate, "key-of-one").await.unwrap();
    admit(&gate, "key-of-two").await.unwrap();
    let full = admit(&gate, "key-of-three").await.unwrap_err();
    assert!(full.contains("2 streams"), "{full}");
    admit(&gate, "key-of-two").await.unwrap();
    let now = Clock::start().now();
    gate.forget_unused(now, |_| false);
    admit(&gate, "key-of-three").await.unwrap_err();
    let later = now + UNUSED + UNUSED;
    gate.forget_unused(later, |stream| stream.as_str() == "one");
    admit(&gate, "key-of-three").await.unwrap();
    assert!(gate.permission(&StreamId::new("one").unwrap()).is_some());
    assert!(gate.permission(&StreamId::new("two").unwrap()).is_none());
}

#[tokio::test]
async fn a_delegation_that_does_not_hold_is_not_used() {
    let now = show::NOW;
    let packager = show::packager().public();
    let good = show::permission(1);
    good.clone().check(&packager, now).unwrap();
    good.clone().check(&show::root().public(), now).unwrap_err();
    let cases = [
        Permission { root: show::tracker().public(), ..good.clone() },
        Permission { stream: StreamId::new("other").unwrap(), ..good.clone() },
    ];
    for case in cases {
        case.check(&packager, now).unwrap_err();
    }
    good.check(&packager, WallTime(u64::MAX)).unwrap_err();
}
