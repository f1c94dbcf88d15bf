//! Stories of tasks that finish, hang, panic and are dropped.

use std::future::pending;

use tokio::sync::oneshot;

use super::*;

/// Says through a channel that it was dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

fn dropped() -> (Dropped, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Dropped(Some(sender)), receiver)
}

async fn hang(guard: Dropped) {
    let _guard = guard;
    pending::<()>().await;
}

/// More than any of this takes.
const GRACE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn shutdown_waits_for_work_in_hand() {
    let tasks = Tasks::new();
    let drain = tasks.drain();
    let (go, may_go) = oneshot::channel();
    let (done, mut ended) = oneshot::channel();
    tasks.spawn("last words", async move {
        drain.begun().await;
        may_go.await.unwrap();
        let _ = done.send(());
    });
    let mut shutdown = std::pin::pin!(tasks.shutdown(GRACE));
    assert!(futures_util::poll!(shutdown.as_mut()).is_pending());
    tokio::task::yield_now().await;
    assert!(futures_util::poll!(shutdown.as_mut()).is_pending());
    assert!(ended.try_recv().is_err());
    go.send(()).unwrap();
    assert!(shutdown.await.is_empty());
    ended.await.unwrap();
}

#[tokio::test]
async fn shutdown_cuts_off_what_hangs_and_names_it() {
    let tasks = Tasks::new();
    let (first, first_gone) = dropped();
    let (second, second_gone) = dropped();
    tasks.spawn("feed", hang(first));
    tasks.spawn("feed", hang(second));
    tasks.spawn("clock", pending());
    tasks.spawn_until_drain("ticker", pending());
    let grace = Duration::from_millis(50);
    let start = std::time::Instant::now();
    assert_eq!(tasks.shutdown(grace).await, ["clock", "feed (2)"]);
    assert!(start.elapsed() >= grace);
    first_gone.await.unwrap();
    second_gone.await.unwrap();
}

#[tokio::test]
async fn dropping_the_owner_ends_the_tasks_and_later_ones_never_start() {
    let tasks = Tasks::new();
    let spawner = tasks.spawner();
    let (guard, gone) = dropped();
    tasks.spawn("feed", hang(guard));
    drop(tasks);
    gone.await.unwrap();
    let (guard, gone) = dropped();
    spawner.spawn("late", hang(guard));
    gone.await.unwrap();
    assert_eq!(spawner.count(), 0);
}

#[tokio::test]
async fn what_tells_of_the_drain_outlives_it_and_is_not_waited_for() {
    let tasks = Tasks::new();
    let teller = tasks.to_the_end();
    let (guard, mut gone) = dropped();
    teller.spawn("ops", hang(guard));
    let (done, may_end) = oneshot::channel::<()>();
    tasks.spawn("last words", async move { may_end.await.unwrap() });
    let (drain, end) = (tasks.drain(), teller.drain());
    let mut shutdown = std::pin::pin!(tasks.shutdown(GRACE));
    assert!(futures_util::poll!(shutdown.as_mut()).is_pending());
    tokio::task::yield_now().await;
    assert!(drain.has_begun() && !end.has_begun());
    assert!(gone.try_recv().is_err());
    done.send(()).unwrap();
    assert!(shutdown.await.is_empty());
    assert!(end.has_begun());
    gone.await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_its_own_task_alone_and_is_logged_with_its_name() {
    let log = crate::telemetry::Memory::default();
    let _guard = log.listen();
    let tasks = Tasks::new();
    tasks.spawn("bad", async { panic!("planted") });
    let (done, ended) = oneshot::channel();
    tasks.spawn("good", async move {
        let _ = done.send(());
    });
    ended.await.unwrap();
    assert!(tasks.shutdown(GRACE).await.is_empty());
    let text = log.text();
    assert!(text.contains("ERROR") && text.contains("a task panicked task=bad reason=\"planted\""), "{text}");
}

#[tokio::test]
async fn a_vital_task_that_ends_or_panics_is_told() {
    let tasks = Tasks::new();
    tasks.spawn_vital("accept", async {});
    assert_eq!(tasks.lost().await.0, "accept");
    let tasks = Tasks::new();
    tasks.spawn_vital("accept", async { panic!("planted") });
    assert_eq!(tasks.lost().await.0, "accept");
}

#[tokio::test]
async fn a_vital_task_may_end_in_the_drain() {
    let tasks = Tasks::new();
    let drain = tasks.drain();
    tasks.spawn_vital("accept", async move { drain.begun().await });
    tasks.begin_drain();
    let mut count = tasks.shared.count.subscribe();
    count.wait_for(|live| *live == 0).await.unwrap();
    assert!(tasks.lost().now_or_never().is_none());
}

#[tokio::test]
async fn an_owned_task_ends_with_its_handle() {
    let tasks = Tasks::new();
    let (guard, gone) = dropped();
    let owned = tasks.spawn_owned("session", hang(guard));
    assert!(!owned.has_ended());
    drop(owned);
    gone.await.unwrap();
}
