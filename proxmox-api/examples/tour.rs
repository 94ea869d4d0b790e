//! A tour of the crate: `cargo run -p proxmox-api --example tour`.
//!
//! Without any environment it starts a simulated Proxmox VE in this process and shows everything.
//!
//! With `PROXMOX_HOST` set it uses that server (the other variables are those of
//! `Client::from_env`) and only reads. `PROXMOX_TOUR_WRITE=1` runs the whole tour there: it creates
//! one virtual machine, changes it and removes it again. The disk (never written to) is on
//! `PROXMOX_TOUR_STORAGE`, by default the first storage for disks; the network card is connected to
//! `vmbr0`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use proxmox_api::pve::qemu::{QemuDrive, QemuNet};
use proxmox_api::request::Call;
use proxmox_api::task::{Task, TaskOutcome};
use proxmox_api::value::encode::ParamValue;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, Error, Value};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};

type Failure = Box<dyn std::error::Error>;
type Outcome<T = ()> = Result<T, Failure>;

const NAME: &str = "proxmox-api-tour";
const SNAPSHOT: &str = "before";
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe tour ends here: {}", Plain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome {
    let (simulator, pve) = open().await?;
    let writes = simulator.is_some() || flag("PROXMOX_TOUR_WRITE")?;
    let place = match &simulator {
        Some(simulator) => format!("a simulated Proxmox VE {}", simulator.release()),
        None => "your server".to_owned(),
    };
    say(format_args!("A tour of {place}, {}", pve.url()));

    let tour = Tour {
        pve,
        left: RefCell::default(),
        poll: Duration::from_millis(if simulator.is_some() { 100 } else { 1000 }),
    };
    let outcome = tokio::select! {
        outcome = tour.walk(writes) => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    if outcome.is_err() {
        tour.tidy_up().await;
    }
    outcome?;
    if simulator.is_some() {
        say(
            "\nNext: the same against a server of yours, only reading. Set PROXMOX_HOST, PROXMOX_USERNAME,",
        );
        say("PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET; README.md has the rest.");
    } else if !writes {
        say(
            "\nNothing was changed. PROXMOX_TOUR_WRITE=1 also makes a virtual machine and removes it.",
        );
    }
    Ok(())
}

/// The server, with the simulator that has to live as long.
async fn open() -> Outcome<(Option<Simulator>, Client)> {
    if std::env::var_os("PROXMOX_HOST").is_some_and(|host| !host.is_empty()) {
        return Ok((None, Client::from_env()?));
    }
    let simulator = Simulator::builder().time_factor(0.4).start().await?;
    let pve = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse()?)
        .build()?;
    Ok((Some(simulator), pve))
}

fn flag(name: &str) -> Outcome<bool> {
    match std::env::var(name).as_deref() {
        Err(_) | Ok("" | "0") => Ok(false),
        Ok("1") => Ok(true),
        Ok(other) => Err(format!("{name} has to be 0 or 1, not {other:?}").into()),
    }
}

/// What would be left behind if the tour ended now.
#[derive(Default)]
struct LeftBehind {
    guest: Option<(String, u32)>,
    /// The task that still works on it.
    task: Option<Task>,
}

struct Tour {
    pve: Client,
    left: RefCell<LeftBehind>,
    poll: Duration,
}

impl Tour {
    async fn walk(&self, writes: bool) -> Outcome {
        let node = self.welcome().await?;
        if writes {
            let vmid = self.create(&node).await?;
            self.change(&node, vmid).await?;
            self.snapshot(&node, vmid).await?;
            self.refused_write(&node, vmid).await?;
            self.guests().await?;
            self.remove(&node, vmid).await
        } else {
            self.storages(&node).await?;
            self.refused_read(&node).await?;
            self.guests().await
        }
    }

    async fn welcome(&self) -> Outcome<String> {
        heading("Who is there");
        let version = self.pve.version().get().await?;
        let user = self.pve.user().unwrap_or("nobody");
        say(format_args!(
            "   Proxmox VE {}, visited as {user}",
            Plain(&version.version)
        ));
        let mut nodes = self.pve.nodes().get().await?;
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        for node in &nodes {
            say(format_args!(
                "   {:<12} {:<8} {:>3} CPUs  {:>10}  up {}",
                Plain(&node.node),
                Plain(&node.status),
                number(node.maxcpu),
                bytes(node.maxmem),
                duration(node.uptime),
            ));
        }
        let node = self.pve.default_node();
        let online = |name: &str| {
            (nodes.iter()).any(|node| node.node == name && node.status.as_str() == "online")
        };
        match node {
            Some(name) if online(name) => Ok(name.to_owned()),
            Some(name) => {
                Err(format!("PROXMOX_NODE is {name:?}, but no such node is online").into())
            }
            None => (nodes.iter().map(|node| &node.node))
                .find(|name| online(name.as_str()))
                .map(ToString::to_string)
                .ok_or_else(|| "no node is online".into()),
        }
    }

    async fn storages(&self, node: &str) -> Outcome {
        heading("Room for more");
        let mut storages = self.pve.nodes().node(node).storage().get().await?;
        storages.sort_by(|a, b| a.storage.cmp(&b.storage));
        for storage in storages {
            say(format_args!(
                "   {:<16} {:<10} {:>10} free of {:<10} {}",
                Plain(&storage.storage),
                Plain(&storage.type_),
                bytes(storage.avail),
                bytes(storage.total),
                Plain(&storage.content),
            ));
        }
        Ok(())
    }

    async fn create(&self, node: &str) -> Outcome<u32> {
        heading("A new virtual machine, and what its task writes");
        let storage = self.disk_storage(node).await?;
        let vmid = self.pve.cluster().nextid().get().await?;
        let request = (self.pve.nodes().node(node).qemu())
            .post(vmid)
            .name(NAME)
            .memory(2048)
            .cores(2)
            .scsihw("virtio-scsi-single")
            .scsi(0, QemuDrive::new(format!("{storage}:32")).iothread(true))
            .net(0, QemuNet::virtio().bridge("vmbr0").firewall(true));
        show(request.call());
        let task = request.await?;
        self.left.borrow_mut().guest = Some((node.to_owned(), vmid));
        let outcome = self.follow(&task).await;
        if outcome.is_err() {
            // A failed task removes what it created.
            self.left.borrow_mut().guest = None;
        }
        outcome.map(|()| vmid)
    }

    async fn disk_storage(&self, node: &str) -> Outcome<String> {
        if let Ok(name) = std::env::var("PROXMOX_TOUR_STORAGE") {
            return Ok(name);
        }
        let fit = self.pve.nodes().node(node).storage().get();
        let fit = fit.content("images").enabled(true).await?;
        (fit.into_iter())
            .find(|storage| storage.active != Some(false))
            .map(|storage| storage.storage.into())
            .ok_or_else(|| format!("no storage of {node} takes disks").into())
    }

    async fn change(&self, node: &str, vmid: u32) -> Outcome {
        heading("Read, change, write");
        let vm = self.pve.nodes().node(node).qemu().vmid(vmid);
        let before = self.raw_config(node, vmid).await?;
        let config = vm.config().get().await?;
        let digest = config
            .digest
            .ok_or("the configuration came without a digest")?;
        let mut card = (config.net.get(0).cloned()).ok_or("the network card is gone")?;
        // The MAC address and the other values of the card are sent back unchanged.
        card.tag = Some(42);
        let request = vm
            .config()
            .put()
            .digest(&digest)
            .cores(4)
            .description("Made by a tour.")
            .net(0, card);
        show(request.call());
        request.clone().await?;
        let after = self.raw_config(node, vmid).await?;
        let mut kept = 0;
        for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            match (before.get(key), after.get(key)) {
                (old, new) if old == new => kept += 1,
                _ if key == "digest" => {}
                (old, new) => {
                    say(format_args!("   {key:<12} {}", value(old)));
                    say(format_args!("   {:>12} {}", "->", value(new)));
                    if !["cores", "description", "net0"].contains(&key.as_str()) {
                        return Err(format!("{key} changed too").into());
                    }
                }
            }
        }
        say(format_args!("   {kept} other keys are as they were."));
        say("\n   Somebody else writes with the same, now outdated digest:");
        self.refusal(request.await)
    }

    /// The configuration as the server sends it, to compare all keys.
    async fn raw_config(&self, node: &str, vmid: u32) -> Outcome<serde_json::Map<String, Value>> {
        let path = format!("/nodes/{node}/qemu/{vmid}/config");
        match self.pve.request::<Value>(Method::Get, path).await? {
            Value::Object(config) => Ok(config),
            other => Err(format!("the configuration is no object but {other}").into()),
        }
    }

    async fn snapshot(&self, node: &str, vmid: u32) -> Outcome {
        heading("A snapshot, a mistake, and back");
        let vm = self.pve.nodes().node(node).qemu().vmid(vmid);
        let request = vm.snapshot().post(SNAPSHOT).description("All is well.");
        show(request.call());
        self.follow(&request.await?).await?;

        say("");
        let request = vm.config().put().cores(1).unset("net0");
        show(request.call());
        request.await?;

        say("");
        let request = vm.snapshot().snapname(SNAPSHOT).rollback().post();
        show(request.call());
        self.follow(&request.await?).await?;
        let config = vm.config().get().await?;
        let card = config.net.get(0).map(ToString::to_string);
        say(format_args!(
            "   Now again: {} cores and the card {}",
            number(config.cores),
            number(card.as_deref()),
        ));
        if config.cores != Some(4) || card.is_none() {
            return Err("the rollback did not bring back what was there".into());
        }
        Ok(())
    }

    async fn refused_write(&self, node: &str, vmid: u32) -> Outcome {
        heading("What a refusal looks like");
        let vm = self.pve.nodes().node(node).qemu().vmid(vmid);
        // Values that no server accepts are not sent.
        let request = vm.config().put().cores(0);
        show(request.call());
        match request.await {
            Err(error @ Error::Request(_)) => say(format_args!("   {error}")),
            Err(other) => return Err(other.into()),
            Ok(()) => return Err("zero cores were accepted".into()),
        }
        let request = (vm.config().put())
            .param("colour", "blue")
            .param("shape", "round");
        show(request.call());
        self.refusal(request.await)
    }

    async fn refused_read(&self, node: &str) -> Outcome {
        heading("What a refusal looks like");
        let request = (self.pve.nodes().node(node).tasks().get()).param("colour", "blue");
        show(request.call());
        self.refusal(request.await.map(|_| ()))
    }

    /// Prints the error of a call that must be refused.
    fn refusal(&self, answer: Result<(), Error>) -> Outcome {
        let error = match answer {
            Ok(()) => return Err("the server accepted what it had to refuse".into()),
            Err(Error::Api(error)) => error,
            Err(other) => return Err(other.into()),
        };
        say(format_args!(
            "   {} {}",
            error.status(),
            Plain(error.message())
        ));
        say(format_args!("   {:<12} {:?}", "kind", error.kind()));
        for (parameter, reason) in error.errors() {
            say(format_args!(
                "   {:<12} {}",
                Plain(parameter),
                Plain(reason.trim())
            ));
        }
        Ok(())
    }

    async fn guests(&self) -> Outcome {
        heading("Guests");
        let mut guests = self.pve.cluster().resources().get().type_("vm").await?;
        guests.sort_by_key(|guest| guest.vmid);
        if guests.is_empty() {
            say("   none");
        }
        for guest in guests {
            say(format_args!(
                "   {:>9}  {:<5} {:<24} {:<8} {:<12} {:>3} CPUs  {:>10}",
                number(guest.vmid),
                guest.type_,
                Plain(guest.name.as_deref().unwrap_or("-")),
                Plain(guest.status.as_deref().unwrap_or("-")),
                Plain(guest.node.as_ref().map_or("-", |node| node.as_str())),
                number(guest.maxcpu),
                bytes(guest.maxmem),
            ));
        }
        Ok(())
    }

    async fn remove(&self, node: &str, vmid: u32) -> Outcome {
        heading("Away with it");
        let request = (self.pve.nodes().node(node).qemu().vmid(vmid))
            .delete()
            .purge(true);
        show(request.call());
        self.follow(&request.await?).await?;
        self.left.borrow_mut().guest = None;
        Ok(())
    }

    /// Shows a task's log as it grows.
    async fn follow(&self, task: &Task) -> Outcome {
        say(format_args!("   {task}"));
        self.left.borrow_mut().task = Some(task.clone());
        let wait = task.wait().timeout(PATIENCE).poll_interval(self.poll);
        let outcome = wait
            .on_log(|line| say(format_args!("   | {}", Plain(line))))
            .await;
        self.left.borrow_mut().task = None;
        let outcome = outcome?;
        if let TaskOutcome::Warnings(_) = outcome {
            say(format_args!("   {outcome}"));
        }
        Ok(())
    }

    /// Removes what an interrupted tour left behind.
    async fn tidy_up(&self) {
        let LeftBehind { guest, task } = self.left.take();
        let Some((node, vmid)) = guest else {
            return;
        };
        let tidied = async {
            if let Some(task) = task {
                say(format_args!("\nWaiting for {task}"));
                let outcome = task.wait().timeout(PATIENCE).outcome().await?;
                match (
                    task.upid().map_or("", |upid| upid.task_type()),
                    outcome.is_success(),
                ) {
                    ("qmcreate", false) | ("qmdestroy", true) => return Ok(()),
                    _ => {}
                }
            }
            say(format_args!("\nRemoving virtual machine {vmid}"));
            let delete = self.pve.nodes().node(&node).qemu().vmid(vmid).delete();
            delete.await?.wait().timeout(PATIENCE).await.map(|_| ())
        };
        if let Err(error) = tidied.await as Result<(), Error> {
            eprintln!("Virtual machine {vmid} is left behind: {}", Plain(error));
        }
    }
}

/// Prints what is about to be sent.
fn show(call: &Call) {
    say(format_args!("   > {} {}", call.method(), call.path()));
    for (key, value) in call.params().iter() {
        let text = match value {
            ParamValue::One(value) => value.clone(),
            values => values.texts().join(" "),
        };
        say(format_args!("     {key:<12} {}", Plain(&text)));
    }
}

fn heading(text: &str) {
    say(format_args!("\n{text}"));
}

/// Prints a line. A closed pipe, such as that of `head`, must not end the tour before the machine
/// is removed.
fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Text from a server on one line, with control characters escaped.
struct Plain<T>(T);

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = (self.0.to_string().trim_end().chars())
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        f.pad(&text)
    }
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "(not set)".to_owned(),
        Some(Value::String(text)) => Plain(text).to_string(),
        Some(other) => other.to_string(),
    }
}

fn number(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn bytes(value: Option<u64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (value as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

fn duration(seconds: Option<i64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 3600 => format!("{} min", s / 60),
        Some(s) if s < 86_400 => format!("{} h", s / 3600),
        Some(s) => format!("{} d", s / 86_400),
    }
}
