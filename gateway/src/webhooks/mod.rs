//! Webhooks: signed deliveries, retried until they arrive.

mod schedule;
mod sender;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proxmox_api::Value;
use proxmox_api::manage::webhook::sign;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::{ConfigError, WebhooksConfig};
use crate::store::{Delivery, Hook, Store, StoreError};
use crate::time::{now, utc};

use schedule::{Schedule, Waiting};
pub(crate) use sender::{HookSender, Receiver};

/// Maximum webhooks in the queue.
const MAX_DUE_WEBHOOKS: i64 = 4_096;
/// Deliveries of a webhook in one turn.
const MAX_IN_A_ROW: usize = 32;
/// Interval at which due deliveries are looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a claim on a webhook and an attempt is valid, in seconds.
const CLAIM_SECONDS: u64 = 60;
const MAX_PAUSE: u64 = 3_600;

/// The body that is posted for an event.
pub(crate) fn payload(id: &str, time: u64, kind: &str, data: &Value) -> String {
    #[derive(Serialize)]
    struct Payload<'a> {
        id: &'a str,
        timestamp: String,
        r#type: &'a str,
        data: &'a Value,
    }
    let payload = Payload {
        id,
        timestamp: utc(time),
        r#type: kind,
        data,
    };
    // Strings and JSON: it cannot fail.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// Sends deliveries: to many receivers at the same time, to each of them in the order of the
/// events. A failed delivery is retried later, and does not hold up those after it. Clones share
/// everything.
#[derive(Clone, Debug)]
pub(crate) struct Deliverer {
    store: Store,
    sender: HookSender,
    config: WebhooksConfig,
    wake_up: Arc<Notify>,
    /// This gateway's name in claims.
    instance: String,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) code: Option<u16>,
    /// The error; empty for success.
    pub(crate) problem: String,
    retry: bool,
}

impl Attempt {
    /// The result of the last attempt.
    pub(crate) fn once(self) -> Self {
        let retry = false;
        Self { retry, ..self }
    }
}

impl Deliverer {
    pub(crate) fn new(
        store: Store,
        config: &WebhooksConfig,
        instance: &str,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            store,
            sender: HookSender::new(config)?,
            config: config.clone(),
            wake_up: Arc::default(),
            instance: instance.to_owned(),
        })
    }

    pub(crate) fn config(&self) -> &WebhooksConfig {
        &self.config
    }

    /// Whether a URL is allowed as a receiver.
    pub(crate) fn receiver(&self, url: &str) -> Result<Receiver, String> {
        Receiver::parse(url, self.config.allow_internal)
    }

    /// Looks for due deliveries at once.
    pub(crate) fn wake(&self) {
        self.wake_up.notify_one();
    }

    /// Runs until the gateway stops; then it ends after the running attempts. A dropped attempt would
    /// keep its claim, and its event would be late.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut schedule = Schedule::default();
        let mut running = JoinSet::new();
        let mut by_task = HashMap::new();
        // Webhooks without progress wait for the next round.
        let mut idle = Vec::new();
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            match self.store.due_hooks(now(), MAX_DUE_WEBHOOKS).await {
                Ok(due) => {
                    schedule.wait(due.into_iter().map(|(hook, owner)| Waiting { hook, owner }));
                }
                Err(error) => tracing::warn!(%error, "deliveries cannot be read"),
            }
            while let Some(waiting) = schedule.next() {
                let (deliverer, hook, stop) = (self.clone(), waiting.hook.clone(), stop.clone());
                let task = running.spawn(async move {
                    let served = deliverer.serve(&hook, &stop).await;
                    served.unwrap_or_else(|error| {
                        tracing::warn!(%error, "a delivery failed");
                        false
                    })
                });
                by_task.insert(task.id(), waiting);
            }
            let ended = tokio::select! {
                Some(ended) = running.join_next_with_id() => ended,
                () = self.wake_up.notified() => continue,
                _ = stop.changed() => break,
                _ = poll.tick() => {
                    for waiting in idle.drain(..) {
                        schedule.end(&waiting);
                    }
                    continue;
                }
            };
            let (task, progressed) = match ended {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::error!(%error, "a delivery ended early");
                    (error.id(), false)
                }
            };
            match by_task.remove(&task) {
                Some(waiting) if progressed => schedule.end(&waiting),
                Some(waiting) => idle.push(waiting),
                None => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a delivery ended early");
            }
        }
    }

    /// Sends deliveries of a webhook, one after the other. Returns whether there was any, because
    /// there may be more.
    async fn serve(&self, id: &str, stop: &watch::Receiver<bool>) -> Result<bool, StoreError> {
        let lease = format!("webhook {id}");
        let mut progressed = false;
        for _ in 0..MAX_IN_A_ROW {
            if *stop.borrow() {
                break;
            }
            let until = now() + CLAIM_SECONDS;
            // Another gateway must not send later events meanwhile.
            if !self
                .store
                .lease(&lease, &self.instance, now(), until)
                .await?
            {
                return Ok(progressed);
            }
            let Some(hook) = self.store.hook(id).await? else {
                break;
            };
            let Some(delivery) = self.store.take_due(id, now(), until).await? else {
                break;
            };
            let arrived = self.work(&hook, delivery).await?;
            progressed = true;
            if !arrived {
                // A receiver that does not respond lets others have their turn.
                break;
            }
        }
        self.store.release(&lease, &self.instance).await?;
        Ok(progressed)
    }

    /// Makes an attempt; returns whether it arrived.
    async fn work(&self, hook: &Hook, mut delivery: Delivery) -> Result<bool, StoreError> {
        let attempt = match hook.enabled {
            true => self.deliver(hook, &delivery.body).await,
            false => Attempt {
                code: None,
                problem: "the webhook was disabled".to_owned(),
                retry: false,
            },
        };
        self.record(&mut delivery, &attempt);
        self.store.put_delivery(&delivery).await?;
        Ok(attempt.problem.is_empty())
    }

    /// Stores the result of an attempt, and the time of the next one.
    pub(crate) fn record(&self, delivery: &mut Delivery, attempt: &Attempt) {
        delivery.attempts += 1;
        delivery.code = attempt.code.map(i64::from);
        delivery.problem.clone_from(&attempt.problem);
        let retry = attempt.retry && delivery.attempts < u64::from(self.config.attempts);
        if retry {
            let doublings = u32::try_from(delivery.attempts - 1).unwrap_or(u32::MAX);
            let factor = 2_u64.checked_pow(doublings).unwrap_or(u64::MAX);
            let pause = self.config.backoff_milliseconds.saturating_mul(factor) / 1_000;
            delivery.due = Some(now() + pause.min(MAX_PAUSE));
            return;
        }
        delivery.due = None;
        delivery.finished = Some(now());
        let status = if attempt.problem.is_empty() {
            "delivered"
        } else {
            "failed"
        };
        delivery.status = status.to_owned();
    }

    /// Posts a body once, with a new signature.
    pub(crate) async fn deliver(&self, hook: &Hook, body: &str) -> Attempt {
        let failed = |problem: String, retry| Attempt {
            code: None,
            problem,
            retry,
        };
        let receiver = match self.receiver(hook.url.expose()) {
            Ok(receiver) => receiver,
            Err(problem) => return failed(problem, false),
        };
        let time = now();
        let signature = |secret: &str| sign(secret.as_bytes(), time, body.as_bytes());
        let mut headers = vec![
            ("x-webhook-timestamp", time.to_string()),
            ("x-webhook-signature", signature(hook.secret.expose())),
        ];
        // Until a receiver has the new secret, it can check the previous one.
        if let Some((old, _)) = hook.old.as_ref().filter(|(_, until)| *until > time) {
            headers.push(("x-webhook-signature-previous", signature(old.expose())));
        }
        match self.sender.post(&receiver, &headers, body).await {
            Ok(code @ 200..=299) => Attempt {
                code: Some(code),
                problem: String::new(),
                retry: false,
            },
            Ok(code) => Attempt {
                code: Some(code),
                problem: format!("the receiver answered {code}"),
                retry: code >= 500 || matches!(code, 408 | 429),
            },
            Err(problem) => failed(problem, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// A receiver that reports each delivery, and answers when the test allows it.
    async fn receiver(
        name: &'static str,
        received: mpsc::UnboundedSender<(&'static str, String)>,
        may_answer: watch::Receiver<bool>,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (received, mut may_answer) = (received.clone(), may_answer.clone());
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    while !text.ends_with(b"}") {
                        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
                    let _ = received.send((name, body.to_owned()));
                    let _ = may_answer.wait_for(|may| *may).await;
                    let answer = b"HTTP/1.1 200 ok\r\nContent-Length: 0\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                });
            }
        });
        format!("http://{address}/")
    }

    fn hook(id: &str, url: String) -> Hook {
        Hook {
            id: id.to_owned(),
            owner: format!("{id}@pve"),
            name: id.to_owned(),
            url: url.into(),
            events: Vec::new(),
            secret: "secret".into(),
            old: None,
            enabled: true,
            created: 0,
        }
    }

    fn delivery(hook: &str, number: u32) -> Delivery {
        Delivery {
            // Inserted in another order than their events.
            id: format!("{hook}-{}", 1_000 - number),
            webhook: hook.to_owned(),
            kind: "vm.started".to_owned(),
            body: format!("{{\"number\":{number}}}"),
            created: 0,
            attempts: 0,
            due: Some(0),
            status: "pending".to_owned(),
            code: None,
            problem: String::new(),
            finished: None,
        }
    }

    /// One on a store of its own, which may send to this machine.
    async fn deliverer() -> (Store, Deliverer) {
        let store = Store::embedded(None).await.expect("opens");
        let config = WebhooksConfig {
            allow_internal: true,
            ..WebhooksConfig::default()
        };
        let deliverer = Deliverer::new(store.clone(), &config, "me").expect("works");
        (store, deliverer)
    }

    #[tokio::test]
    async fn a_slow_receiver_delays_no_other_and_each_gets_events_in_order() {
        const MANY: u32 = 70;
        let (store, deliverer) = deliverer().await;
        let (received, mut deliveries_seen) = mpsc::unbounded_channel();
        let (release, may_answer) = watch::channel(false);
        let (_always, at_once) = watch::channel(true);
        let slow = receiver("slow", received.clone(), may_answer).await;
        let quick = receiver("quick", received, at_once).await;
        for hook in [hook("slow", slow), hook("quick", quick)] {
            store.put_hook(&hook).await.expect("works");
        }
        for number in 0..MANY {
            for hook in ["slow", "quick"] {
                let delivery = delivery(hook, number);
                store.put_delivery(&delivery).await.expect("works");
            }
        }
        let mut work = JoinSet::new();
        let (_stopping, stop) = watch::channel(false);
        work.spawn(deliverer.clone().run(stop));
        let seen: Mutex<BTreeMap<&str, Vec<u32>>> = Mutex::default();
        let count = |name| {
            let seen = seen.lock().expect("no panic");
            seen.get(name).map_or(0, Vec::len)
        };
        let until = async |deliveries_seen: &mut mpsc::UnboundedReceiver<_>, name, number| {
            while count(name) < number {
                let next = tokio::time::timeout(Duration::from_secs(60), deliveries_seen.recv());
                let (name, body): (_, String) = next.await.expect("in time").expect("open");
                let body: Value = serde_json::from_str(&body).expect("JSON");
                let number = body["number"]
                    .as_u64()
                    .and_then(|it| u32::try_from(it).ok());
                let number = number.expect("a number");
                let mut seen = seen.lock().expect("no panic");
                let list = seen.entry(name).or_default();
                // On a slow machine an attempt may time out and be repeated.
                if !list.contains(&number) {
                    list.push(number);
                }
            }
        };
        let all: Vec<u32> = (0..MANY).collect();
        until(&mut deliveries_seen, "quick", all.len()).await;
        // The slow receiver has not answered its first delivery.
        assert!(count("slow") <= 1, "{seen:?}");
        release.send_replace(true);
        until(&mut deliveries_seen, "slow", all.len()).await;
        let seen = seen.into_inner().expect("no panic");
        assert_eq!((&seen["quick"], &seen["slow"]), (&all, &all));
    }

    #[tokio::test]
    async fn a_stop_ends_after_the_running_attempt_and_leaves_no_claim() {
        let (store, deliverer) = deliverer().await;
        let (received, mut deliveries_seen) = mpsc::unbounded_channel();
        let (release, may_answer) = watch::channel(false);
        let url = receiver("one", received, may_answer).await;
        store.put_hook(&hook("one", url)).await.expect("works");
        for number in 0..2 {
            let delivery = delivery("one", number);
            store.put_delivery(&delivery).await.expect("works");
        }
        let (stopping, stop) = watch::channel(false);
        let work = tokio::spawn(deliverer.run(stop));
        deliveries_seen.recv().await.expect("the first attempt");
        stopping.send_replace(true);
        release.send_replace(true);
        work.await.expect("it ends");
        // The second event is free for another gateway at once.
        let free = store.lease("webhook one", "other", now(), now() + 1);
        assert!(free.await.expect("works"));
        let next = store.take_due("one", now(), now() + 1);
        let next = next.await.expect("works").expect("the second event");
        assert_eq!(next.body, delivery("one", 1).body);
        assert!(deliveries_seen.try_recv().is_err(), "no second attempt");
    }

    #[tokio::test]
    async fn attempts_are_made_with_growing_pauses_and_end() {
        let store = Store::embedded(None).await.expect("opens");
        let config = WebhooksConfig {
            attempts: 3,
            ..WebhooksConfig::default()
        };
        let deliverer = Deliverer::new(store, &config, "me").expect("works");
        let mut delivery = delivery("h", 0);
        let down = Attempt {
            code: Some(503),
            problem: "the receiver answered 503".to_owned(),
            retry: true,
        };
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let before = now();
            deliverer.record(&mut delivery, &down);
            pauses.push(delivery.due.map(|due| due.saturating_sub(before)));
        }
        assert!(
            matches!(pauses.as_slice(), [Some(1..=2), Some(2..=3), None]),
            "{pauses:?}"
        );
        assert_eq!(
            (delivery.status.as_str(), delivery.code),
            ("failed", Some(503))
        );
        delivery.attempts = 0;
        let refused = Attempt {
            retry: false,
            ..down
        };
        deliverer.record(&mut delivery, &refused);
        assert_eq!((delivery.due, delivery.status.as_str()), (None, "failed"));
    }
}
