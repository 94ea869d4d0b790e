//! Answers as values: created, compared, stored, and written back to a server.

use std::collections::{BTreeMap, HashSet};

use proxmox_api::Client;
use proxmox_api::pve::cluster::{BackupJobConfig, ClusterOptions};
use proxmox_api::pve::cluster_sdn::SdnZone;
use proxmox_api::pve::qemu::{QemuConfig, QemuDrive, QemuItem, QemuNet, QemuOstype};
use proxmox_api::pve::types::FirewallRule;
use proxmox_api::request::ApiRequest;
use proxmox_simulator::{ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::{Value, json};

async fn start() -> (Simulator, Client) {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .start()
        .await
        .expect("it starts");
    let client = Client::builder(pve.url())
        .ca_pem(pve.ca_pem())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .build()
        .expect("the settings are complete");
    (pve, client)
}

#[test]
fn answers_can_be_created_and_used_like_other_values() {
    let vm = QemuItem::new("stopped", 101_u64).with(|vm| vm.name = Some("web".to_owned()));
    let text = serde_json::to_string(&[&vm]).expect("JSON");
    assert_eq!(text, r#"[{"name":"web","status":"stopped","vmid":101}]"#);
    let back: Vec<QemuItem> = serde_json::from_str(&text).expect("the same");
    assert_eq!(back, std::slice::from_ref(&vm));
    assert!(vm.status == "stopped" && vm.status != "running");
    let same = QemuItem::from_json(json!({ "vmid": "101", "status": "stopped", "name": "web" }));
    assert_eq!(same.expect("as a server writes it"), vm);

    let config = QemuConfig::new()
        .ostype("l26")
        .cores(2_u8)
        .memory(2048_u64)
        .tags(&vec!["a".to_owned(), "b".to_owned()])
        .net(0, QemuNet::virtio());
    assert_eq!(config.ostype.as_ref().map(QemuOstype::as_str), Some("l26"));
    assert_eq!(config.net.get(0), Some(&QemuNet::virtio()));
    let os: QemuOstype = "l26".parse().expect("any text is one");
    assert_eq!(BTreeMap::from([(os.clone(), 1)])[&QemuOstype::L26], 1);
    assert!(HashSet::from([os]).contains(&QemuOstype::from("l26")));
    // Invalid values are kept like those of a server's answer.
    let config = QemuConfig::new().cores(u64::MAX);
    assert_eq!(
        (config.cores, &config.extra["cores"]),
        (None, &json!(u64::MAX.to_string()))
    );
}

fn kept<T>(value: T) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    // As a tree and not as a text: serde_json's default reader may lose the last digit of a float.
    let tree = serde_json::to_value(&value).expect("JSON");
    let back: T = serde_json::from_value(tree.clone()).expect("what was written");
    assert_eq!(back, value, "{tree}");
    value
}

#[tokio::test]
async fn values_of_the_everyday_layer_survive_serialization() {
    use proxmox_api::manage::inventory::Inventory;
    use proxmox_api::manage::metrics::{node_history, node_metrics, storage_metrics};

    let (_pve, client) = start().await;
    let create = client.nodes().node("pve1").qemu().post(100).memory(512);
    let create = create.scsi(0, "local-lvm:4").start(true);
    create.await.expect("accepted").wait().await.expect("made");
    let guest = client.guest(100);
    let taken = guest.snapshot("before").await.expect("taken");
    taken.wait().await.expect("done");
    let inventory = kept(Inventory::fetch(&client).await.expect("a list"));
    assert!(inventory.resources.iter().any(|row| row.vmid == Some(100)));
    kept(guest.status().await.expect("a status"));
    assert_eq!(kept(guest.snapshots().await.expect("a list")).len(), 1);
    kept(guest.disks().await.expect("a list"));
    kept(guest.location().await.expect("a location"));
    kept(node_metrics(&client, "pve1").await.expect("figures"));
    kept(
        node_history(&client, "pve1", "hour")
            .await
            .expect("figures"),
    );
    kept(
        storage_metrics(&client, "pve1", "local")
            .await
            .expect("figures"),
    );
    let tasks = client.cluster().tasks().get().await.expect("a list");
    let task = client.task(tasks[0].upid.parse().expect("the server's own"));
    kept(task.status().await.expect("a status"));
    kept(task.status().await.expect("a status").outcome());
}

/// Values that the simulator does not return in all forms, from their JSON.
#[test]
fn reports_of_work_survive_serialization() {
    use proxmox_api::client::hosts::HostInfo;
    use proxmox_api::client::limit::LimitWaits;
    use proxmox_api::manage::agent::{FileSystem, Interface, Output};
    use proxmox_api::manage::backups::PruneOutcome;
    use proxmox_api::manage::batch::BatchReport;
    use proxmox_api::manage::firewall::{RuleChange, Scope};
    use proxmox_api::manage::guest::{
        Applied, ApplyStep, Bus, Display, Listed, MigrationCheck, PowerAction, Size, Verdict,
    };
    use proxmox_api::manage::ha::HaView;
    use proxmox_api::manage::health::{Health, NodeHealth};
    use proxmox_api::manage::inventory::{Order, SortBy};
    use proxmox_api::manage::maintenance::{DrainPlan, Drained};
    use proxmox_api::manage::metrics::{Consolidation, MetricType, SeriesSet, Timeframe};
    use proxmox_api::manage::work::{Action, Ensured, Left, Step};
    use proxmox_api::stream::upload::{ChecksumAlgorithm, UploadContent, UploadProgress};
    use proxmox_api::tls::Fingerprint;
    use proxmox_api::value::endpoint::{Method, Release};

    fn written<T>(forms: &[Value])
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for form in forms {
            let value: T = serde_json::from_value(form.clone()).expect("it is read");
            assert_eq!(serde_json::to_value(&value).expect("JSON"), *form);
            kept(value);
        }
        let unexpected = json!({ "odd": { "odd": [] }, "odder": 1 });
        assert!(serde_json::from_value::<T>(json!("no such word")).is_err());
        let _ = serde_json::from_value::<T>(unexpected);
    }

    let upid = "UPID:pve1:0000C530:001C9BEC:677E934A:qmstart:100:root@pam:";
    written::<HostInfo>(&[json!({ "url": "https://pve1:8006", "node": "pve1", "up": true })]);
    let waited = json!({ "requests": 3, "total": { "secs": 1, "nanos": 5 } });
    written::<LimitWaits>(&[waited]);
    written::<Interface>(&[json!({ "name": "eth0", "mac": null, "addresses": [
        { "ip": "10.0.0.2", "prefix": 24 }, { "ip": "fe80::1", "prefix": null },
    ] })]);
    written::<FileSystem>(&[json!({
        "mount_point": "/", "file_system": "ext4", "total": 9, "used": null,
    })]);
    written::<Output>(&[
        json!({ "exit_code": 0, "signal": null, "stdout": "ü", "stderr": "", "truncated": false }),
        json!({ "exit_code": null, "signal": 9, "stdout": [255, 0], "stderr": "", "truncated": true }),
    ]);
    written::<PruneOutcome>(&[json!("keep"), json!("remove"), json!("exempt")]);
    let report = json!({
        "results": [
            { "vmid": 100, "success": true, "upid": upid },
            { "vmid": 101, "success": false, "error": "VM is locked" },
            { "vmid": 102, "success": false, "error": "skipped because guest 101 failed", "not_tried_because_of": 101 },
        ],
        "summary": { "total": 3, "succeeded": 1, "failed": 2 },
    });
    written::<BatchReport>(&[report]);
    written::<Scope>(&[
        json!("cluster"),
        json!({ "node": "pve1" }),
        json!({ "guest": 100 }),
    ]);
    let rule = json!({ "type": "in", "action": "ACCEPT", "dport": "22" });
    written::<RuleChange>(&[json!({ "remove": rule }), json!({ "move": [2, rule] })]);
    let pending = json!({ "key": "cores", "now": "2", "then": null });
    written::<Applied>(&[json!({
        "written": ["cores"], "pending": [pending], "cloud_init": false, "rebooted": true,
    })]);
    written::<ApplyStep>(&[json!({ "pending": [pending] }), json!("rebooted")]);
    written::<Bus>(&[json!("scsi"), json!("virtio"), json!("sata"), json!("ide")]);
    written::<Display>(&[json!("vnc"), json!({ "terminal": 1 })]);
    written::<Listed>(&[json!({
        "vmid": 100, "location": { "node": "pve1", "kind": "qemu" }, "name": "web", "status": "running",
        "pool": null, "tags": ["a"], "template": false, "lock": null,
    })]);
    let refusal = json!({
        "missing_storages": ["fast"], "missing_mappings": [], "blocking_resources": [],
    });
    written::<MigrationCheck>(&[json!({
        "running": true, "allowed_nodes": ["pve2"], "not_allowed_nodes": { "pve3": refusal },
        "local_disks": [], "local_resources": [],
        "mapped_resources": [{ "key": "hostpci0", "mapping": "gpu", "live": false }],
        "dependent_resources": [], "missing_storages": [], "missing_mappings": [], "blocking_resources": [],
    })]);
    written::<PowerAction>(&[json!("start"), json!("shutdown")]);
    written::<Size>(&[json!({ "to": 1024 }), json!({ "by": 1024 })]);
    written::<Verdict>(&[json!("keep"), json!("remove")]);
    written::<HaView>(&[json!({ "guests": { "100": {
        "state": "started", "nodes": { "priorities": { "pve1": 2 }, "strict": true }, "together": [101],
        "apart": [], "failback": true, "max_restart": 1, "max_relocate": 1, "comment": null,
    } } })]);
    written::<Health>(&[json!("good"), json!("failing")]);
    written::<NodeHealth>(&[json!({
        "node": "pve1",
        "disks": [{
            "device": "/dev/sda", "model": null, "serial": "S1", "size": 9, "used": null, "health": "good",
            "life_left": 0.5, "failed_attributes": [],
        }],
        "pools": [{
            "name": "tank", "state": "ONLINE", "health": "degraded", "size": 9, "used": 1, "fragmentation": 3,
            "errors": null, "devices": [["sda", "ONLINE"]],
        }],
    })]);
    written::<SortBy>(&[json!("name"), json!("uptime")]);
    written::<Order>(&[json!("ascending"), json!("descending")]);
    written::<DrainPlan>(&[json!({
        "node": "pve1", "moves": [{ "vmid": 100, "name": "web", "to": "pve2", "running": true, "by_ha": false }],
        "stays": [[101, ["a local disk"]]],
    })]);
    written::<Drained>(&[json!({
        "node": "pve1", "moved": [[100, "pve2"]], "stopped": [101], "left": [],
    })]);
    written::<SeriesSet>(&[json!({ "series": { "cpu": {
        "name": "cpu", "unit": "share", "points": [[60, 0.5], [120, null]],
    } } })]);
    written::<Timeframe>(&[json!("hour"), json!("year")]);
    written::<Consolidation>(&[json!("average"), json!("maximum")]);
    written::<MetricType>(&[json!("gauge"), json!("counter")]);
    written::<Action>(&[json!("back_up"), json!("roll_back")]);
    written::<Ensured>(&[json!("found"), json!({ "changed": ["cores"] })]);
    written::<Step>(&[
        json!({ "subject": { "guest": 100 }, "action": "start", "state": { "begun": upid } }),
        json!({ "subject": { "node": "pve1" }, "action": "wait", "state": { "begun": null } }),
        json!({ "subject": { "other": "the job" }, "action": "check", "state": { "failed": "no" } }),
    ]);
    written::<Left>(&[
        json!({ "subject": { "volume": "local:iso/x" }, "state": "was made", "task": upid }),
    ]);
    written::<UploadProgress>(&[json!({ "sent": 1, "total": 2 })]);
    written::<UploadContent>(&[json!("iso"), json!("vztmpl"), json!("import")]);
    written::<ChecksumAlgorithm>(&[json!("md5"), json!("sha512")]);
    let pin = vec!["0A"; 32].join(":");
    written::<Fingerprint>(&[json!(pin)]);
    written::<Method>(&[json!("GET"), json!("DELETE")]);
    written::<Release>(&[json!("9.2")]);
}

#[tokio::test]
async fn a_configuration_for_another_guest_has_no_identity() {
    let (pve, _) = start().await;
    // Only root may set `vmgenid`.
    let client = Client::builder(pve.url()).ca_pem(pve.ca_pem());
    let client = client
        .password("root@pam", ROOT_PASSWORD)
        .build()
        .expect("complete");
    let uuid = "9d1f7a3e-5f6c-4c1e-9f55-0d8f3a1b2c4d";
    let qemu = client.nodes().node("pve1").qemu();
    let model = QemuConfig::new()
        .name("web")
        .cores(4)
        .vmgenid(uuid)
        .smbios1(format!("uuid={uuid}"))
        .net(0, QemuNet::virtio().bridge("vmbr0"))
        .scsi(0, "local-lvm:4");
    let task = qemu.post(100).settings(&model).await.expect("accepted");
    task.wait().await.expect("made");
    let model = client.guest(100).qemu_config().await.expect("there");
    assert_eq!(model.vmgenid.as_deref(), Some(uuid));
    let copy = model
        .without_identity()
        .name("web-2")
        .scsi(0, "local-lvm:4");
    let task = qemu.post(101).settings(&copy).await.expect("accepted");
    task.wait().await.expect("made");
    let copy = client.guest(101).qemu_config().await.expect("there");
    assert_eq!((copy.cores, copy.net.len()), (model.cores, 1));
    assert_ne!(copy.vmgenid, model.vmgenid);
    assert_ne!(copy.smbios1, model.smbios1);
    assert_ne!(copy.net[0].macaddr, model.net[0].macaddr);
    assert_eq!(
        model
            .clone()
            .vmgenid("0")
            .without_identity()
            .vmgenid
            .as_deref(),
        Some("0")
    );
    let named = model
        .smbios1("uuid=1,serial=x")
        .without_identity()
        .smbios1
        .expect("a serial number");
    assert_eq!((named.uuid, named.serial.as_deref()), (None, Some("x")));
}

#[test]
fn a_comparison_is_written_as_a_list_without_secrets() {
    let found = QemuConfig::new().cores(2).cipassword("before");
    let desired = QemuConfig::new().cores(4).cipassword("after");
    let changes = serde_json::to_value(found.diff(&desired)).expect("JSON");
    let expected = json!([
        { "name": "cipassword", "before": "…", "after": "…" },
        { "name": "cores", "before": "2", "after": "4" },
    ]);
    assert_eq!(changes, expected);
}

/// Usual spellings that once did not compile.
#[test]
fn usual_spellings_compile() {
    use proxmox_api::client::Client;
    use proxmox_api::manage::events::{Event, Watch};
    use proxmox_api::pve::Root;
    use proxmox_api::pve::types::GuestRunState;
    use proxmox_api::request::Request;
    use proxmox_api::task::Task;
    use proxmox_api::value::formats::{EncodedText, VolumeId};
    use proxmox_api::value::{IndexedMap, Timestamp};

    struct Pending {
        config: Request<QemuConfig>,
    }
    async fn next(watch: &mut Watch) -> Option<Result<Event, proxmox_api::Error>> {
        use futures_util::StreamExt as _;
        watch.next().await
    }
    fn either(client: &Client, on: bool) -> Request<Task> {
        let vm = client.nodes().node("pve1").qemu().vmid(100);
        match on {
            true => vm.status().start().post().into_request(),
            false => vm.status().stop().post().into_request(),
        }
    }
    async fn number(client: &Client) -> Result<u32, proxmox_api::Error> {
        let vmid: u32 = client.cluster().nextid().get().await?;
        client.guest(vmid).location().await?;
        Ok(vmid)
    }
    async fn bytes(client: &Client) -> Result<u64, proxmox_api::Error> {
        let content = client.nodes().node("pve1").storage().storage("local");
        let content = content.content().get().await?;
        let volumes: Vec<VolumeId> = content.iter().map(|row| row.volid.clone()).collect();
        let newest: Option<Timestamp> = content.iter().filter_map(|row| row.ctime).max();
        let _: Option<std::time::SystemTime> = newest.and_then(Timestamp::to_system_time);
        let _ = volumes.iter().filter_map(VolumeId::storage).count();
        Ok(content.iter().filter_map(|row| row.size).sum())
    }
    let _ = (next, either, number, bytes);

    let qemu = Root::detached().nodes().node("pve1").qemu();
    let pending = Pending {
        config: qemu.vmid(1).config().get().into_request(),
    };
    assert_eq!(pending.config.call().path(), "/nodes/pve1/qemu/1/config");

    let vm = QemuItem::new(GuestRunState::Stopped, 101).with(|vm| {
        vm.tags = Some(["a", "b"].into());
        vm.maxmem = Some(1 << 30);
    });
    assert!(vm.status == "stopped" && vm.tags.iter().flatten().any(|tag| tag == "b"));

    let keys = ["ssh-ed25519 AAAA+b ann@desk", "ssh-rsa BBBB bob@desk"];
    let config = QemuConfig::new()
        .sshkeys(EncodedText::lines(keys))
        .scsi(0, QemuDrive::new("local:1").serial("bay 2, left"))
        .net(0, QemuNet::virtio());
    let sent = qemu.post(1).settings(&config);
    let sent = sent.call().params();
    let text = |name: &str| sent.get(name).expect("sent").texts()[0].clone();
    assert_eq!(
        text("sshkeys"),
        "ssh-ed25519%20AAAA%2Bb%20ann%40desk%0Assh-rsa%20BBBB%20bob%40desk"
    );
    assert_eq!(text("scsi0"), "local:1,serial=bay%202%2C%20left");
    let read = QemuConfig::from_json(json!({ "sshkeys": text("sshkeys"), "scsi0": text("scsi0") }));
    let read = read.expect("as a server writes it");
    let lines = read.sshkeys.as_ref().map(EncodedText::as_str);
    assert_eq!(lines, Some(keys.join("\n").as_str()));
    assert!(read.scsi[0].serial.as_ref().expect("there") == "bay 2, left");
    assert_eq!(config.net[0], QemuNet::virtio());
    let cards: &IndexedMap<QemuNet> = &config.net;
    assert!(cards.contains_key(0) && cards[0] == QemuNet::virtio());

    let since = std::time::UNIX_EPOCH + std::time::Duration::from_secs(60);
    let tasks = Root::detached().nodes().node("pve1").tasks().get();
    for request in [
        tasks.clone().since(60),
        tasks.clone().since(60_u64),
        tasks.clone().since(since),
        tasks.since(Some(Timestamp::from_seconds(60))),
    ] {
        assert_eq!(request.call().params().encode(), "since=60");
    }
}

#[tokio::test]
async fn a_configuration_is_changed_and_compared() {
    let (_pve, client) = start().await;
    let qemu = client.nodes().node("pve1").qemu();
    let desired = QemuConfig::new()
        .name("web")
        .cores(2)
        .memory(2048)
        .onboot(true)
        .net(0, QemuNet::virtio().bridge("vmbr0").firewall(true));
    let create = qemu.post(101).settings(&desired);
    let create = create.scsi(0, QemuDrive::new("local-lvm:4"));
    create.await.expect("accepted").wait().await.expect("made");

    let config = || qemu.vmid(101).config();
    let found = config().get().await.expect("there");
    assert!(
        found.drift(&desired).is_empty(),
        "{}",
        found.drift(&desired)
    );
    assert!(found.net[0].macaddr.is_some() && found.scsi.contains_key(0));

    let desired = desired.cores(4).net(0, QemuNet::virtio().bridge("vmbr1"));
    let drift = found.drift(&desired);
    let names: Vec<&str> = drift.iter().map(|change| change.name()).collect();
    assert_eq!(names, ["cores", "net0"]);
    config().put().changes(&drift).await.expect("accepted");
    let changed = config().get().await.expect("there");
    assert!(changed.drift(&desired).is_empty());
    assert_eq!(changed.net[&0].macaddr, found.net[&0].macaddr);
    assert_eq!(changed.net[&0].firewall, Some(true));

    // All the way back, with members that only the first one had.
    let back = changed.diff(&found);
    config().put().changes(&back).await.expect("accepted");
    let restored = config().get().await.expect("there");
    assert!(
        restored.diff(&found).is_empty(),
        "{}",
        restored.diff(&found)
    );

    // A concurrent change is not overwritten.
    let stale = found.diff(&found.clone().cores(8));
    config().put().cores(3).await.expect("accepted");
    assert_eq!(stale.digest(), found.digest.as_deref());
    config()
        .put()
        .changes(&stale)
        .await
        .expect_err("it is another by now");

    // A second machine of the same kind, with its own identity.
    let restored = restored.with(|config| config.vmgenid = None);
    let copy = qemu
        .post(102)
        .settings(&restored)
        .net(0, QemuNet::virtio().bridge("vmbr0"));
    let copy = copy.scsi(0, QemuDrive::new("local-lvm:4"));
    copy.await.expect("accepted").wait().await.expect("made");
}

#[tokio::test]
async fn values_are_written_back_unchanged() {
    let (_pve, client) = start().await;
    let cluster = client.cluster();

    let job = BackupJobConfig::new("nightly")
        .schedule("02:30")
        .storage("local")
        .vmid([100, 101])
        .prune_backups("keep-daily=7");
    cluster.backup().post().settings(&job).await.expect("made");
    let entry = || cluster.backup().id("nightly");
    let found = entry().get().await.expect("there");
    assert!(found.drift(&job).is_empty(), "{}", found.drift(&job));
    entry().put().settings(&found).await.expect("taken back");
    let listed = cluster.backup().get().await.expect("a list");
    assert!(listed[0].drift(&job).is_empty());
    let now = client.nodes().node("pve1").vzdump().post().settings(&found);
    let params = now.call().params();
    assert!(params.get("prune-backups").is_some() && params.get("schedule").is_none());

    let options = ClusterOptions::new()
        .migration("type=secure")
        .mac_prefix("BC:24");
    cluster
        .options()
        .put()
        .settings(&options)
        .await
        .expect("taken");
    let found = cluster.options().get().await.expect("there");
    assert!(
        found.drift(&options).is_empty(),
        "{}",
        found.drift(&options)
    );
    cluster
        .options()
        .put()
        .settings(&found)
        .await
        .expect("taken back");

    let rules = cluster.firewall().rules();
    let rule = FirewallRule::new()
        .action("ACCEPT")
        .type_("in")
        .proto("tcp")
        .dport("22")
        .enable(true);
    let make = rules.post().type_("in").action("ACCEPT").settings(&rule);
    make.await.expect("made");
    let found = rules.get().await.expect("a list").remove(0);
    assert_eq!(found.type_, rule.type_);
    rules
        .pos(0)
        .put()
        .settings(&found)
        .await
        .expect("taken back");

    let zone = SdnZone::from_json(json!({ "zone": "z1", "type": "simple", "nodes": "pve1" }));
    let zone = zone.expect("a zone");
    let zones = cluster.sdn().zones();
    let make = zones.post().type_("simple").zone("z1").settings(&zone);
    make.await.expect("made");
    let found = zones.zone("z1").get().await.expect("there");
    assert_eq!(found.nodes, zone.nodes);
    zones
        .zone("z1")
        .put()
        .settings(&found)
        .await
        .expect("taken back");
}

#[tokio::test]
async fn an_answer_is_read_as_any_serde_type() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row {
        node: String,
        status: String,
    }

    let (_pve, client) = start().await;
    let typed: Vec<Row> = client.nodes().get().answer_as().await.expect("rows");
    let method = proxmox_api::value::endpoint::Method::Get;
    let path = "/cluster/resources?type=node";
    let plain: Vec<Row> = client.request(method, path).await.expect("rows");
    assert_eq!((typed.len(), plain.len()), (1, 1));
    assert_eq!(typed[0].node, plain[0].node);
    let all: Value = client
        .request(method, "/cluster/resources")
        .await
        .expect("rows");
    assert!(all.as_array().is_some_and(|rows| rows.len() > 1), "{all}");
    let error = client
        .request::<Row>(method, path)
        .await
        .expect_err("a list");
    assert!(error.to_string().contains("data"), "{error}");
}
