//! The simulator with a large cluster: time to start, time of lists, memory of the process.
//!
//! `cargo run --release -p proxmox-simulator --example large_cluster -- 10000` prints the figures, and fails
//! if a list takes over a second or the process over 200 MB.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

const MAX_LIST: Duration = Duration::from_secs(1);
const MAX_MEMORY_MB: u64 = 200;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let guests = std::env::args()
        .nth(1)
        .map_or(Ok(10_000), |text| text.parse());
    match guests.map_err(Failure::from).and_then(measure) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(guests: u32) -> Result<bool, Failure> {
    let begun = Instant::now();
    let mut builder = Simulator::builder();
    for number in 1..=10 {
        builder = builder.node(format!("pve{number}"));
    }
    let pve = builder.many_guests(guests).start_blocking()?;
    println!(
        "start with {guests} guests: {} ms",
        begun.elapsed().as_millis()
    );
    let mut good = true;
    for path in [
        "/cluster/resources",
        "/cluster/resources?type=vm",
        "/nodes/pve1/qemu",
        "/nodes/pve2/lxc",
        "/nodes/pve1/storage/local-lvm/content",
    ] {
        let begun = Instant::now();
        let bytes = get(&pve, path)?;
        let took = begun.elapsed();
        println!("GET {path}: {} ms, {} kB", took.as_millis(), bytes / 1000);
        good &= took <= MAX_LIST;
    }
    match memory()? {
        Some((now, peak)) => {
            println!("memory: {now} MB now, {peak} MB at most");
            good &= peak <= MAX_MEMORY_MB;
        }
        None => println!("memory: not known on this system"),
    }
    println!(
        "{}",
        if good {
            "within bounds"
        } else {
            "out of bounds"
        }
    );
    Ok(good)
}

/// Sends a request on a connection of its own; the length of the answer.
fn get(pve: &Simulator, path: &str) -> Result<usize, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pve.ca_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1")?;
    let connection = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(pve.address())?);
    write!(
        stream,
        "GET /api2/json{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // Some connections end without a TLS close_notify.
        if error.kind() != std::io::ErrorKind::UnexpectedEof {
            return Err(error.into());
        }
    }
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        let line = answer.split(|b| *b == b'\r').next().unwrap_or(&[]);
        return Err(format!("GET {path}: {}", String::from_utf8_lossy(line)).into());
    }
    Ok(answer.len())
}

/// Resident memory of this process now and at its peak, in MB, if the system reports it.
fn memory() -> Result<Option<(u64, u64)>, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kib| kib * 1024 / 1_000_000)
    };
    Ok(field("VmRSS:").zip(field("VmHWM:")))
}
