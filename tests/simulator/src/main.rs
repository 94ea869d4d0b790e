//! The simulator as a program.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use proxmox_simulator::{ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET, releases};

/// A simulated Proxmox VE.
#[derive(Debug, Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8006")]
    listen: SocketAddr,
    /// Release to play.
    #[arg(long, default_value = "9.2", value_parser = releases())]
    release: String,
    /// Name of a node; may be given several times.
    #[arg(long = "node", default_value = "pve1")]
    nodes: Vec<String>,
    /// How long tasks take, compared with a real server.
    #[arg(long, default_value_t = 1.0)]
    time_factor: f64,
    /// A failure to order, `[TIMESx ]METHOD PATH KIND[:ARGUMENT]`, such as `2x GET /nodes status:500:broken`; may be given
    /// several times. Kinds: status:CODE:TEXT, latency:MS, drop, drop-answer, drop-body:BYTES, hang, truncate:BYTES,
    /// node-down, timeout, task-fails:TEXT, task-warns:N, break-console:BYTES.
    #[arg(long = "fault")]
    faults: Vec<String>,
    /// Write the certificate of the authority to this file.
    #[arg(long)]
    ca_file: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Simulator::builder()
        .release(options.release)
        .listen(options.listen)
        .time_factor(options.time_factor);
    for node in options.nodes {
        builder = builder.node(node);
    }
    let simulator = builder.start().await?;
    for fault in &options.faults {
        let _ = simulator.faults().add(fault)?;
    }
    if let Some(path) = options.ca_file {
        let unfinished = path.with_extension("tmp");
        std::fs::write(&unfinished, simulator.ca_pem())
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!(
        "Proxmox VE {} simulated at {}",
        simulator.release(),
        simulator.url()
    );
    println!("fingerprint  {}", simulator.fingerprint());
    println!("login        root@pam / {ROOT_PASSWORD}");
    println!("token        {TOKEN_ID}={TOKEN_SECRET}");
    println!("Press Ctrl-C to stop.");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
