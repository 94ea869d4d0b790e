//! The simulator as a program.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use proxmox_simulator::{
    ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET, newest_release, releases,
};

/// A simulated Proxmox VE.
#[derive(Debug, Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8006")]
    listen: SocketAddr,
    /// Release to simulate.
    #[arg(long, default_value = newest_release(), value_parser = releases())]
    release: String,
    /// Name of a node; may be given several times.
    #[arg(long = "node", default_value = "pve1")]
    nodes: Vec<String>,
    /// Factor for the duration of tasks, compared with a real server.
    #[arg(long, default_value_t = 1.0)]
    time_factor: f64,
    /// Seed of MAC addresses, UUIDs and sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Password of root@pam.
    #[arg(long, default_value = ROOT_PASSWORD)]
    password: String,
    /// Number of guests at the start, one in four a container, distributed over the nodes.
    #[arg(long, default_value_t = 0)]
    guests: u32,
    /// Start from the state in this file if it exists, and write the state to it at the end.
    #[arg(long)]
    state: Option<std::path::PathBuf>,
    /// A fault to inject, `[TIMESx ]METHOD PATH KIND[:ARGUMENT]`, such as `2x GET /nodes status:500:broken`; may be given
    /// several times. Kinds: status:CODE:TEXT, latency:MS, drop, drop-answer, drop-body:BYTES, hang, truncate:BYTES,
    /// node-down, timeout, task-fails:TEXT, task-warns:N, break-console:BYTES.
    #[arg(long = "fault")]
    faults: Vec<String>,
    /// Write the certificate of the authority to this file.
    #[arg(long)]
    ca_file: Option<std::path::PathBuf>,
    /// Address of a second cluster with the node far1, to which guests of the first can migrate.
    #[arg(long)]
    other_cluster: Option<SocketAddr>,
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
    let other = match options.other_cluster {
        Some(address) => {
            let builder = Simulator::builder().release(&options.release).node("far1");
            let builder = builder.listen(address).time_factor(options.time_factor);
            Some(builder.start().await?)
        }
        None => None,
    };
    let mut builder = Simulator::builder()
        .release(options.release)
        .listen(options.listen)
        .time_factor(options.time_factor)
        .user("root@pam", options.password.as_str())
        .seed(options.seed);
    for node in &options.nodes {
        builder = builder.node(node);
    }
    builder = builder.many_guests(options.guests);
    if let Some(path) = options.state.as_ref().filter(|path| path.exists()) {
        let state = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        builder = builder.restore(state);
    }
    let simulator = builder.start().await?;
    for fault in &options.faults {
        let _ = simulator.faults().add(fault)?;
    }
    if let Some(path) = &options.ca_file {
        write(path, simulator.ca_pem())?;
    }
    println!(
        "Proxmox VE {} simulated at {}",
        simulator.release(),
        simulator.url()
    );
    println!("fingerprint  {}", simulator.fingerprint());
    println!("login        root@pam / {}", options.password);
    if let Some(other) = &other {
        println!("other        {} {}", other.url(), other.fingerprint());
    }
    println!("token        {TOKEN_ID}={TOKEN_SECRET}");
    println!("Press Ctrl-C to stop.");
    stop_signal().await?;
    if let Some(path) = &options.state {
        write(path, &simulator.snapshot())?;
    }
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM where it exists.
async fn stop_signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

fn write(path: &std::path::Path, text: &str) -> Result<(), String> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = path.with_file_name(name);
    // Two simulators must not share this file, and a link of its name must not be followed.
    std::fs::File::create_new(&unfinished)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
