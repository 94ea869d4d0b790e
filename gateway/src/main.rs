//! The gateway as a program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
#[cfg(feature = "simulator")]
use proxmox_gateway::{Background, VclustersConfig};
use proxmox_gateway::{Config, Gateway};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// A server in front of a Proxmox VE cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// TOML file with settings; options take precedence.
    #[arg(long, env = "PROXMOX_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
    /// Address of a node, such as https://pve1:8006; may be repeated. Without it, a simulated
    /// cluster is started.
    #[arg(long, env = "PROXMOX_GATEWAY_CLUSTER", value_delimiter = ',')]
    cluster: Vec<String>,
    /// SHA-256 fingerprint of a node's certificate; may be repeated.
    #[arg(long, env = "PROXMOX_GATEWAY_FINGERPRINT", value_delimiter = ',')]
    fingerprint: Vec<String>,
    /// Address of the HTTP listener.
    #[arg(long, env = "PROXMOX_GATEWAY_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the gRPC listener.
    #[arg(long, env = "PROXMOX_GATEWAY_GRPC")]
    grpc: Option<SocketAddr>,
    /// Folder for persistent data.
    #[arg(long, env = "PROXMOX_GATEWAY_DATA")]
    data: Option<PathBuf>,
    /// Format of the log, which goes to the standard error. RUST_LOG selects its content.
    #[arg(long, env = "PROXMOX_GATEWAY_LOG", default_value = "text")]
    log: Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    Text,
    Json,
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

fn log(form: Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    match form {
        Log::Text => log.init(),
        Log::Json => log.json().init(),
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    log(options.log);
    let mut config = match &options.config {
        Some(path) => Config::from_file(path)?,
        None => Config::default(),
    };
    if !options.cluster.is_empty() {
        config.cluster.urls = options.cluster;
    }
    if !options.fingerprint.is_empty() {
        config.cluster.fingerprints = options.fingerprint;
    }
    config.listen = options.listen.unwrap_or(config.listen);
    config.grpc = options.grpc.or(config.grpc);
    config.data = options.data.or(config.data);
    #[cfg(feature = "simulator")]
    let _simulator = simulated(&mut config).await?;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let gateway = Gateway::start(config).await?;
    println!("gateway      {scheme}://{}", gateway.address());
    if let Some(address) = gateway.grpc_address() {
        println!("gRPC         {scheme}://{address}");
    }
    println!("Press Ctrl-C to stop.");
    stopped().await?;
    gateway.stop().await;
    Ok(())
}

/// The number of the virtual machine that simulated Kubernetes clusters are cloned from.
#[cfg(feature = "simulator")]
const TEMPLATE: u32 = 9_000;

/// Starts a simulated cluster if none is configured.
#[cfg(feature = "simulator")]
async fn simulated(
    config: &mut Config,
) -> Result<Option<proxmox_simulator::Simulator>, Box<dyn std::error::Error>> {
    use proxmox_simulator::{ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};
    if !config.cluster.urls.is_empty() {
        return Ok(None);
    }
    // The template has a fixed number; clones have its files.
    let kubeconfig = "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\n";
    let simulator = Simulator::builder()
        .node("node1")
        .node("node2")
        .many_guests(8)
        .qemu(
            TEMPLATE,
            "node1",
            &[
                ("name", "kubernetes"),
                ("agent", "1"),
                ("scsi0", "local-lvm:8"),
                ("net0", "virtio,bridge=vmbr0"),
            ],
        )
        .guest_file(TEMPLATE, "/etc/rancher/k3s/k3s.yaml", kubeconfig)
        .start()
        .await?;
    config
        .vclusters
        .get_or_insert(VclustersConfig::new(TEMPLATE, "1.28.0"));
    let pve = proxmox_api::Client::builder(simulator.url())
        .fingerprint(simulator.fingerprint().parse()?)
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .build()?;
    let template = pve.guest(TEMPLATE).make_template().await?;
    template.wait().await?;
    config.cluster.urls = vec![simulator.url()];
    config.cluster.fingerprints = vec![simulator.fingerprint().to_owned()];
    let background = Background::new(format!("{TOKEN_ID}={TOKEN_SECRET}"));
    config.background.get_or_insert(background);
    println!("simulated    {}", simulator.url());
    println!("login        root@pam / {ROOT_PASSWORD}");
    println!("token        {TOKEN_ID}={TOKEN_SECRET}");
    Ok(Some(simulator))
}

/// Waits for Ctrl-C, or for SIGTERM where that exists.
async fn stopped() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => stopped,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
