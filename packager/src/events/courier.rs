//! Brings what waits to one webhook. Does what the queue says, and decides nothing but what an answer means.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_model::Instant;
use millstream_service::{Trust, tasks::Drain, trust};
use reqwest::{
    StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::{
    Metrics,
    event::Kind,
    queue::{Answer, Bounds, Delivery, Input, Queue},
    target::{Target, is_private},
};
use crate::clock::Clock;

/// A webhook and what waits for it.
pub(super) struct Hook {
    target: Target,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl fmt::Debug for Hook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Hook").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Hook {
    pub(super) fn new(target: Target, bounds: Bounds, seed: u64) -> Self {
        Self { target, queue: Mutex::new(Queue::new(bounds, seed)), wake: Notify::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.target.name
    }

    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.target.wants(kind)
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue().waiting()
    }

    pub(super) fn handle(&self, input: Input, now: Instant) {
        self.queue().handle(input, now);
        self.wake.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ways out.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    encrypted: reqwest::Client,
    /// Finds private addresses alone.
    plain: reqwest::Client,
}

impl Clients {
    pub(super) fn new(trust: &Trust, timeout: Duration) -> reqwest::Result<Self> {
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(trust.http())
                .timeout(timeout)
                // Whoever answers for a receiver must not be able to send us elsewhere.
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("millstream-packager/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self { encrypted: builder().build()?, plain: builder().dns_resolver(AtHome).build()? })
    }

    async fn send(&self, target: &Target, delivery: &Delivery, timestamp: u64) -> (Answer, String) {
        let client = if target.is_plain { &self.plain } else { &self.encrypted };
        let (id, body) = (&delivery.event.id, delivery.event.body(delivery.missed));
        let request = client
            .post(target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", target.key.sign(id, timestamp, &body))
            .body(body);
        match request.send().await {
            // The body is not read: there is nothing in it for us.
            Ok(response) => {
                let status = response.status();
                let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                (meaning(status, pause), status.as_u16().to_string())
            }
            Err(error) => {
                // Without its URL, whose path may be a secret.
                let error = error.without_url();
                (Answer::Failed { pause: None }, trust::explain(&error))
            }
        }
    }
}

/// What a receiver means by its answer.
fn meaning(status: StatusCode, retry_after: Option<&str>) -> Answer {
    let pause = || retry_after.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
    match status {
        status if status.is_success() => Answer::Taken,
        StatusCode::GONE => Answer::Unwanted,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Answer::Failed { pause: pause() }
        }
        status if status.is_client_error() => Answer::Refused,
        _ => Answer::Failed { pause: pause() },
    }
}

/// Serves one hook until the drain has begun and what waited was tried.
pub(super) async fn run(hook: Arc<Hook>, clients: Clients, clock: Clock, metrics: Metrics, drain: Drain) {
    let name = hook.name().to_owned();
    let mut is_closing = false;
    loop {
        let (delivery, deadline, dropped, is_done) = {
            let mut queue = hook.queue();
            queue.handle(Input::Tick, clock.now());
            let delivery = queue.poll();
            (delivery, queue.deadline(), queue.take_dropped(), queue.is_done())
        };
        if dropped > 0 {
            metrics.missed.with_label_values(&[&name]).inc_by(dropped);
            warn!(hook = name, events = dropped, "a webhook did not take events in time; they are dropped");
        }
        if let Some(delivery) = delivery {
            let timestamp = clock.wall().0 / 1_000;
            let (answer, said) = clients.send(&hook.target, &delivery, timestamp).await;
            report(&hook, &metrics, answer, &said);
            hook.handle(Input::Answered(answer), clock.now());
            continue;
        }
        if is_done && is_closing {
            return;
        }
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep(deadline.since(clock.now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.begun(), if !is_closing => {
                is_closing = true;
                hook.handle(Input::Close, clock.now());
            }
            () = hook.wake.notified() => {}
            () = due => {}
        }
    }
}

fn report(hook: &Hook, metrics: &Metrics, answer: Answer, said: &str) {
    let name = hook.name();
    let (result, failed_before) = (result(answer), hook.queue().failures() > 0);
    metrics.attempts.with_label_values(&[name, result]).inc();
    match answer {
        Answer::Taken if failed_before => info!(hook = name, "the webhook takes events again"),
        Answer::Taken => {}
        Answer::Unwanted => {
            warn!(hook = name, "the webhook wants no more events (410): it gets none until a restart");
        }
        _ if failed_before => debug!(hook = name, said, "the webhook does not take an event"),
        _ => warn!(hook = name, said, "the webhook does not take an event; trying again"),
    }
}

const fn result(answer: Answer) -> &'static str {
    match answer {
        Answer::Taken => "taken",
        Answer::Failed { .. } => "failed",
        Answer::Refused => "refused",
        Answer::Unwanted => "unwanted",
    }
}

/// Finds private addresses, and of a public name nothing.
struct AtHome;

impl Resolve for AtHome {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let private: Vec<SocketAddr> = found.filter(|address| is_private(address.ip())).collect();
            if private.is_empty() {
                return Err(
                    "http:// is for this machine and private networks, and this name is public".into()
                );
            }
            Ok(Box::new(private.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_http_says() {
        let means = |status: u16, pause| meaning(StatusCode::from_u16(status).unwrap(), pause);
        assert_eq!(means(204, None), Answer::Taken);
        assert_eq!(means(301, None), Answer::Failed { pause: None });
        assert_eq!(means(503, Some("30")), Answer::Failed { pause: Some(Duration::from_secs(30)) });
        assert_eq!(means(429, Some("Fri, 31 Dec 1999 23:59:59 GMT")), Answer::Failed { pause: None });
        assert_eq!(means(400, None), Answer::Refused);
        assert_eq!(means(410, None), Answer::Unwanted);
    }

    #[tokio::test]
    async fn a_plain_request_finds_no_public_address() {
        let found = AtHome.resolve("localhost".parse().unwrap()).await.map(Iterator::count);
        assert!(found.unwrap() > 0);
    }
}
