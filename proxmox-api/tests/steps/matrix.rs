//! Each job on each release, with an offline node, a lock, and a task that fails halfway: the
//! error, what is left behind, and that the job can be completed after the fault. The resulting
//! table is in `docs/jobs.md`; `FAULTS_WRITE=1` writes it there. What an error lists as left behind
//! is compared with the changes in the simulator's state: all of them, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use proxmox_api::error::GuestErrorKind;
use proxmox_api::manage::agent::Agent;
use proxmox_api::manage::backups::{BackupJob, FindBackups, Prune, Recover, ReplicationJob};
use proxmox_api::manage::clones::Clones;
use proxmox_api::manage::container::{Container, Template};
use proxmox_api::manage::firewall::{Rule, Rules, Scope};
use proxmox_api::manage::guest::{CloudInit, Retention};
use proxmox_api::manage::ha::HaWanted;
use proxmox_api::manage::health::CheckHealth;
use proxmox_api::manage::image::Image;
use proxmox_api::manage::machine::Machine;
use proxmox_api::manage::maintenance::{Drain, RollingReboot};
use proxmox_api::manage::metrics::{Consolidation, Timeframe, node_series};
use proxmox_api::manage::migration::{Migration, Remote, RemoteMigration};
use proxmox_api::manage::sdn::Network;
use proxmox_api::manage::work::{Left, Work};
use proxmox_api::stream::upload::ChecksumAlgorithm;
use proxmox_api::task::AndWait;
use proxmox_api::{Client, Error};
use proxmox_simulator::{Builder, Fault, Simulator, TOKEN_ID, TOKEN_SECRET, last_of_each_major};
use proxmox_test_support::page::Part;

use crate::cluster_state::ClusterState;
use crate::support::{GIB, Steps, ha_settings_path, start};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Job {
    Machine,
    Clones,
    Change,
    Backups,
    Restore,
    Prune,
    Replication,
    Drain,
    Reboot,
    Migration,
    OtherCluster,
    HighAvailability,
    Firewall,
    Sdn,
    Addresses,
    Files,
    Health,
    Console,
    Container,
    Locks,
    Handles,
    Series,
}

/// All jobs, with their numbers and names in the table.
pub(crate) const JOBS: [(Job, u8, &str); 22] = [
    (Job::Machine, 1, "From image to machine"),
    (Job::Clones, 2, "Many clones on several nodes"),
    (Job::Change, 3, "Change, and reboot if needed"),
    (Job::Backups, 4, "Backup job, run now"),
    (Job::Restore, 4, "Restore of the newest backup"),
    (Job::Prune, 4, "Preview of pruning"),
    (Job::Replication, 4, "Replication job"),
    (Job::Drain, 5, "Drain of a node"),
    (Job::Reboot, 5, "Reboot of a cluster"),
    (Job::Migration, 6, "Migration"),
    (Job::OtherCluster, 6, "Migration to another cluster"),
    (Job::HighAvailability, 7, "High availability of a guest"),
    (Job::Firewall, 8, "Firewall rules by content"),
    (Job::Sdn, 8, "SDN as a unit"),
    (Job::Addresses, 9, "Addresses of a guest"),
    (Job::Files, 9, "File systems of a guest"),
    (Job::Health, 9, "Health of disks and pools"),
    (Job::Console, 10, "Console from a guest"),
    (Job::Container, 11, "Container from a template"),
    (Job::Locks, 12, "Waiting for a lock"),
    (Job::Handles, 13, "Five handles of many guests"),
    (Job::Series, 14, "Figures over time"),
];

/// What goes wrong while a job runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disruption {
    NodeOffline,
    LockHeld,
    FailsHalfway,
}

const DISRUPTIONS: [Disruption; 3] = [
    Disruption::NodeOffline,
    Disruption::LockHeld,
    Disruption::FailsHalfway,
];

const URL: &str = "https://images.example.org/debian-13.qcow2";

/// An empty qcow2 image of 1 GiB.
fn image() -> Vec<u8> {
    let mut image = b"QFI\xfb".to_vec();
    image.extend(3_u32.to_be_bytes());
    image.extend([0; 16]);
    image.extend(GIB.to_be_bytes());
    image.resize(4096, 0);
    image
}

fn sum(data: &[u8]) -> String {
    use sha2::Digest;

    let digest = sha2::Sha256::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cluster on which all jobs can run.
pub(crate) fn cluster(release: &str) -> Builder {
    let ceph = |memory| {
        let card = ("net0", "virtio,bridge=vmbr0");
        [
            ("scsi0", "ceph:1"),
            ("memory", memory),
            ("agent", "1"),
            card,
        ]
    };
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
        .node("pve3")
        .storage("ceph", "rbd", &["images", "rootdir"], 500 * GIB)
        .storage("zfs", "zfspool", &["images", "rootdir"], 500 * GIB)
        .storage("nas", "nfs", &["backup"], 500 * GIB)
        .web_file(URL, image())
        .qemu(
            9000,
            "pve1",
            &[("name", "base"), ("template", "1"), ("scsi0", "ceph:4")],
        )
        .qemu(101, "pve2", &ceph("4096"))
        .running(101)
        .qemu(102, "pve2", &ceph("2048"))
        .running(102)
        .qemu(103, "pve2", &[("scsi0", "zfs:1")])
        .qemu(104, "pve1", &[("scsi0", "ceph:1")])
}

fn machine() -> Machine {
    let image = Image::url(URL).checksum(ChecksumAlgorithm::Sha256, sum(&image()));
    Machine::new("web", image)
        .node("pve2")
        .ids(5000..=5009)
        .disk("local-lvm", 2 * GIB)
        .cloud_init(CloudInit::new().user("admin").dhcp(0))
}

fn clones() -> Clones {
    Clones::of(9000)
        .count(3)
        .ids(6000..=6009)
        .name("c-{n}")
        .nodes(["pve1", "pve2", "pve3"])
        .at_once(1)
        .full(true)
        .started()
}

fn container() -> Container {
    Container::new("dns", Template::named("debian-13-standard"))
        .node("pve2")
        .ids(7000..=7009)
}

async fn carry_out<W: Work>(pve: &Client, steps: &Steps, work: W) -> Result<W::Done, Error> {
    pve.carry_out(work).on_step(steps.listener()).await
}

fn agent(pve: &Client) -> Agent {
    pve.guest(101).agent()
}

impl Job {
    /// A second cluster, if the job needs one.
    pub(crate) async fn remote_cluster(self, release: &str) -> Option<Simulator> {
        if self != Self::OtherCluster {
            return None;
        }
        let remote_cluster = Simulator::builder().release(release).node("far1");
        Some(start(remote_cluster).await.0)
    }

    /// Runs the job; `remote` is the second cluster, if the job needs one.
    pub(crate) async fn run(
        self,
        pve: &Client,
        remote: &Simulator,
        steps: &Steps,
    ) -> Result<(), Error> {
        match self {
            Self::Machine => carry_out(pve, steps, machine()).await.map(drop),
            Self::Clones => carry_out(pve, steps, clones()).await.map(drop),
            Self::Change => {
                let apply = pve.guest(101).apply_qemu(|config| {
                    config.cores = Some(4);
                    config.description = Some("four cores".to_owned());
                });
                let apply = apply.reboot_if_needed(Duration::from_secs(60));
                apply.await.map(drop)
            }
            Self::Backups => {
                let job = BackupJob::new("nightly", "nas", "02:30").guests([101, 104]);
                carry_out(pve, steps, job.clone()).await?;
                carry_out(pve, steps, job.run_now()).await.map(drop)
            }
            Self::Restore => {
                let newest = Recover::newest(FindBackups::of(101)).replace().started();
                carry_out(pve, steps, newest).await.map(drop)
            }
            Self::Prune => {
                let rule = Retention {
                    last: 1,
                    ..Retention::default()
                };
                let prune = Prune::of("pve2", "nas", rule).guest(101);
                carry_out(pve, steps, prune.clone().dry_run()).await?;
                carry_out(pve, steps, prune).await.map(drop)
            }
            Self::Replication => {
                let job = ReplicationJob::of(103, "pve1").schedule("*/30");
                carry_out(pve, steps, job).await.map(drop)
            }
            Self::Drain => carry_out(pve, steps, Drain::of("pve2").at_once(1))
                .await
                .map(drop),
            Self::Reboot => {
                let drain = Drain::of("").at_once(1);
                let reboot = RollingReboot::of(["pve2"]).drained_as(drain);
                let reboot = reboot.patience(Duration::from_secs(5));
                carry_out(pve, steps, reboot).await
            }
            Self::Migration => carry_out(pve, steps, Migration::of(101, "pve3"))
                .await
                .map(drop),
            Self::OtherCluster => {
                let target = Remote::new("127.0.0.1", format!("{TOKEN_ID}={TOKEN_SECRET}"))
                    .port(remote.address().port())
                    .fingerprint(remote.fingerprint());
                let go = RemoteMigration::of(101, target, "local-lvm", "vmbr0");
                carry_out(pve, steps, go.number(301)).await.map(drop)
            }
            Self::HighAvailability => {
                let ha = HaWanted::of(101).nodes([("pve2", 2), ("pve3", 1)]);
                carry_out(pve, steps, ha).await.map(drop)
            }
            Self::Firewall => {
                let ports = [22, 80, 443].map(|port| Rule::accept_in().port("tcp", port));
                let rules = Rules::exactly(Scope::Guest(101), ports.to_vec());
                carry_out(pve, steps, rules).await.map(drop)
            }
            Self::Sdn => {
                let network = Network::new()
                    .zone("lab", "simple", [])
                    .vnet("labnet", "lab", []);
                carry_out(pve, steps, network).await.map(drop)
            }
            Self::Addresses => {
                let addresses = pve.guest(101).wait_for_address(Duration::from_millis(500));
                addresses.await.map(drop)
            }
            Self::Files => agent(pve).file_systems().await.map(drop),
            Self::Health => carry_out(pve, steps, CheckHealth::new().details())
                .await
                .map(drop),
            Self::Console => {
                let console = pve.guest(101).console().await?;
                let mut terminal = console.open().terminal().await?;
                terminal.write(b"hostname\n").await?;
                terminal.read().await.map(drop)
            }
            Self::Container => carry_out(pve, steps, container()).await.map(drop),
            Self::Locks => {
                let guest = pve.guest(103).wait_for_locks(Duration::from_millis(100));
                guest.start().and_wait().await.map(drop)
            }
            Self::Handles => {
                for vmid in [101, 102, 103, 9000] {
                    pve.guest(vmid).location().await?;
                }
                pve.guest(101).status().await.map(drop)
            }
            Self::Series => {
                let series = node_series(pve, "pve2", Timeframe::Hour, Consolidation::Average);
                series.await.map(drop)
            }
        }
    }

    /// Runs the job again after a failure halfway.
    pub(crate) async fn again(
        self,
        pve: &Client,
        remote: &Simulator,
        planned: bool,
    ) -> Result<(), Error> {
        if self == Self::Sdn && planned {
            // Planned changes count as those of others, unless a setting allows them.
            let network = Network::new().zone("lab", "simple", []);
            let network = network.vnet("labnet", "lab", []).with_others();
            return pve.carry_out(network).await.map(drop);
        }
        self.run(pve, remote, &Steps::default()).await
    }

    /// Creates what the job needs.
    pub(crate) async fn prepare(
        self,
        disruption: Disruption,
        simulator: &Simulator,
        remote: &Simulator,
        pve: &Client,
    ) -> Result<(), Error> {
        match (self, disruption) {
            // Before guests exist, there is nothing to lock.
            (Self::Machine | Self::Container, Disruption::LockHeld) => {
                self.run(pve, remote, &Steps::default()).await?;
                let vmid = if self == Self::Machine { 5000 } else { 7000 };
                pve.guest(vmid).stop().and_wait().await.map(drop)
            }
            (Self::Clones, Disruption::LockHeld) => {
                pve.carry_out(clones().count(1)).await?;
                pve.guest(6000).stop().and_wait().await.map(drop)
            }
            (Self::Restore | Self::Prune, _) => {
                for _ in 0..2 {
                    pve.guest(101).backup("nas").and_wait().await?;
                    // The backups have different times, and the ticket of the login stays valid.
                    simulator.clock().advance(Duration::from_secs(60));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Injects the fault. For jobs without a lock of a guest, or without a task, the most similar
    /// fault is used.
    fn inject(self, disruption: Disruption, release: &str, simulator: &Simulator) {
        let faults = simulator.faults();
        let once = |method: &str, path: &str, skip: u32, fault: Fault| {
            faults.on(method, path).skip(skip).times(1).respond(fault);
        };
        let task_fails = || Fault::TaskFails("no space left on device".into());
        let refused = || Fault::Status(500, "input/output error".into());
        let lock = |what: &str| {
            let text = format!("can't lock file '/var/lock/{what}.lck' - got timeout");
            Fault::Status(500, text)
        };
        let cluster = |what: &str| {
            let text = format!("cfs-lock '{what}' error: got lock request timeout");
            Fault::Status(500, text)
        };
        match (disruption, self) {
            // Forwarding of calls between nodes has its own table; here the answer itself is the
            // fault.
            (
                Disruption::NodeOffline,
                Self::Console | Self::Addresses | Self::Files | Self::Series,
            ) => {
                faults.on("*", "/nodes/pve2/**").respond(Fault::NodeDown);
            }
            (Disruption::NodeOffline, _) => simulator.set_online("pve2", false),
            (Disruption::LockHeld, job) => match job {
                Self::Machine => simulator.set_lock(5000, Some("backup")),
                Self::Container => simulator.set_lock(7000, Some("backup")),
                Self::Clones => simulator.set_lock(6000, Some("backup")),
                Self::Locks => simulator.set_lock(103, Some("backup")),
                Self::Replication => once(
                    "POST",
                    "/cluster/replication",
                    0,
                    cluster("replication_cfg"),
                ),
                Self::HighAvailability => {
                    let path = ha_settings_path(release);
                    once("POST", path, 0, cluster("domain-ha"));
                }
                Self::Firewall => {
                    let path = "/nodes/*/qemu/*/firewall/rules";
                    once("POST", path, 2, lock("pve-firewall"));
                }
                Self::Sdn => once("POST", "/cluster/sdn/vnets", 0, cluster("sdn")),
                Self::Prune => once(
                    "DELETE",
                    "/nodes/*/storage/*/prunebackups",
                    0,
                    cluster("storage-nas"),
                ),
                _ => {
                    for vmid in [101, 102] {
                        simulator.set_lock(vmid, Some("backup"));
                    }
                }
            },
            (Disruption::FailsHalfway, job) => match job {
                Self::Machine => once("POST", "/nodes/*/qemu/*/status/start", 0, task_fails()),
                Self::Clones => once("POST", "/nodes/*/qemu/*/clone", 1, task_fails()),
                Self::Change => once("POST", "/nodes/*/qemu/*/status/reboot", 0, task_fails()),
                Self::Backups => once("POST", "/nodes/pve2/vzdump", 0, task_fails()),
                Self::Restore => once("POST", "/nodes/*/qemu", 0, task_fails()),
                Self::Prune => once("DELETE", "/nodes/*/storage/*/prunebackups", 0, task_fails()),
                Self::Replication => once("POST", "/cluster/replication", 0, refused()),
                Self::Drain => once("POST", "/nodes/*/qemu/102/migrate", 0, task_fails()),
                Self::Reboot => once("POST", "/nodes/*/status", 0, refused()),
                Self::Migration => once("POST", "/nodes/*/qemu/*/migrate", 0, task_fails()),
                Self::OtherCluster => {
                    once("POST", "/nodes/*/qemu/*/remote_migrate", 0, task_fails());
                }
                Self::HighAvailability => {
                    let path = ha_settings_path(release);
                    once("POST", path, 0, refused());
                }
                Self::Firewall => once("POST", "/nodes/*/qemu/*/firewall/rules", 1, refused()),
                Self::Sdn => once("PUT", "/cluster/sdn", 0, task_fails()),
                Self::Addresses | Self::Files => {
                    faults
                        .on("GET", "/nodes/*/qemu/*/agent/**")
                        .respond(refused());
                }
                Self::Health => once("GET", "/nodes/pve2/disks/list", 0, refused()),
                Self::Console => once(
                    "GET",
                    "/nodes/*/qemu/*/vncwebsocket",
                    0,
                    Fault::BreakConsole(0),
                ),
                Self::Container => once("POST", "/nodes/*/lxc/*/status/start", 0, task_fails()),
                Self::Locks => once("POST", "/nodes/*/qemu/*/status/start", 0, task_fails()),
                Self::Handles => once("GET", "/cluster/resources", 0, Fault::Truncate(40)),
                Self::Series => once("GET", "/nodes/*/rrddata", 0, refused()),
            },
        }
    }
}

fn repair(simulator: &Simulator) {
    simulator.faults().clear();
    simulator.set_online("pve2", true);
    for vmid in [101, 102, 103, 5000, 6000, 7000] {
        simulator.set_lock(vmid, None);
    }
}

/// The result for the caller, in the table's words, and what a failure lists as left behind.
fn describe(ended: Result<(), Error>, steps: &[String]) -> (String, Option<Vec<Left>>) {
    let error = match ended {
        Ok(()) => {
            let failed: Vec<&str> = (steps.iter())
                .filter(|step| step.contains(": failed: "))
                .map(String::as_str)
                .collect();
            let result = match failed.is_empty() {
                true => "done".to_owned(),
                false => format!("done; a step reports: {}", failed.join(", ")),
            };
            return (result, None);
        }
        Err(error) => error,
    };
    let (left, cause) = match &error {
        Error::Unfinished(error) => (error.left().to_vec(), error.cause().clone()),
        error => (Vec::new(), error.clone()),
    };
    let kind = match (&cause, cause.kind()) {
        (_, Some(kind)) => format!("`{kind:?}`"),
        (Error::Work(_), None) => "refused before it".to_owned(),
        (Error::Task(_), None) => "the task's error".to_owned(),
        (Error::Timeout(_), None) => "timeout".to_owned(),
        (Error::Interrupted(_) | Error::Connect(_), None) => "the connection breaks".to_owned(),
        (Error::Guest(late), None) => match late.reason() {
            GuestErrorKind::TimedOut {
                waiting_for, last, ..
            } => match last {
                Some(_) => format!("no {waiting_for} in time, with the error of the last attempt"),
                None => format!("no {waiting_for} in time"),
            },
            _ => format!("\"{late}\""),
        },
        (cause, None) => format!("\"{cause}\""),
    };
    let words: Vec<String> = left.iter().map(ToString::to_string).collect();
    let result = match words.is_empty() {
        true => format!("{kind}; nothing"),
        false => format!("{kind}; {}", words.join(", ")),
    };
    (result, Some(left))
}

/// The result, and unexpected errors before or after the fault.
async fn cell(job: Job, disruption: Disruption, release: &str) -> (String, Vec<String>) {
    let (simulator, pve) = start(cluster(release)).await;
    let remote_cluster = job.remote_cluster(release).await;
    let remote = remote_cluster.as_ref().unwrap_or(&simulator);
    let wrong =
        |when: &str, what: String| format!("{release} {job:?} {disruption:?} {when}: {what}");
    if let Err(error) = job.prepare(disruption, &simulator, remote, &pve).await {
        return (String::new(), vec![wrong("before", error.to_string())]);
    }
    let before = [ClusterState::of(&simulator), ClusterState::of(remote)];
    job.inject(disruption, release, &simulator);
    let steps = Steps::default();
    let ended = job.run(&pve, remote, &steps).await;
    let (result, left) = describe(ended, &steps.take());
    repair(&simulator);
    let mut problems = Vec::new();
    if let Some(left) = left {
        let named: BTreeSet<String> = left.iter().map(|left| left.subject.to_string()).collect();
        let mut changed = ClusterState::of(&simulator).changed_since(&before[0]);
        changed.extend(ClusterState::of(remote).changed_since(&before[1]));
        if job == Job::Backups {
            // The job was created by a separate operation, which succeeded.
            changed.remove("backup job nightly");
            // The error lists backups by the node that made them.
            for (guest, node) in [(101, "pve2"), (104, "pve1")] {
                if changed.remove(&format!("backups of guest {guest}")) {
                    changed.insert(format!("node {node}"));
                }
            }
        }
        if named != changed {
            problems.push(wrong(
                "left",
                format!("named {named:?}, changed {changed:?}"),
            ));
        }
    }
    // After the fault, the job completes whatever was left behind.
    let again = job.again(&pve, remote, result.contains("planned")).await;
    problems.extend(again.err().map(|error| wrong("again", error.to_string())));
    (result, problems)
}

#[tokio::test]
async fn every_job_reports_what_every_fault_leaves() {
    let mut table = String::from(
        "| | job | a node is offline | a lock is held | it fails halfway |\n|--:|---|---|---|---|\n",
    );
    let mut failures = Vec::new();
    for (job, number, name) in JOBS {
        let _ = write!(table, "| {number} | {name} |");
        for disruption in DISRUPTIONS {
            let mut seen: Vec<(String, Vec<&str>)> = Vec::new();
            for release in last_of_each_major() {
                let (result, wrong) = cell(job, disruption, release).await;
                failures.extend(wrong);
                match seen.iter_mut().find(|(text, _)| *text == result) {
                    Some((_, releases)) => releases.push(release),
                    None => seen.push((result, vec![release])),
                }
            }
            let cell = match seen.as_slice() {
                [(result, _)] => result.clone(),
                several => {
                    let parts = several.iter();
                    let parts = parts.map(|(result, on)| format!("{}: {result}", on.join(", ")));
                    parts.collect::<Vec<_>>().join("<br>")
                }
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    assert!(failures.is_empty(), "{}\n{table}", failures.join("\n"));
    Part::read("jobs.md", "faults").hold(&table);
}

/// The lines of the programs with proxmoxer.
#[test]
fn the_page_lists_the_lines_of_other_programs() {
    let programs = include_str!("../../../tests/simulator/conformance/jobs.py");
    let page = include_str!("../../../docs/jobs.md");
    let lines = |name: &str| {
        let start = format!("def {name}(");
        let body = programs
            .lines()
            .skip_while(|line| !line.starts_with(&start));
        let body = body
            .skip(1)
            .take_while(|line| line.is_empty() || line.starts_with("    "));
        body.filter(|line| !line.is_empty()).count()
    };
    for (row, names) in [
        (
            "From image to machine",
            &["image_to_machine", "address"][..],
        ),
        ("Many clones on several nodes", &["many_clones"]),
        ("Change, and reboot", &["change_and_reboot"]),
        (
            "Backup jobs",
            &["backup_job_run_now", "newest_backup_restored"],
        ),
        ("Preview of pruning", &["what_would_be_pruned"]),
        ("Replication jobs", &["replication"]),
        ("Drain a node", &["drain"]),
        ("Migration |", &["migration"]),
        ("To another cluster", &["to_another_cluster"]),
        ("High availability", &["high_availability"]),
        ("Firewall rules", &["firewall_rules"]),
        ("SDN as a unit", &["sdn"]),
        ("Addresses by card", &["address"]),
        ("Health of disks", &["health"]),
        ("Containers from templates", &["container"]),
        ("Figures over time", &["figures"]),
    ] {
        let start = format!("| {row}");
        let cell = page.lines().find(|line| line.starts_with(&start));
        let cell = cell.and_then(|line| line.split(" | ").nth(3)).expect(row);
        let numbers = cell.split_whitespace().filter_map(|word| word.parse().ok());
        let counted: Vec<usize> = names.iter().map(|name| lines(name)).collect();
        let numbers: Vec<usize> = numbers.take(counted.len()).collect();
        assert_eq!(numbers, counted, "{row}: {cell}");
    }
}

#[test]
fn every_job_has_an_example_that_ci_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let gate = std::fs::read_to_string(root.join("../.ci/run")).expect(".ci/run exists");
    let apart = |c: char| !(c.is_alphanumeric() || c == '_');
    let words: Vec<&str> = gate.split(apart).collect();
    for (number, example) in [
        (1, "image_to_machine"),
        (2, "clones"),
        (3, "change_and_reboot"),
        (4, "backups"),
        (5, "maintenance"),
        (6, "migration"),
        (7, "high_availability"),
        (8, "firewall"),
        (9, "guest_agent"),
        (9, "health"),
        (10, "console_handover"),
        (11, "container"),
        (12, "change_and_reboot"),
        (13, "many_guests"),
        (14, "watch"),
    ] {
        let files = [
            format!("examples/{example}.rs"),
            format!("examples/{example}/main.rs"),
        ];
        let exists = files.iter().any(|file| root.join(file).exists());
        assert!(exists, "job {number}: there is no {example}");
        let named = words.contains(&example);
        assert!(named, "job {number}: .ci/run does not run {example}");
    }
    let listed: std::collections::BTreeSet<u8> =
        JOBS.iter().map(|(_, number, _)| *number).collect();
    assert!(listed.into_iter().eq(1..=14), "every job has a row");
}
