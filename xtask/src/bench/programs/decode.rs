//! Decodes one document repeatedly: way, kind, file, rounds. Counts this thread's processor time,
//! which other processes do not lengthen.

#[path = "../decoder.rs"]
mod decoder;

use std::error::Error;
use std::hint::black_box;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, way, kind, file, rounds] = &arguments[..] else {
        return Err("way, kind, file, rounds".into());
    };
    let rounds: u32 = rounds.parse()?;
    let decoder = decoder::Decoder::new(way, kind, std::fs::read(file)?)?;
    let resident = status("VmRSS:")?;
    black_box(decoder.run()?);
    let resident = status("VmHWM:")?.saturating_sub(resident);
    let mut best = f64::INFINITY;
    let start = worked()?;
    // The kernel updates its account in steps, so single rounds are too short to be counted.
    let batches = rounds.clamp(1, 10);
    let batch = rounds.div_ceil(batches);
    for _ in 0..batches {
        let start = worked()?;
        for _ in 0..batch {
            black_box(decoder.run()?);
        }
        best = best.min((worked()? - start) / f64::from(batch));
    }
    let mean = (worked()? - start) / f64::from(batch * batches);
    println!("{mean} {best} {resident}");
    Ok(())
}

/// Processor seconds of this thread, the only one with work.
fn worked() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("empty")?.parse()?;
    Ok(nanoseconds / 1e9)
}

/// The kernel's figure for this process's memory, in bytes.
fn status(name: &str) -> Result<usize, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no figure")?.parse::<usize>()? * 1024)
}
