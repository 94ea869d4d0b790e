use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::Client;
use crate::client::call::Call;
use crate::testing::{Fake, json, ok};
use crate::transport::TransportError;
use crate::value::encode::ParamValue;
use crate::value::endpoint::{Endpoint, Method, Permission};

/// Keeps every span and event as fields.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Fields>>>);

type Fields = BTreeMap<&'static str, String>;

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "proxmox_api"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::from([("span", attributes.metadata().name().to_owned())]);
        attributes.record(&mut Into(&mut fields));
        let mut recorded = self.0.lock().expect("no panic");
        recorded.push(fields);
        Id::from_u64(recorded.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut recorded = self.0.lock().expect("no panic");
        values.record(&mut Into(&mut recorded[span.into_u64() as usize - 1]));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        self.0.lock().expect("no panic").push(fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Recorder {
    fn spans(&self) -> Vec<Fields> {
        let recorded = self.0.lock().expect("no panic");
        recorded
            .iter()
            .filter(|fields| fields.contains_key("span"))
            .cloned()
            .collect()
    }
}

static PASSWORD: Endpoint = Endpoint::new(
    Method::Put,
    "/access/users/{userid}/password",
    Permission::World,
)
.secrets(&["password"]);

#[tokio::test(start_paused = true)]
async fn spans_hold_the_outcome_and_no_texts() {
    let recorded = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorded.clone());
    let mut calls = 0;
    let fake = Fake::new(move |request| {
        calls += 1;
        let quoted = String::from_utf8_lossy(&request.body).into_owned();
        match calls {
            1 => ok(
                r#"{"data":{"ticket":"PVE:root@pam:6B49D200::t1cket","CSRFPreventionToken":"c5rf"}}"#,
            ),
            2 => Err(TransportError::interrupted("reset")),
            3 => ok(r#"{"data":null}"#),
            4 => Ok(json(500, "no", format!(r#"{{"message":"got {quoted}"}}"#))),
            _ => Err(TransportError::never_sent("refused")),
        }
    });
    let client = Client::builder("pve1")
        .password("root@pam", "pa55-word")
        .transport(Arc::new(fake))
        .build()
        .expect("complete");
    let mut change = Call::new(Method::Put, "/access/users/bob%40pve/password");
    change.endpoint = Some(&PASSWORD);
    change
        .params
        .set("password", ParamValue::One("hunter22".into()));
    change
        .params
        .set("comment", ParamValue::One("pr1vate".into()));

    client
        .execute(Call::new(Method::Get, "/version"))
        .await
        .expect("the second attempt is accepted");
    client.execute(change.clone()).await.expect_err("refused");
    let error = client.execute(change).await.expect_err("not connected");
    assert_eq!(error.request_id(), Some(4), "as in its span");

    let attempts: Vec<String> = (recorded.spans().iter())
        .map(|fields| {
            let field = |name: &str| fields.get(name).map_or("-", String::as_str);
            assert_eq!(field("host"), "https://pve1:8006");
            assert!(field("duration_ms").parse::<u64>().is_ok(), "{fields:?}");
            [
                "span", "request", "method", "template", "status", "retries", "outcome",
            ]
            .map(field)
            .join(" ")
        })
        .collect();
    assert_eq!(
        attempts,
        [
            "proxmox_api.call 1 GET /version 200 1 accepted",
            "proxmox_api.call 2 POST /access/ticket 200 0 accepted",
            "proxmox_api.call 3 PUT /access/users/{userid}/password 500 0 refused",
            "proxmox_api.call 4 PUT /access/users/{userid}/password - 2 not connected",
        ]
    );
    let all = format!("{:?}", recorded.0.lock().expect("no panic"));
    assert!(all.contains("sending again"), "{all}");
    for secret in ["pa55-word", "hunter22", "pr1vate", "t1cket", "c5rf", "bob"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_span_covers_the_whole_call() {
    let recorded = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorded.clone());
    let mut refused_once = false;
    let fake = Fake::new(move |_| {
        if std::mem::replace(&mut refused_once, true) {
            return ok(r#"{"data":null}"#);
        }
        let mut answer = json(429, "Too Many Requests", "");
        answer.headers.push(("Retry-After".into(), "4".into()));
        Ok(answer)
    });
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake))
        .build()
        .expect("complete");
    client
        .execute(Call::new(Method::Get, "/version"))
        .await
        .expect("accepted");
    let spans = recorded.spans();
    let duration = spans[0]["duration_ms"]
        .parse()
        .map(Duration::from_millis)
        .expect("a number");
    assert!((4000..5000).contains(&duration.as_millis()), "{duration:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_limits_is_an_event() {
    let recorded = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorded.clone());
    let client = Client::builder("pve1")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(Fake::new(|_| ok(r#"{"data":null}"#))))
        .rate_limit(crate::client::limit::Rate::per_second(2.0).burst(1))
        .build()
        .expect("complete");
    for _ in 0..2 {
        let call = client.execute(Call::new(Method::Get, "/version"));
        call.await.expect("accepted");
    }
    let recorded = recorded.0.lock().expect("no panic");
    let waits: Vec<_> = recorded
        .iter()
        .filter_map(|fields| fields.get("waited_ms"))
        .collect();
    assert_eq!(waits.len(), 1, "{recorded:?}");
    let waited: u64 = waits[0].parse().expect("a number");
    assert!((490..=510).contains(&waited), "{waited}");
}
