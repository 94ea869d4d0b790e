//! Sends the same small request repeatedly: URL, requests in flight, requests in all.

#[path = "../subject.rs"]
#[allow(dead_code)]
mod subject;

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, in_flight, total] = &arguments[..] else {
        return Err("URL, requests in flight, requests in all".into());
    };
    let (in_flight, total): (u32, u32) = (in_flight.parse()?, total.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let client = Rc::new(subject::connect(url)?);
    // Connections are made before the clock starts.
    runtime.block_on(local.run_until(burst(&client, in_flight, in_flight * 4)))?;
    let (cpu, wall) = (cpu()?, Instant::now());
    runtime.block_on(local.run_until(burst(&client, in_flight, total)))?;
    println!("{} {}", wall.elapsed().as_secs_f64(), self::cpu()? - cpu);
    Ok(())
}

async fn burst(client: &Rc<subject::Client>, in_flight: u32, total: u32) -> Result<(), Box<dyn Error>> {
    let remaining = Rc::new(Cell::new(total));
    let mut tasks = Vec::new();
    for _ in 0..in_flight {
        let (client, remaining) = (Rc::clone(client), Rc::clone(&remaining));
        tasks.push(tokio::task::spawn_local(async move {
            while remaining.get() > 0 {
                remaining.set(remaining.get() - 1);
                subject::version(&client).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Processor seconds of this thread, the only one with work.
fn cpu() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("empty")?.parse()?;
    Ok(nanoseconds / 1e9)
}
