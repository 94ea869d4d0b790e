//! Webhooks: signed deliveries, tried again until they arrive.

mod outlet;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use proxmox_api::Value;
use proxmox_api::manage::webhook::sign;
use serde::Serialize;
use tokio::sync::Notify;

use crate::config::{ConfigError, WebhooksConfig};
use crate::store::{Delivery, Hook, Store, StoreError};
use crate::time::{now, utc};

pub(crate) use outlet::{Outlet, Receiver};

/// Deliveries that are made at a time.
const AT_ONCE: usize = 16;
/// How soon what is due is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long an attempt belongs to who took it, in seconds.
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

/// Makes deliveries. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Postman {
    store: Store,
    outlet: Outlet,
    config: WebhooksConfig,
    poke: Arc<Notify>,
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
    pub(crate) fn new(store: Store, config: &WebhooksConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            store,
            outlet: Outlet::new(config)?,
            config: config.clone(),
            poke: Arc::default(),
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
        loop {
            match self.round().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "no delivery can be made"),
            }
            tokio::select! {
                () = self.poke.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Whether there may be more.
    async fn round(&self) -> Result<bool, StoreError> {
        let due = self.store.take_due(now(), now() + TAKEN, 64).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let hooks = self.store.hooks().await?;
        let work = due.into_iter().filter_map(|delivery| {
            let hook = hooks.iter().find(|hook| hook.id == delivery.webhook)?;
            Some(self.work(hook, delivery))
        });
        let mut working = stream::iter(work).buffer_unordered(AT_ONCE);
        while let Some(done) = working.next().await {
            done?;
        }
        Ok(true)
    }

    async fn work(&self, hook: &Hook, mut delivery: Delivery) -> Result<(), StoreError> {
        let attempt = match hook.enabled {
            true => self.deliver(hook, &delivery.body).await,
            false => Attempt {
                code: None,
                problem: "the webhook was switched off".to_owned(),
                again: false,
            },
        };
        self.learn(&mut delivery, &attempt);
        self.store.put_delivery(&delivery).await
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
    use super::*;

    #[tokio::test]
    async fn attempts_are_made_with_growing_pauses_and_end() {
        let store = Store::embedded(None).await.expect("opens");
        let config = WebhooksConfig {
            attempts: 3,
            ..WebhooksConfig::default()
        };
        let postman = Postman::new(store, &config).expect("works");
        let mut delivery = Delivery {
            id: "d".to_owned(),
            webhook: "h".to_owned(),
            kind: "vm.started".to_owned(),
            body: "{}".to_owned(),
            created: 0,
            attempts: 0,
            due: Some(0),
            status: "pending".to_owned(),
            code: None,
            problem: String::new(),
            finished: None,
        };
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
