//! Load test: a simulated cluster with a guest that starts and stops all the time, a gateway in front, listeners of events and
//! clients, all in this process.
//!
//! ```text
//! cargo run --release -p proxmox-gateway --all-features --example load -- LISTENERS CONNECTIONS SECONDS RATE
//! ```
//!
//! RATE is the total of requests a second. Requests are sent at fixed times, even if earlier ones
//! are unanswered; latency counts from the scheduled time. 0 sends each request when the previous
//! one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use proxmox_api::client::limit::RateLimit;
use proxmox_api::{Client, ClientBuilder};
use proxmox_gateway::{Background, Config, Gateway};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use tokio::net::TcpStream;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (listeners, connections, seconds) = (next(1_000)?, next(32)?, next(10)?);
    let rate = next(0)?;
    let simulator = Simulator::builder()
        .node("node1")
        .node("node2")
        .many_guests(50)
        .start()
        .await?;
    let mut config = Config::default();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.grpc = None;
    config.cluster.urls = vec![simulator.url()];
    config.cluster.fingerprints = vec![simulator.fingerprint().to_owned()];
    let mut background = Background::new(format!("{TOKEN_ID}={TOKEN_SECRET}"));
    background.interval_milliseconds = 500;
    config.background = Some(background);
    config.limits.read = 0;
    config.limits.write = 0;
    config.limits.listeners = 0;
    let gateway = Gateway::start(config).await?;

    let received = Arc::new(AtomicU64::new(0));
    for _ in 0..listeners {
        let url = format!("ws://{}/v1/events/ws", gateway.address());
        let value = format!("PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}").parse()?;
        let request = tokio_websockets::ClientBuilder::new()
            .uri(&url)?
            .add_header(http::header::AUTHORIZATION, value)?;
        let stream = TcpStream::connect(gateway.address()).await?;
        let (mut socket, _) = request.connect_on(stream).await?;
        let received = Arc::clone(&received);
        tokio::spawn(async move {
            while let Some(Ok(_)) = socket.next().await {
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let with_token = |builder: ClientBuilder| {
        let builder = builder.api_token(TOKEN_ID, TOKEN_SECRET);
        builder.rate_limit(RateLimit::none())
    };
    let direct = Client::builder(simulator.url()).fingerprint(simulator.fingerprint().parse()?);
    let direct = with_token(direct);
    let through = with_token(Client::builder(format!("http://{}", gateway.address())));
    let guest = direct.clone().build()?.guest(100);
    tokio::spawn(async move {
        // Each task ends before the next begins. A refusal ends the events, and the counts below show it.
        while let Ok(start) = guest.start().await {
            let started = start.wait().await;
            let Ok(stop) = guest.stop().await else { break };
            if started.is_err() || stop.wait().await.is_err() {
                break;
            }
        }
    });
    println!(
        "{listeners} listeners; resident {} MB",
        resident() / 1_000_000
    );

    for (name, builder) in [("direct", direct), ("gateway", through)] {
        let client = builder
            .concurrency(connections as usize, connections as usize)
            .build()?;
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let before = processor();
        let work = (0..connections).map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                let pause = Duration::from_secs(connections).checked_div(rate as u32);
                let mut due =
                    start + pause.unwrap_or_default() * number as u32 / connections as u32;
                while Instant::now() < end {
                    if let Some(pause) = pause {
                        tokio::time::sleep_until(due.into()).await;
                        due += pause;
                    }
                    let began = pause.map_or_else(Instant::now, |pause| due - pause);
                    client.nodes().get().await?;
                    times.push(began.elapsed());
                }
                Ok::<_, proxmox_api::Error>(times)
            })
        });
        let work: Vec<_> = work.collect();
        let mut times = Vec::new();
        for one in work {
            times.extend(one.await??);
        }
        times.sort_unstable();
        let at = |share: f64| {
            times
                .get((times.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{name:8} {:6.0} requests/s, p50 {:?}, p99 {:?}, p99.9 {:?}; {:.2} processors, resident {} MB, {} messages to listeners",
            times.len() as f64 / start.elapsed().as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            (processor() - before).as_secs_f64() / start.elapsed().as_secs_f64(),
            resident() / 1_000_000,
            received.swap(0, Ordering::Relaxed),
        );
    }
    gateway.stop().await;
    Ok(())
}

/// Processor time of this process, if the system reports it.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    // Ticks of user and system time, a hundred a second.
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(
        10 * ticks
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum::<u64>(),
    )
}

/// Memory of this process, the simulator and the clients included.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| {
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    kilobytes.unwrap_or(0) * 1_000
}
