//! The everyday layer with nearly valid answers: those of a simulated server with extreme numbers,
//! unusual texts, and members that are missing, null or of another type. Every call returns a value
//! or an error, and ends.

use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use percent_encoding::percent_decode_str;
use proxmox_api::BoxFuture;
use proxmox_api::client::limit::RateLimit;
use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::manage::events::Watch;
use proxmox_api::manage::guest::{PowerAction, Retention};
use proxmox_api::manage::inventory::Inventory;
use proxmox_api::manage::metrics;
use proxmox_api::transport::{Transport, TransportError, WireRequest, WireResponse};
use proxmox_api::{Client, Error};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use proxmox_test_support::random::Random;
use serde_json::{Value, json};

fn extremes() -> Vec<Value> {
    vec![
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(-1e308),
        json!(f64::MIN_POSITIVE),
        json!("18446744073709551616"),
        json!("NaN"),
        json!("-0"),
        json!(u32::MAX),
    ]
}

fn unusual_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "\0",
        "a\r\nb",
        "UPID:pve1:00000001:00000002:00000003:x\n:1:root@pam:",
        "UPID:pve1:FFFFFFFF:FFFFFFFFFFFFFFFF:FFFFFFFF:vzdump:100:root@pam:",
        "UPID:a/../b:00000001:00000002:00000003:x:1:root@pam:",
        "../../etc",
        "é\u{85}\u{a0}",
        "\u{202e}\u{feff}",
        "\u{130}\u{130}<title>",
        "net0=,,=,",
        "=,=",
        "virtio=,bridge",
        "local:",
        ":",
        "18446744073709551615T",
        "-1G",
        "a,b;c d",
        "2026-13-45T99:99:99",
        "meta=creation-qemu=9,ctime=99999999999999999999",
    ]
    .map(str::to_owned)
    .into();
    texts.push("[".repeat(3000));
    texts.push("9".repeat(400));
    texts.push("x,".repeat(2000));
    texts
}

/// The kind of changes to answers.
#[derive(Clone, Copy, Debug)]
enum Distortion {
    /// Every number becomes this one.
    Numbers(usize),
    /// Every number becomes one of them, chosen at random.
    EachNumber,
    /// One in this many values is replaced.
    Some(usize),
}

fn distort(value: &mut Value, how: Distortion, random: &mut Random) {
    let extremes = extremes();
    if let Distortion::Some(one_in) = how
        && random.index(one_in) == 0
    {
        let texts = unusual_texts();
        *value = match random.index(6) {
            0 => Value::Null,
            1 => extremes[random.index(extremes.len())].clone(),
            2 => json!([value.take()]),
            3 => json!({ "inner": value.take() }),
            _ => texts[random.index(texts.len())].clone().into(),
        };
        return;
    }
    match value {
        Value::Number(_) => {
            let which = match how {
                Distortion::Numbers(which) => which,
                Distortion::EachNumber => random.index(extremes.len()),
                Distortion::Some(_) => return,
            };
            *value = extremes[which % extremes.len()].clone();
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                distort(item, how, random);
            }
            if let (Distortion::Some(_), Some(first)) = (how, items.first().cloned()) {
                // A duplicated element.
                items.push(first);
            }
        }
        Value::Object(members) => {
            if matches!(how, Distortion::Some(one_in) if random.index(one_in) == 0) {
                let names: Vec<_> = members.keys().cloned().collect();
                if let Some(name) = names.get(random.index(names.len().max(1))) {
                    members.remove(name);
                }
            }
            for (name, member) in members {
                // Guest and node stay, so that not every operation ends at once.
                if !matches!(name.as_str(), "vmid" | "node" | "type") || random.index(20) == 0 {
                    distort(member, how, random);
                }
            }
        }
        _ => {}
    }
}

/// Forwards to a simulated server and changes its answers.
struct DistortingTransport {
    inner: Client,
    how: Distortion,
    seed: AtomicU64,
}

impl fmt::Debug for DistortingTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DistortingTransport")
    }
}

fn pairs(form: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let plain = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    (form.split('&').filter(|pair| !pair.is_empty())).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name), plain(value))
    })
}

impl DistortingTransport {
    async fn forward(&self, request: WireRequest) -> Result<WireResponse, TransportError> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let path = path.trim_start_matches("/api2/json").to_owned();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let mut call = self.inner.request::<Value>(request.method, path);
        let mut params: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in pairs(query).chain(pairs(&body)) {
            match params.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => params.push((name, vec![value])),
            }
        }
        for (name, values) in params {
            call = call.param(name, values);
        }
        let mut random = Random(self.seed.fetch_add(7919, Ordering::Relaxed));
        match call.with_envelope().await {
            Ok(answer) => {
                let mut body = json!({ "data": answer.data, "total": answer.total });
                distort(&mut body, self.how, &mut random);
                Ok(WireResponse::new(200, body.to_string().into_bytes()))
            }
            Err(Error::Api(error)) => {
                let mut body = json!({ "message": error.message(), "data": null });
                distort(&mut body, self.how, &mut random);
                let mut answer = WireResponse::new(error.status(), body.to_string().into_bytes());
                answer.reason = error.reason().as_bytes().to_vec().into();
                Ok(answer)
            }
            Err(error) => Err(TransportError::interrupted(error.to_string())),
        }
    }
}

impl Transport for DistortingTransport {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(self.forward(request))
    }
}

const SOON: Duration = Duration::from_millis(30);
/// The time limit of each operation.
const LONG: Duration = Duration::from_secs(20);

/// Uses the layer; any result is fine.
async fn use_all(client: &Client) {
    let _ = client.discover_hosts().await;
    if let Ok(inventory) = Inventory::fetch(client).await {
        let _ = format!("{inventory:?}");
        let _ = (inventory.capacity(), inventory.placement(1 << 30, 2.0));
    }
    let _ = metrics::node_metrics(client, "pve1").await;
    let _ = metrics::node_history(client, "pve1", "hour").await;
    let _ = metrics::storage_metrics(client, "pve1", "local").await;
    let _ = metrics::storage_history(client, "pve1", "local", "hour").await;
    let _ = metrics::scrape(client).await;
    let _ = proxmox_api::manage::guest::next_free(client, 100..=200).await;
    let mut watch = Watch::new(client);
    for _ in 0..3 {
        let _ = watch.poll().await;
        let _ = (watch.cursor()).map(|state| format!("{state:?} {:?}", state.to_json()));
    }
    let _ = client
        .batch([101, 201])
        .timeout(SOON)
        .power(PowerAction::Start)
        .await;
    for vmid in [101, 201] {
        let guest = client.guest(vmid).wait_for_locks(SOON);
        let _ = guest.status().await;
        let _ = guest.snapshots().await;
        let _ = guest.pending().await;
        let _ = guest.tags().await;
        let _ = guest
            .history(proxmox_api::manage::metrics::Timeframe::Hour)
            .await;
        let _ = guest
            .qemu_config()
            .await
            .map(|config| format!("{config:?}"));
        let _ = guest.lxc_config().await.map(|config| format!("{config:?}"));
        let _ = guest.check_migration("pve2").await;
        if let Ok(backups) = guest.backups("local").await {
            let times: Vec<u64> = (backups.iter())
                .filter_map(|backup| u64::try_from(backup.ctime?).ok())
                .collect();
            let rule = Retention {
                last: 1,
                monthly: 1,
                yearly: 1,
                ..Retention::default()
            };
            let _ = rule.evaluate(&times);
        }
        let _ = guest.interfaces().await;
        let _ = guest.wait_for_address(SOON).await;
        let agent = guest.agent();
        let _ = agent.file_systems().await;
        let _ = agent.exec(["true"]).timeout(SOON).await;
        let _ = agent.read_file("/etc/hostname").await;
        let _ = guest.edit_qemu(|_, request| request.cores(2)).await;
        if let Ok(started) = guest.snapshot("one").await {
            let _ = tokio::time::timeout(SOON, started.wait().poll_interval(SOON / 10)).await;
        }
        if let Ok(started) = guest.start().await {
            let _ = tokio::time::timeout(SOON, started.wait().poll_interval(SOON / 10)).await;
        }
        let _ = guest.destroy().await;
    }
    let tasks = client.nodes().node("pve1").tasks().get().await;
    for row in tasks.into_iter().flatten().take(2) {
        let Ok(upid) = row.upid.parse() else { continue };
        let task = client.task(upid);
        let _ = task.status().await;
        let _ = task.log(0, 10).await;
        let _ = task.log(u64::MAX, u64::MAX).await;
        let _ = task.log_tail(3).await;
        let wait = task.wait().timeout(SOON).poll_interval(SOON / 10);
        let _ = wait.on_log(|_| {}).await;
    }
}

/// The violations of a run.
async fn run(seed: u64, how: Distortion) -> Option<String> {
    let pve = Simulator::builder()
        .node("pve1")
        .node("pve2")
        .time_factor(0.0)
        .qemu(
            101,
            "pve1",
            &[
                ("name", "web"),
                ("agent", "1"),
                ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
            ],
        )
        .running(101)
        .lxc(
            201,
            "pve1",
            &[("hostname", "ct"), ("rootfs", "local-lvm:8")],
        )
        .running(201)
        .many_guests(8)
        .start()
        .await
        .expect("it starts");
    let inner = Client::builder(pve.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(pve.fingerprint().parse().expect("a fingerprint"))
        .rate_limit(RateLimit::none())
        .check_parameters(false)
        .build()
        .expect("complete");
    let distorting = DistortingTransport {
        inner,
        how,
        seed: AtomicU64::new(seed),
    };
    let client = Client::builder("pve1")
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .transport(Arc::new(distorting))
        .retry(RetryPolicy::none())
        .task_poll(SOON / 10)
        .bounds(proxmox_api::bounds::Bounds::new().pages(50))
        .build()
        .expect("complete");
    let used = tokio::time::timeout(LONG, use_all(&client));
    match AssertUnwindSafe(used).catch_unwind().await {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(format!("{seed} {how:?}: it does not end")),
        Err(_) => Some(format!("{seed} {how:?}: a panic")),
    }
}

async fn runs(seeds: Range<u64>, how: impl Fn(u64) -> Distortion) {
    let mut wrong = Vec::new();
    for seed in seeds {
        wrong.extend(run(seed, how(seed)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn extreme_numbers_are_harmless() {
    let count = extremes().len() as u64;
    runs(0..count, |seed| Distortion::Numbers(seed as usize)).await;
    runs(0..count, |_| Distortion::EachNumber).await;
}

#[tokio::test]
async fn invalid_answers_are_harmless() {
    let count = std::env::var("TWISTED_RUNS").ok();
    let count = count.and_then(|text| text.parse().ok()).unwrap_or(24);
    runs(0..count, |seed| {
        Distortion::Some([4, 12, 40][seed as usize % 3])
    })
    .await;
}

#[test]
fn answers_are_changed_as_described() {
    let mut value = json!({ "data": [{ "cpu": 1, "vmid": 7 }] });
    distort(&mut value, Distortion::Numbers(2), &mut Random(1));
    assert_eq!(value["data"][0]["cpu"], json!(u64::MAX));
    let changed = (0..50).filter(|seed| {
        let mut value = json!({ "data": [{ "cpu": 1, "name": "x" }] });
        distort(&mut value, Distortion::Some(4), &mut Random(*seed));
        value != json!({ "data": [{ "cpu": 1, "name": "x" }, { "cpu": 1, "name": "x" }] })
    });
    assert!(changed.count() > 25);
}
