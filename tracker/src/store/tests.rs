//! The store's tests, on real files.

use std::os::unix::fs::MetadataExt as _;

use millstream_ledger::Name;
use millstream_model::{PublicKey, StreamId, WallTime};
use millstream_service::Secret;

use super::*;

fn row(id: &str, key: &str) -> StreamRow {
    StreamRow {
        id: id.parse().unwrap(),
        account: Name::new("acme").unwrap(),
        key_hash: hash_key(key),
        root_seed: Secret::new([5; 32]),
        public: true,
        ticket_key: None,
        generation: 1,
        created: WallTime(7),
    }
}

#[tokio::test]
async fn nobody_else_can_read_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_stream(row("demo", "k1")).await.unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(folder.path().join("tracker.db-wal").exists());
}

#[tokio::test]
async fn streams_come_back_and_neither_name_nor_key_is_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    store.add_stream(row("demo", "k1")).await.unwrap();
    assert!(matches!(store.add_stream(row("demo", "k2")).await, Err(Error::Exists)));
    assert!(matches!(store.add_stream(row("other", "k1")).await, Err(Error::Exists)));
    let newer =
        StreamRow { generation: 5, public: false, ticket_key: Some(PublicKey([4; 32])), ..row("demo", "k1") };
    store.put_stream(newer.clone()).await.unwrap();
    store.put_stream(StreamRow { generation: 3, ..newer.clone() }).await.unwrap();
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.streams().await.unwrap(), [newer], "a generation only goes up");
    let demo: StreamId = "demo".parse().unwrap();
    assert!(store.remove_stream(&demo).await.unwrap());
    assert!(!store.remove_stream(&demo).await.unwrap());
    assert_eq!(store.streams().await.unwrap(), []);
}

#[tokio::test]
async fn a_stream_key_is_stored_as_a_hash_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let key = "hx3l4kfj9s8d7f6g5h4j3k2l1m0";
    store.add_stream(row("demo", key)).await.unwrap();
    drop(store);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
    }
    assert_eq!(hash_key(key), hash_key(key));
    assert_ne!(hash_key(key), millstream_wire::sign::sha256(key.as_bytes()));
}

#[tokio::test]
async fn a_ticket_is_used_once_also_after_a_restart_and_forgotten_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let (demo, other): (StreamId, StreamId) = ("demo".parse().unwrap(), "other".parse().unwrap());
    assert!(store.spend_ticket(&demo, "a", WallTime(300), WallTime(0)).await.unwrap());
    assert!(store.spend_ticket(&other, "a", WallTime(300), WallTime(0)).await.unwrap());
    assert!(!store.spend_ticket(&demo, "a", WallTime(300), WallTime(0)).await.unwrap());
    drop(store);
    let store = Store::open(folder.path()).await.unwrap();
    assert!(!store.spend_ticket(&demo, "a", WallTime(300), WallTime(300)).await.unwrap());
    assert!(store.spend_ticket(&demo, "b", WallTime(700), WallTime(301)).await.unwrap());
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM tickets").fetch_one(&store.readers).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn of_one_ticket_used_many_times_at_once_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut using = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        let demo: StreamId = "demo".parse().unwrap();
        using.spawn(async move { store.spend_ticket(&demo, "a", WallTime(300), WallTime(0)).await.unwrap() });
    }
    assert_eq!(using.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn settings_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    assert_eq!(store.setting("colour").await.unwrap(), None);
    store.put_setting("colour", "green".into()).await.unwrap();
    store.put_setting("colour", "blue".into()).await.unwrap();
    assert_eq!(store.setting("colour").await.unwrap().as_deref(), Some("blue"));
}

#[tokio::test]
async fn the_disk_is_asked_for_what_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.readers).await.unwrap();
    let keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&store.readers).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.readers).await.unwrap();
    assert_eq!((mode.as_str(), keys, synchronous), ("wal", 1, 2));
    let written = sqlx::query("DELETE FROM settings").execute(&store.readers).await;
    assert!(written.is_err(), "readers cannot write");
}

#[tokio::test]
async fn a_refused_change_harms_none_that_is_written_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let mut adding = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        // Every other key is taken.
        adding.spawn(
            async move { store.add_stream(row(&format!("s{n}"), &format!("k{}", n / 2))).await.is_ok() },
        );
    }
    let added = adding.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!((added, store.streams().await.unwrap().len()), (50, 50));
}
