//! One piece of work over a cluster of many guests: work, file with the guests, file with the
//! guests at a later time, guests. Prints the processor seconds of this thread and the peak memory
//! in bytes.
//!
//! A transport without a network returns the documents, and time advances only when everything
//! waits for it.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proxmox_api::Client;
use proxmox_api::bounds::Bounds;
use proxmox_api::client::limit::RateLimit;
use proxmox_api::manage::events::Watch;
use proxmox_api::manage::guest::PowerAction;
use proxmox_api::manage::inventory::Inventory;
use proxmox_api::manage::metrics::{families, render};
use proxmox_api::BoxFuture;
use proxmox_api::transport::{TransportError, Transport, WireRequest, WireResponse};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

#[derive(Debug)]
struct Cluster {
    guests: Vec<u8>,
    later: Vec<u8>,
    changed: Arc<AtomicBool>,
}

impl Transport for Cluster {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, std::result::Result<WireResponse, TransportError>> {
        let body = self.answer(&request.path);
        Box::pin(async move { Ok(WireResponse::new(200, body)) })
    }
}

impl Cluster {
    fn answer(&self, path: &str) -> Vec<u8> {
        let path = path.split('?').next().unwrap_or(path);
        let parts: Vec<&str> = path.split('/').skip(3).collect();
        match parts[..] {
            ["cluster", "resources"] if self.changed.load(Ordering::Relaxed) => self.later.clone(),
            ["cluster", "resources"] => self.guests.clone(),
            ["nodes", node, _, vmid, "status", "start"] => format!(
                r#"{{"data":"UPID:{node}:00001234:00005678:66000000:qmstart:{vmid}:root@pam:"}}"#
            )
            .into_bytes(),
            ["nodes", node, "tasks", upid, "status"] => format!(
                r#"{{"data":{{"upid":"{}","node":"{node}","pid":4660,"pstart":22136,"starttime":1711276032,"type":"qmstart","id":"100","user":"root@pam","status":"stopped","exitstatus":"OK"}}}}"#,
                upid.replace("%3A", ":").replace("%40", "@")
            )
            .into_bytes(),
            _ => br#"{"data":[]}"#.to_vec(),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, work, guests, later, count] = &arguments[..] else {
        return Err("work, guests, guests later, how many".into());
    };
    tokio::time::pause();
    let changed = Arc::new(AtomicBool::new(false));
    let client = Client::builder("https://localhost")
        .transport(Arc::new(Cluster {
            guests: std::fs::read(guests)?,
            later: std::fs::read(later)?,
            changed: changed.clone(),
        }))
        .rate_limit(RateLimit::none())
        .bounds(Bounds::new().body(1 << 30).unpacked(1 << 30).memory(1 << 30))
        .build()?;
    let count: u32 = count.parse()?;
    let mut watch = Watch::new(&client);
    watch.poll().await?;
    let inventory = Inventory::fetch(&client).await?;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    // The kernel updates its account in steps, so short work is repeated.
    let rounds = (100_000 / count).clamp(1, 200);
    let start = worked()?;
    for round in 0..rounds {
        changed.store(round % 2 == 0, Ordering::Relaxed);
        match &**work {
            "decode" => drop(black_box(client.cluster().resources().get().await?)),
            "inventory" => {
                let inventory = Inventory::fetch(&client).await?;
                black_box((inventory.capacity(), inventory.select().tag("web").vmids()));
            }
            "metrics" => drop(black_box(render(&families(&inventory)))),
            "events" => {
                if black_box(watch.poll().await?).is_empty() {
                    return Err("no event".into());
                }
            }
            "batch" => {
                let batch = client.batch(100..100 + count).parallel(64).per_node(8);
                let report = batch.timeout(Duration::from_secs(60)).power(PowerAction::Start);
                let report = black_box(report.await?);
                if report.summary.succeeded != report.summary.total {
                    let problem = report.results.iter().find_map(|result| result.problem());
                    return Err(problem.unwrap_or_default().into());
                }
            }
            _ => return Err("no such work".into()),
        }
    }
    let seconds = (worked()? - start) / f64::from(rounds);
    println!("{seconds} {}", MEMORY.peak_usage() - before);
    Ok(())
}

/// Processor seconds of this thread, the only one with work.
fn worked() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("empty")?.parse()?;
    Ok(nanoseconds / 1e9)
}
