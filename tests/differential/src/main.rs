//! The program: two servers, one list of calls.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use proxmox_api::Secret;
use proxmox_api::tls::Fingerprint;
use proxmox_differential::list::{self, Scenario};
use proxmox_differential::report::Report;
use proxmox_differential::run::{Plan, Run};
use proxmox_differential::server::{Access, Address, Names};

/// Sends one list of calls to two servers and reports where their answers differ.
///
/// Without --write nothing is changed: only GET is sent. With --refusals, changing calls are sent,
/// too, each with an unknown parameter, so that the server refuses it before it changes
/// anything. With --write, guests, users, storages and more are created on BOTH servers, examined
/// and removed; use a test cluster. Created objects have a number of --vmids or a name that starts
/// with --prefix; those that could not be removed are listed at the end.
///
/// Exit status: 0 no differences, 1 differences, 2 the run failed or something was left behind.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The server: `simulator`, `simulator:RELEASE`, `https://HOST:8006`, or `environment` for the
    /// variables PROXMOX_HOST, PROXMOX_USERNAME, PROXMOX_TOKEN_ID, PROXMOX_TOKEN_SECRET,
    /// PROXMOX_PASSWORD, PROXMOX_FINGERPRINT, PROXMOX_CA_FILE and PROXMOX_INSECURE.
    #[arg(default_value = "simulator", required_unless_present = "list")]
    server: Address,
    /// The server to compare with, in the same form; a simulator has the release, nodes and
    /// storages of the other server unless a release is given. If this is a URL too, the server
    /// must be `environment`.
    #[arg(long, default_value = "simulator")]
    against: Address,
    /// For a URL: file with `USER@REALM!NAME=SECRET`.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// For a URL: the user for --password-file.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// File whose first line is the password.
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// SHA-256 fingerprint of the server's certificate.
    #[arg(long)]
    fingerprint: Option<Fingerprint>,
    /// PEM file of the authority that signed it.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Accept any certificate.
    #[arg(long)]
    insecure: bool,
    /// Also send calls that are refused before they change anything.
    #[arg(long)]
    refusals: bool,
    /// Create, change and remove objects on both servers. Calls for root@pam only use a login with
    /// its password.
    #[arg(long, requires = "vmids")]
    write: bool,
    /// Numbers of created guests, such as 9000-9019; at least ten, all unused.
    #[arg(long, value_parser = range)]
    vmids: Option<RangeInclusive<u32>>,
    /// Prefix of all other names: two to four lower-case letters.
    #[arg(long, default_value = "dfr", value_parser = prefix)]
    prefix: String,
    /// Node to work on; by default the first one that is online.
    #[arg(long)]
    node: Option<String>,
    /// Storage for disks, snapshots and container templates.
    #[arg(long, default_value = "local")]
    storage: String,
    /// Bridge for network cards.
    #[arg(long, default_value = "vmbr0")]
    bridge: String,
    /// Container template; by default the first one on the storage.
    #[arg(long)]
    template: Option<String>,
    /// More scenarios, in a file like calls.toml; with --write.
    #[arg(long, requires = "write")]
    scenarios: Vec<PathBuf>,
    /// Only calls with this text in their endpoint or in the name of their scenario; may be
    /// repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Write everything as JSON to this file. It contains data of the servers: check it before
    /// sharing it.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Include the bodies of all answers in the report.
    #[arg(long, requires = "report")]
    bodies: bool,
    /// Time limit of a task, in seconds.
    #[arg(long, default_value_t = 60)]
    task_timeout: u64,
    /// Print the calls instead of sending them.
    #[arg(long)]
    list: bool,
}

fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let wrong = || "expected two numbers of at least 1000, such as 9000-9019".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let (from, to) = (number(from)?, number(to)?);
    match (from >= 1000, to >= from.saturating_add(9)) {
        (false, _) => Err(wrong()),
        (_, false) => Err("ten numbers are needed at least".into()),
        (true, true) => Ok(from..=to),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let fits = (2..=4).contains(&text.len()) && text.chars().all(|c| c.is_ascii_lowercase());
    match fits {
        true => Ok(text.to_owned()),
        false => Err("expected two to four lower-case letters".into()),
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(Some(report)) if !report.left.is_empty() => ExitCode::from(2),
        Ok(Some(report)) if !report.is_clean() => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(options: Options) -> Result<Option<Report>, String> {
    let mut scenarios = list::scenarios()?;
    for path in &options.scenarios {
        let more =
            list::read(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        scenarios.extend(more);
    }
    if options.list {
        print(&scenarios)?;
        return Ok(None);
    }
    let access = access(&options)?;
    let names = Names {
        node: options.node,
        storage: options.storage,
        bridge: options.bridge,
        template: options.template,
        prefix: options.prefix,
        vmids: options.vmids.unwrap_or(9000..=9019),
    };
    let (first, second) = proxmox_differential::open(
        (&options.against, &access),
        (&options.server, &access),
        &names,
    )
    .await?;
    eprintln!("first:  {}\nsecond: {}", first.title, second.title);
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("stopping; removing created objects first");
            STOP.store(true, Ordering::Relaxed);
        }
    });
    let plan = Plan {
        refusals: options.refusals,
        scenarios: match options.write {
            true => scenarios,
            false => Vec::new(),
        },
        only: options.only,
        patience: Duration::from_secs(options.task_timeout),
    };
    let run = Run {
        first,
        second,
        names,
        plan,
        progress: true,
        stop: &STOP,
    };
    let report = run.execute().await?;
    print!("{report}");
    if let Some(path) = &options.report {
        let json = report.json(options.bodies)?;
        std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Some(report))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn access(options: &Options) -> Result<Access, String> {
    let token = match &options.token_file {
        None => None,
        Some(path) => {
            let text = read(path)?;
            let (id, secret) = text
                .trim()
                .split_once('=')
                .ok_or_else(|| format!("{}: expected USER@REALM!NAME=SECRET", path.display()))?;
            Some((id.to_owned(), Secret::from(secret)))
        }
    };
    let password = match (&options.user, &options.password_file) {
        (Some(user), Some(path)) => {
            let text = read(path)?;
            let line = text.lines().next().unwrap_or_default();
            Some((user.clone(), Secret::from(line)))
        }
        _ => None,
    };
    Ok(Access {
        token,
        password,
        fingerprint: options.fingerprint,
        ca_file: options.ca_file.clone(),
        insecure: options.insecure,
    })
}

fn print(scenarios: &[Scenario]) -> Result<(), String> {
    println!("# read");
    for path in list::readings() {
        println!("GET {path}");
    }
    println!("\n# refused (--refusals)");
    for call in list::refusals()? {
        println!("{call}");
    }
    for scenario in scenarios {
        println!("\n# scenario {} (--write)", scenario.name);
        for call in scenario.before.iter().chain(&scenario.calls) {
            println!("{call}");
        }
        for call in &scenario.undo {
            println!("{call}  # to undo");
        }
    }
    Ok(())
}
