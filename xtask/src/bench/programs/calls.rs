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
    let [_, url, flying, total] = &arguments[..] else {
        return Err("URL, requests in flight, requests in all".into());
    };
    let (flying, total): (u32, u32) = (flying.parse()?, total.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let client = Rc::new(subject::connect(url)?);
    // Connections are made before the clock starts.
    runtime.block_on(local.run_until(burst(&client, flying, flying * 4)))?;
    let (cpu, wall) = (cpu()?, Instant::now());
    runtime.block_on(local.run_until(burst(&client, flying, total)))?;
    println!("{} {}", wall.elapsed().as_secs_f64(), self::cpu()? - cpu);
    Ok(())
}

async fn burst(client: &Rc<subject::Client>, flying: u32, total: u32) -> Result<(), Box<dyn Error>> {
    let left = Rc::new(Cell::new(total));
    let mut tasks = Vec::new();
    for _ in 0..flying {
        let (client, left) = (Rc::clone(client), Rc::clone(&left));
        tasks.push(tokio::task::spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
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
