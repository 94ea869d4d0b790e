//! Webhooks: signed deliveries, tried again until they arrive.

mod outlet;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proxmox_api::Value;
use proxmox_api::manage::webhook::sign;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::{ConfigError, WebhooksConfig};
use crate::store::{Delivery, Hook, Store, StoreError};
use crate::time::{now, utc};

pub(crate) use outlet::{Outlet, Receiver};
use turns::{Turns, Waiting};

/// Webhooks that may wait for their turn.
const MOST_WAITING: i64 = 4_096;
/// Deliveries that a webhook gets in one turn.
const IN_A_ROW: usize = 32;
/// How soon what is due is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a webhook and an attempt belong to who took them, in seconds.
const TAKEN: u64 = 60;
const LONGEST_PAUSE: u64 = 3_600;

/// What is posted for an event.
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
    // Texts and JSON: it cannot fail.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// Makes deliveries: to many receivers at a time, to each of them one after the other in the order of the events. What did
/// not arrive is tried again later, while those after it go on. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Postman {
    store: Store,
    outlet: Outlet,
    config: WebhooksConfig,
    poke: Arc<Notify>,
    /// The name of this gateway among others.
    me: String,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) code: Option<u16>,
    /// Empty if it worked.
    pub(crate) problem: String,
    again: bool,
}

impl Attempt {
    /// The same, and the last one.
    pub(crate) fn once(self) -> Self {
        let again = false;
        Self { again, ..self }
    }
}

impl Postman {
    pub(crate) fn new(
        store: Store,
        config: &WebhooksConfig,
        me: &str,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            store,
            outlet: Outlet::new(config)?,
            config: config.clone(),
            poke: Arc::default(),
            me: me.to_owned(),
        })
    }

    pub(crate) fn config(&self) -> &WebhooksConfig {
        &self.config
    }

    /// Whether a URL may be a receiver's.
    pub(crate) fn receiver(&self, url: &str) -> Result<Receiver, String> {
        Receiver::parse(url, self.config.allow_internal)
    }

    /// Has what is due looked for at once.
    pub(crate) fn poke(&self) {
        self.poke.notify_one();
    }

    /// Works as long as it is polled.
    pub(crate) async fn run(self) {
        let mut turns = Turns::default();
        let mut working = JoinSet::new();
        let mut by_task = HashMap::new();
        // Those that could do nothing; they do not try again at once.
        let mut resting = Vec::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.store.due_hooks(now(), MOST_WAITING).await {
                Ok(due) => {
                    turns.wait(due.into_iter().map(|(hook, owner)| Waiting { hook, owner }));
                }
                Err(error) => tracing::warn!(%error, "no delivery can be made"),
            }
            while let Some(one) = turns.next() {
                let (postman, hook) = (self.clone(), one.hook.clone());
                let task = working.spawn(async move { postman.serve(&hook).await });
                by_task.insert(task.id(), one);
            }
            let ended = tokio::select! {
                Some(ended) = working.join_next_with_id() => ended,
                () = self.poke.notified() => continue,
                _ = look.tick() => {
                    for one in resting.drain(..) {
                        turns.end(&one);
                    }
                    continue;
                }
            };
            let (task, made) = match ended {
                Ok((task, Ok(made))) => (task, made),
                Ok((task, Err(error))) => {
                    tracing::warn!(%error, "a delivery cannot be made");
                    (task, false)
                }
                Err(error) => {
                    tracing::error!(%error, "a delivery ended early");
                    (error.id(), false)
                }
            };
            match by_task.remove(&task) {
                Some(one) if made => turns.end(&one),
                Some(one) => resting.push(one),
                None => {}
            }
        }
    }

    /// Makes deliveries to a webhook, one after the other. Whether any was made: there may be more then.
    async fn serve(&self, id: &str) -> Result<bool, StoreError> {
        let lease = format!("webhook {id}");
        let mut made = false;
        for _ in 0..IN_A_ROW {
            let until = now() + TAKEN;
            // Another gateway must not tell what comes later meanwhile.
            if !self.store.lease(&lease, &self.me, now(), until).await? {
                return Ok(made);
            }
            let Some(hook) = self.store.hook(id).await? else {
                break;
            };
            let Some(delivery) = self.store.take_due(id, now(), until).await? else {
                break;
            };
            let arrived = self.work(&hook, delivery).await?;
            made = true;
            if !arrived {
                // One that does not answer gives way to those who wait.
                break;
            }
        }
        self.store.release(&lease, &self.me).await?;
        Ok(made)
    }

    /// Makes an attempt; whether it arrived.
    async fn work(&self, hook: &Hook, mut delivery: Delivery) -> Result<bool, StoreError> {
        let attempt = match hook.enabled {
            true => self.deliver(hook, &delivery.body).await,
            false => Attempt {
                code: None,
                problem: "the webhook was switched off".to_owned(),
                again: false,
            },
        };
        self.learn(&mut delivery, &attempt);
        self.store.put_delivery(&delivery).await?;
        Ok(attempt.problem.is_empty())
    }

    /// Writes into a delivery how an attempt went, and when there is to be another.
    pub(crate) fn learn(&self, delivery: &mut Delivery, attempt: &Attempt) {
        delivery.attempts += 1;
        delivery.code = attempt.code.map(i64::from);
        delivery.problem.clone_from(&attempt.problem);
        let again = attempt.again && delivery.attempts < u64::from(self.config.attempts);
        if again {
            let doublings = u32::try_from(delivery.attempts - 1).unwrap_or(u32::MAX);
            let factor = 2_u64.checked_pow(doublings).unwrap_or(u64::MAX);
            let pause = self.config.backoff_milliseconds.saturating_mul(factor) / 1_000;
            delivery.due = Some(now() + pause.min(LONGEST_PAUSE));
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

    /// Posts a body once, signed at this moment.
    pub(crate) async fn deliver(&self, hook: &Hook, body: &str) -> Attempt {
        let failed = |problem: String, again| Attempt {
            code: None,
            problem,
            again,
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
        // Until a receiver has the new secret, it can check the old one.
        if let Some((old, _)) = hook.old.as_ref().filter(|(_, until)| *until > time) {
            headers.push(("x-webhook-signature-previous", signature(old.expose())));
        }
        match self.outlet.post(&receiver, &headers, body).await {
            Ok(code @ 200..=299) => Attempt {
                code: Some(code),
                problem: String::new(),
                again: false,
            },
            Ok(code) => Attempt {
                code: Some(code),
                problem: format!("the receiver answered {code}"),
                again: code >= 500 || matches!(code, 408 | 429),
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
    use tokio::sync::{mpsc, watch};

    use super::*;

    /// A receiver that tells of each delivery it got, and answers once it may.
    async fn receiver(
        name: &'static str,
        got: mpsc::UnboundedSender<(&'static str, String)>,
        may_answer: watch::Receiver<bool>,
    ) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (got, mut may_answer) = (got.clone(), may_answer.clone());
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    while !text.ends_with(b"}") {
                        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
                    let _ = got.send((name, body.to_owned()));
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
            // In another order than they are to be made in.
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

    #[tokio::test]
    async fn a_receiver_that_is_slow_delays_nobody_else_and_each_is_told_in_order() {
        const MANY: u32 = 70;
        let store = Store::embedded(None).await.expect("opens");
        let config = WebhooksConfig {
            allow_internal: true,
            ..WebhooksConfig::default()
        };
        let postman = Postman::new(store.clone(), &config, "me").expect("works");
        let (got, mut came) = mpsc::unbounded_channel();
        let (release, may_answer) = watch::channel(false);
        let (_always, at_once) = watch::channel(true);
        let slow = receiver("slow", got.clone(), may_answer).await;
        let quick = receiver("quick", got, at_once).await;
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
        work.spawn(postman.clone().run());
        let seen: Mutex<BTreeMap<&str, Vec<u32>>> = Mutex::default();
        let count = |name| {
            let seen = seen.lock().expect("free");
            seen.get(name).map_or(0, Vec::len)
        };
        let until = async |came: &mut mpsc::UnboundedReceiver<_>, name, number| {
            while count(name) < number {
                let next = tokio::time::timeout(Duration::from_secs(60), came.recv());
                let (name, body): (_, String) = next.await.expect("in time").expect("open");
                let body: Value = serde_json::from_str(&body).expect("JSON");
                let number = body["number"]
                    .as_u64()
                    .and_then(|it| u32::try_from(it).ok());
                let number = number.expect("a number");
                let mut seen = seen.lock().expect("free");
                let list = seen.entry(name).or_default();
                // An attempt that took too long is made again, on a machine that is slow itself.
                if !list.contains(&number) {
                    list.push(number);
                }
            }
        };
        let all: Vec<u32> = (0..MANY).collect();
        until(&mut came, "quick", all.len()).await;
        // The slow one has not answered its first one.
        assert!(count("slow") <= 1, "{seen:?}");
        release.send_replace(true);
        until(&mut came, "slow", all.len()).await;
        let seen = seen.into_inner().expect("free");
        assert_eq!((&seen["quick"], &seen["slow"]), (&all, &all));
    }

    #[tokio::test]
    async fn attempts_are_made_with_growing_pauses_and_end() {
        let store = Store::embedded(None).await.expect("opens");
        let config = WebhooksConfig {
            attempts: 3,
            ..WebhooksConfig::default()
        };
        let postman = Postman::new(store, &config, "me").expect("works");
        let mut delivery = delivery("h", 0);
        let down = Attempt {
            code: Some(503),
            problem: "the receiver answered 503".to_owned(),
            again: true,
        };
        let mut pauses = Vec::new();
        for _ in 0..3 {
            let before = now();
            postman.learn(&mut delivery, &down);
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
            again: false,
            ..down
        };
        postman.learn(&mut delivery, &refused);
        assert_eq!((delivery.due, delivery.status.as_str()), (None, "failed"));
    }
}
