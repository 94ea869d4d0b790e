//! Typical programs, each as short as possible, with the simulator. For each, a table has the lines
//! of logic of a Python program with an untyped client; a program here may have twice as many.

use std::error::Error;

use proxmox_api::Client;
use proxmox_api::manage::clones::Clones;
use proxmox_api::manage::guest::CloudInit;
use proxmox_api::manage::image::Image;
use proxmox_api::manage::inventory::{Inventory, ResourceType};
use proxmox_api::manage::machine::Machine;
use proxmox_api::pve::cluster::BackupJobConfig;
use proxmox_api::task::AndWait;
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Lines of logic in Python, by the name of the function here.
const PYTHON: &[(&str, usize)] = &[
    ("list_guests_as_json", 7),
    ("machine_from_a_cloud_image", 12),
    ("five_clones", 2),
    ("drain_a_node", 11),
    ("snapshot_and_keep_two", 8),
    ("upload_and_remove_an_iso", 6),
    ("group_user_role_and_token", 8),
    ("network_and_firewall", 11),
    ("nightly_backup_and_one_now", 6),
];

const IMAGE: &str = "https://images.example.org/debian-13.qcow2";

async fn list_guests_as_json(pve: &Client) -> Outcome<String> {
    let guests = pve.cluster().resources().get().type_("vm").await?;
    Ok(serde_json::to_string_pretty(&guests)?)
}

async fn machine_from_a_cloud_image(pve: &Client) -> Outcome<u32> {
    let login = CloudInit::new()
        .user("admin")
        .ssh_key("ssh-ed25519 AAAA me@host")
        .dhcp(0);
    let machine = Machine::new("cloud", Image::url(IMAGE))
        .cores(2)
        .memory(2048)
        .disk("local-lvm", 10 << 30)
        .cloud_init(login);
    Ok(pve.carry_out(machine).await?.guest.vmid())
}

async fn five_clones(pve: &Client) -> Outcome<usize> {
    let clones = Clones::of(9000).count(5).full(true);
    Ok(pve.carry_out(clones).await?.len())
}

async fn drain_a_node(pve: &Client) -> Outcome<usize> {
    let inventory = Inventory::fetch(pve).await?;
    let guests = inventory.select().of_type(ResourceType::Vm).node("pve2");
    let moved = pve
        .batch(guests.vmids())
        .parallel(2)
        .run(|guest| async move { guest.migrate("pve1").await })
        .await?;
    Ok(moved.results.iter().filter(|one| one.success()).count())
}

async fn snapshot_and_keep_two(pve: &Client) -> Outcome<Vec<String>> {
    let guest = pve.guest(100);
    for name in ["one", "two", "three"] {
        guest.snapshot(name).await?.wait().await?;
    }
    let taken = guest.snapshots().await?;
    for old in taken.iter().rev().skip(2) {
        guest.delete_snapshot(&old.name).await?.wait().await?;
    }
    let left = guest.snapshots().await?.into_iter();
    Ok(left.map(|snapshot| snapshot.name).collect())
}

async fn upload_and_remove_an_iso(pve: &Client) -> Outcome<usize> {
    let iso = pve.upload("pve1", "local").name("tools.iso").bytes("iso");
    iso.verified().and_wait().await?;
    let content = pve
        .nodes()
        .node("pve1")
        .storage()
        .storage("local")
        .content();
    let found = content.get().content("iso").await?.len();
    let volume = content.volume("local:iso/tools.iso");
    volume.delete().and_wait().await?;
    Ok(found - content.get().content("iso").await?.len())
}

async fn group_user_role_and_token(pve: &Client) -> Outcome<String> {
    let access = pve.access();
    access.groups().post("ops").await?;
    let starter = access.roles().post("Starter");
    starter.privs(["VM.PowerMgmt", "VM.Audit"]).await?;
    access.users().post("ci@pve").groups("ops").await?;
    let acl = access.acl().put().path("/vms").roles("Starter");
    acl.groups("ops").await?;
    let token = access.users().userid("ci@pve").token().tokenid("build");
    Ok(token.post().privsep(false).await?.full_tokenid)
}

async fn network_and_firewall(pve: &Client) -> Outcome<usize> {
    let sdn = pve.cluster().sdn();
    sdn.zones().post().type_("simple").zone("lab").await?;
    sdn.vnets().post().vnet("labnet").zone("lab").await?;
    let subnets = sdn.vnets().vnet("labnet").subnets();
    let subnet = subnets.post().type_("subnet").subnet("10.1.0.0/24");
    subnet.gateway("10.1.0.1").await?;
    sdn.put().and_wait().await?;
    let firewall = pve.cluster().firewall();
    let rules = firewall.rules();
    let ssh = rules.post().type_("in").action("ACCEPT").enable(true);
    ssh.proto("tcp").dport("22").await?;
    firewall.options().put().enable(true).await?;
    Ok(rules.get().await?.len())
}

async fn nightly_backup_and_one_now(pve: &Client) -> Outcome<usize> {
    let job = BackupJobConfig::new("nightly").vmid([100]).storage("local");
    let jobs = pve.cluster().backup();
    jobs.post().settings(&job).schedule("02:30").await?;
    let now = pve.nodes().node("pve1").vzdump().post();
    now.settings(&job).and_wait().await?;
    Ok(jobs.get().await?.len())
}

#[tokio::test]
async fn each_program_works() {
    let simulator = Simulator::builder()
        .node("pve1")
        .node("pve2")
        .time_factor(0.0)
        .storage("ceph", "rbd", &["images", "rootdir"], 1 << 40)
        .qemu(100, "pve1", &[("name", "web"), ("scsi0", "local-lvm:4")])
        .qemu(200, "pve2", &[("name", "db"), ("scsi0", "ceph:4")])
        .qemu(9000, "pve1", &[("template", "1"), ("scsi0", "local-lvm:4")])
        .web_file(IMAGE, vec![0; 1 << 20])
        .start()
        .await
        .expect("it starts");
    let pve = Client::builder(simulator.url())
        .ca_pem(simulator.ca_pem())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .build()
        .expect("the settings are complete");
    let json = list_guests_as_json(&pve).await.expect("listed");
    assert!(json.contains(r#""name": "web""#), "{json}");
    let mut snapshots = snapshot_and_keep_two(&pve).await.expect("taken");
    snapshots.sort();
    assert_eq!(snapshots, ["three", "two"]);
    assert!(machine_from_a_cloud_image(&pve).await.expect("made") >= 100);
    assert_eq!(five_clones(&pve).await.expect("made"), 5);
    assert_eq!(drain_a_node(&pve).await.expect("moved"), 1);
    assert_eq!(upload_and_remove_an_iso(&pve).await.expect("gone"), 1);
    let token = group_user_role_and_token(&pve).await.expect("made");
    assert_eq!(token, "ci@pve!build");
    assert_eq!(network_and_firewall(&pve).await.expect("made"), 1);
    assert_eq!(nightly_backup_and_one_now(&pve).await.expect("made"), 1);
}

/// The lines between a function's braces that are not empty.
fn lines(name: &str) -> usize {
    lines_of(include_str!("programs.rs"), name)
}

fn lines_of(text: &str, name: &str) -> usize {
    let start = format!("async fn {name}(");
    let body = text.lines();
    let body = body.skip_while(|line| !line.starts_with(&start)).skip(1);
    let body = body.take_while(|line| *line != "}");
    body.filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn no_program_has_more_than_twice_the_lines_of_python() {
    println!("| program | here | Python |\n|---|---:|---:|");
    for (name, python) in PYTHON {
        println!(
            "| {} | {} | {python} |",
            name.replace('_', " "),
            lines(name)
        );
    }
    for (name, python) in PYTHON {
        let here = lines(name);
        assert!(
            (1..=2 * python).contains(&here),
            "{name}: {here} of {python}"
        );
    }
}

/// The page has every program with its number of lines.
#[test]
fn the_page_has_the_numbers_of_lines() {
    let page = include_str!("../../docs/user_requests.md");
    let service = lines_of(include_str!("../examples/event_tail.rs"), "main");
    let mut expected: Vec<String> = PYTHON
        .iter()
        .map(|(name, python)| format!("| {python} | {} | `{name}` |", lines(name)))
        .collect();
    expected.push(format!("| – | {service} | `examples/event_tail.rs` |"));
    for end in expected {
        assert!(
            page.lines().any(|line| line.ends_with(&end)),
            "no row ends in {end}"
        );
    }
}
