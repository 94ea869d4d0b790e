//! Decodes one document and counts the memory: way, kind, file.

#[path = "../decoder.rs"]
mod decoder;

use std::error::Error;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, way, kind, file] = &arguments[..] else {
        return Err("way, kind, file".into());
    };
    let decoder = decoder::Decoder::new(way, kind, std::fs::read(file)?)?;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let value = decoder.run()?;
    let (peak, kept) = (MEMORY.peak_usage(), MEMORY.current_usage());
    println!("{} {}", peak - before, kept - before);
    drop(value);
    Ok(())
}
