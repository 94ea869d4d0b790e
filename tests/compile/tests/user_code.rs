//! Code as users wrote it who tried the crate for the first time, or ported a program to it. That it compiles is the test;
//! some of it also runs.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "people borrow where they need not, and it has to compile"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use proxmox_api::client::{Client, ClientBuilder};
use proxmox_api::manage::backups::RunBackupJob;
use proxmox_api::manage::clones::Clones;
use proxmox_api::manage::events::Watch;
use proxmox_api::manage::guest::{Kind, PowerAction};
use proxmox_api::manage::inventory::{Inventory, Resource};
use proxmox_api::manage::maintenance::Drain;
use proxmox_api::manage::metrics::Timeframe;
use proxmox_api::pve::Root;
use proxmox_api::pve::cluster::ClusterResourcesItem;
use proxmox_api::pve::qemu::{QemuConfig, QemuItem, QemuNet, QemuOstype};
use proxmox_api::pve::types::GuestRunState;
use proxmox_api::request::{ApiRequest, Request};
use proxmox_api::task::{AndWait, Task};
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Error, List, Value};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A request whose answer is not waited for here.
type Later<T> = Request<T>;

struct Spec {
    memory: u64,
    cores: u32,
    sockets: usize,
    tags: Vec<String>,
    note: Option<String>,
}

async fn answers_are_values(pve: Client) -> Outcome {
    let rows = pve.cluster().resources().get().await?;
    let json = serde_json::to_string(&rows)?;
    let back: Vec<ClusterResourcesItem> = serde_json::from_str(&json)?;
    assert_eq!(back, rows);
    let inventory = Inventory::fetch(&pve).await?;
    let json = serde_json::to_string(&inventory.resources)?;
    let _: Vec<Resource> = serde_json::from_str(&json)?;

    let config = pve.nodes().node("pve1").qemu().vmid(100).config();
    let read: QemuConfig = config.get().await?;
    let _ = serde_json::to_string(&read)?;
    if read.ostype.as_deref() == Some("l26") {
        println!("{:?}", read.net.get(0) == Some(&QemuNet::virtio()));
    }
    assert!(read == read.clone() && read.net == QemuConfig::new().net);
    let status = pve.nodes().node("pve1").qemu().vmid(100).status().current();
    let _: Option<u64> = status.get().await?.maxmem;
    let _: u32 = pve.cluster().nextid().get().await?;
    let value: Value = config.get().answer_as().await?;
    println!("{value}");
    as_json(config.get()).await?;
    Ok(())
}

async fn as_json<R: ApiRequest>(request: R) -> Outcome<String>
where
    R::Output: serde::Serialize,
{
    Ok(serde_json::to_string(&request.into_request().await?)?)
}

async fn what_was_read_is_set(pve: Client) -> Outcome {
    let config = pve.nodes().node("pve1").qemu().vmid(100).config();
    let read = config.get().await?;
    config.put().cores(read.cores).memory(read.memory).await?;
    let backup = pve.cluster().backup();
    let job = backup.id("nightly").get().await?;
    let post = backup.post().prune_backups(job.prune_backups.clone());
    post.fleecing(job.fleecing.clone()).await?;
    backup.id("weekly").put().settings(&job).await?;
    let token = pve.access().users().userid("ci@pve").token();
    let token = token.tokenid("x").post().await?;
    let acl = pve.access().acl().put().path("/").roles("PVEAuditor");
    acl.tokens(&token.full_tokenid).await?;
    Ok(())
}

async fn one_configuration_is_made_given_and_compared(pve: Client) -> Outcome {
    let qemu = pve.nodes().node("pve1").qemu();
    let desired = QemuConfig::new()
        .cores(2)
        .memory(2048)
        .net(0, QemuNet::virtio().bridge("vmbr0"));
    qemu.post(100).settings(&desired).and_wait().await?;
    let config = qemu.vmid(100).config();
    let drift = config.get().await?.drift(&desired);
    for change in &drift {
        println!("{change}");
    }
    config.put().changes(&drift).await?;
    config.put().settings(&desired).await?;
    Ok(())
}

async fn tasks_are_waited_for(pve: Client) -> Outcome {
    let node = pve.nodes().node("pve1");
    node.vzdump().post().await?.wait().await?;
    let vm = node.qemu().vmid(100);
    vm.status().stop().post().await?.detach();
    vm.status().start().post().and_wait().await?;
    let guest = pve.guest(100);
    guest.start().and_wait().await?;
    guest.power("start".parse::<PowerAction>()?).await?.detach();
    guest.rollback("before").started().and_wait().await?;
    let moved = guest.move_disk("scsi0", "ceph").delete_source();
    moved.and_wait().await?;
    guest.history(Timeframe::Day).await?;
    guest.backup("nas").mode("stop").and_wait().await?;
    pve.carry_out(Drain::of("pve1").at_once(2)).await?;
    pve.carry_out(Clones::of(9000).count(5)).await?;
    pve.carry_out(RunBackupJob::new("nightly")).await?;
    Ok(())
}

async fn events_are_a_stream(pve: Client) -> Result<(), Error> {
    let mut watch = Watch::new(&pve);
    while let Some(event) = watch.next().await {
        println!("{}", event?);
    }
    Ok(())
}

async fn calls_that_are_not_typed(pve: Client) -> Outcome {
    #[derive(serde::Deserialize)]
    struct Mine {
        a: u32,
    }
    let mine = pve.request::<Mine>(Method::Get, "/x").await?;
    println!("{}", mine.a);
    let path = "/cluster/resources?type=vm";
    let _: Value = pve.request(Method::Get, path).await?;
    Ok(())
}

fn requests_in_structs_and_branches(pve: &Client, on: bool) -> (Later<QemuConfig>, Later<Task>) {
    let vm = pve.nodes().node("pve1").qemu().vmid(100);
    let power = if on {
        vm.status().start().post().into_request()
    } else {
        vm.status().stop().post().into_request()
    };
    (vm.config().get().into_request(), power)
}

fn settings_of_a_client() -> Result<Client, Error> {
    let builder: ClientBuilder = Client::builder("https://pve1:8006");
    let builder = builder.api_token_text("PVEAPIToken=root@pam!ci=0000");
    builder.task_poll(Duration::from_millis(100)).build()
}

#[test]
fn user_code_compiles() {
    let _ = (
        answers_are_values,
        what_was_read_is_set,
        one_configuration_is_made_given_and_compared,
        tasks_are_waited_for,
        events_are_a_stream,
        calls_that_are_not_typed,
        requests_in_structs_and_branches,
    );
    let client = settings_of_a_client().expect("complete settings");
    assert!(!format!("{client:?}").contains("0000"));
}

#[test]
fn values_implement_the_expected_traits() {
    let vm = QemuItem::new(GuestRunState::Stopped, 101);
    assert!(vm.status != "running" && vm.status == "stopped");
    let config = QemuConfig::new().ostype("l26").net(0, QemuNet::virtio());
    assert_eq!(config.ostype.as_deref(), Some("l26"));
    assert_eq!(config.net.get(&0), config.net.get(0));
    assert_eq!(config.net.get(0), Some(&QemuNet::virtio()));
    let os = "l26".parse::<QemuOstype>().expect("any text is one");
    assert_eq!(BTreeMap::from([(os.clone(), 1)]).len(), 1);
    assert!(HashSet::from([os]).contains(&QemuOstype::L26));
    assert!(QemuOstype::KNOWN.contains(&QemuOstype::L26));
    assert_eq!("qemu".parse(), Ok(Kind::Qemu));
    let numbers: List<u32> = [100_u32, 101].into();
    assert_eq!(numbers.len(), 2);
}

/// Fifty calls, by their parameters as they are sent.
#[test]
#[allow(clippy::needless_borrows_for_generic_args, reason = "people write it")]
fn setters_accept_common_rust_types() {
    let spec = Spec {
        memory: 2048,
        cores: 2,
        sockets: 1,
        tags: vec!["a".into(), "b".into()],
        note: None,
    };
    let os = QemuOstype::L26;
    let root = Root::detached();
    let node = root.nodes().node("pve1");
    let vm = node.qemu().vmid(100);
    let put = || vm.config().put();
    let cluster = root.cluster();
    let access = root.access();
    let storage = node.storage().storage("local");
    let more: HashMap<String, Value> = [("cores".to_owned(), json!(2))].into();
    let object = json!({ "cores": 2 });
    let object = object.as_object().expect("an object").clone();
    macro_rules! sent {
        ($($text:literal: $request:expr,)*) => {
            [$(($text, $request.into_request().call().params().encode()),)*]
        };
    }
    let calls = sent! {
        "cores=2": put().cores(2),
        "cores=2": put().cores(2_u8),
        "cores=2": put().cores(spec.cores),
        "cores=2": put().cores(&spec.cores),
        "cores=2": put().cores(Some(spec.cores)),
        "cores=2": put().cores(i64::from(spec.cores)),
        "sockets=1": put().sockets(spec.sockets),
        "memory=2048": put().memory(spec.memory),
        "memory=2048": put().memory("2048"),
        "memory=2048": put().memory(Some(2048)),
        "": put().description(spec.note.as_deref()),
        "": put().description(&spec.note),
        "": put().cores(None::<i64>),
        "tags=a%2Cb": put().tags(&spec.tags),
        "tags=a%2Cb": put().tags(spec.tags.clone()),
        "tags=a%2Cb": put().tags(spec.tags.iter()),
        "tags=a%2Cb": put().tags(spec.tags.as_slice()),
        "tags=a%2Cb": put().tags(["a", "b"]),
        "tags=a%2Cb": put().tags("a,b"),
        "ostype=l26": put().ostype(&os),
        "ostype=l26": put().ostype(os.clone()),
        "ostype=l26": put().ostype("l26"),
        "ostype=l26": put().ostype(Some("l26")),
        "net0=virtio": put().net(0, QemuNet::virtio()),
        "net0=virtio": put().net(0, &QemuNet::virtio()),
        "net0=virtio": put().net(0, "virtio"),
        "sshkeys=ssh-ed25519%2520AAAA": put().sshkeys("ssh-ed25519 AAAA"),
        "delete=net0": put().delete(["net0"]),
        "delete=net0": put().unset("net0"),
        "cores=2": put().params(more),
        "cores=2": put().params(object),
        "cores=2": put().param("cores", json!(2)),
        "cores=2": put().param("cores", Some(2_u64)),
        "vmid=100%2C101": node.vzdump().post().vmid([100, 101]),
        "vmid=100%2C101": node.vzdump().post().vmid(vec![100_u32, 101]),
        "vmid=100%2C101": node.vzdump().post().vmid(100..=101),
        "newid=101&name=web": vm.clone_().post(101).name("web"),
        "target=pve2&online=1": vm.migrate().post("pve2").online(true),
        "snapname=before": vm.snapshot().post("before"),
        "roles=R&path=%2F&users=ci%40pve": access.acl().put().path("/").roles("R").users("ci@pve"),
        "userid=ci%40pve&groups=ops": access.users().post("ci@pve").groups("ops"),
        "groupid=ops": access.groups().post("ops"),
        "roleid=R&privs=VM.Audit%2CVM.Console": access.roles().post("R").privs(["VM.Audit", "VM.Console"]),
        "type=in&action=ACCEPT&dport=22": cluster.firewall().rules().post().type_("in").action("ACCEPT").dport("22"),
        "type=simple&zone=lab": cluster.sdn().zones().post().type_("simple").zone("lab"),
        "vnet=labnet&zone=lab": cluster.sdn().vnets().post().vnet("labnet").zone("lab"),
        "storage=nas&type=dir&path=%2Fsrv": root.storage().post().type_("dir").storage("nas").path("/srv"),
        "iface=bond0&type=bond&slaves=eth0%20eth1": node.network().post().type_("bond").iface("bond0").slaves(["eth0", "eth1"]),
        "content=iso": storage.content().get().content("iso"),
        "type=vm": cluster.resources().get().type_("vm"),
        "timeframe=day": node.rrddata().get("day"),
        "since=60": node.tasks().get().since(std::time::UNIX_EPOCH + Duration::from_secs(60)),
    };
    let parts = |text: &str| {
        let parts = text.split('&').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect::<HashSet<_>>()
    };
    assert!(calls.len() >= 50);
    for (expected, sent) in calls {
        assert_eq!(parts(&sent), parts(expected));
    }
}
