//! Decodes one document over and over: way, kind, file, rounds.

#[path = "../decoder.rs"]
mod decoder;

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, way, kind, file, rounds] = &arguments[..] else {
        return Err("way, kind, file, rounds".into());
    };
    let rounds: u32 = rounds.parse()?;
    let decoder = decoder::Decoder::new(way, kind, std::fs::read(file)?)?;
    black_box(decoder.run()?);
    let start = Instant::now();
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        black_box(decoder.run()?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{} {best}", start.elapsed().as_secs_f64() / f64::from(rounds));
    Ok(())
}
