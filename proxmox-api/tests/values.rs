//! Answers as values: made, compared, kept, and written back to a server.

use std::collections::{BTreeMap, HashSet};

use proxmox_api::Client;
use proxmox_api::pve::cluster::{ClusterBackupItem, ClusterOptions};
use proxmox_api::pve::cluster_sdn::ClusterSdnZonesItem;
use proxmox_api::pve::qemu::{QemuConfig, QemuDrive, QemuItem, QemuNet, QemuOstype};
use proxmox_api::pve::types::FirewallRule;
use proxmox_api::request::ApiRequest;
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
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
fn a_program_makes_answers_and_does_with_them_what_it_does_with_values() {
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
    assert_eq!(config.net.get(&0), Some(&QemuNet::virtio()));
    let os: QemuOstype = "l26".parse().expect("any text is one");
    assert_eq!(BTreeMap::from([(os.clone(), 1)])[&QemuOstype::L26], 1);
    assert!(HashSet::from([os]).contains(&QemuOstype::from("l26")));
    // What does not fit stays with what was given, as it does with a server's answer.
    let odd = QemuConfig::new().cores(u64::MAX);
    assert_eq!(
        (odd.cores, &odd.extra["cores"]),
        (None, &json!(u64::MAX.to_string()))
    );
}

#[tokio::test]
async fn a_configuration_makes_changes_and_is_compared() {
    let (_pve, client) = start().await;
    let qemu = client.nodes().node("pve1").qemu();
    let wanted = QemuConfig::new()
        .name("web")
        .cores(2)
        .memory(2048)
        .onboot(true)
        .net(0, QemuNet::virtio().bridge("vmbr0").firewall(true));
    let create = qemu.post(101).settings(&wanted);
    let create = create.scsi(0, QemuDrive::new("local-lvm:4"));
    create.await.expect("accepted").wait().await.expect("made");

    let config = || qemu.vmid(101).config();
    let found = config().get().await.expect("there");
    assert!(found.drift(&wanted).is_empty(), "{}", found.drift(&wanted));
    assert!(found.net[&0].macaddr.is_some() && found.scsi.contains_key(&0));

    let wanted = wanted.cores(4).net(0, QemuNet::virtio().bridge("vmbr1"));
    let drift = found.drift(&wanted);
    let names: Vec<&str> = drift.iter().map(|change| change.name()).collect();
    assert_eq!(names, ["cores", "net0"]);
    config().put().changes(&drift).await.expect("accepted");
    let changed = config().get().await.expect("there");
    assert!(changed.drift(&wanted).is_empty());
    assert_eq!(changed.net[&0].macaddr, found.net[&0].macaddr);
    assert_eq!(changed.net[&0].firewall, Some(true));

    // The whole way back, with what only the first one had.
    let back = changed.diff(&found);
    config().put().changes(&back).await.expect("accepted");
    let restored = config().get().await.expect("there");
    assert!(
        restored.diff(&found).is_empty(),
        "{}",
        restored.diff(&found)
    );

    // A change that was made by somebody else in between is not overwritten.
    let stale = found.diff(&found.clone().cores(8));
    config().put().cores(3).await.expect("accepted");
    assert_eq!(stale.digest(), found.digest.as_deref());
    config()
        .put()
        .changes(&stale)
        .await
        .expect_err("it is another by now");

    // And a second machine of the same kind, with an identity of its own.
    let restored = restored.with(|config| config.vmgenid = None);
    let twin = qemu
        .post(102)
        .settings(&restored)
        .net(0, QemuNet::virtio().bridge("vmbr0"));
    let twin = twin.scsi(0, QemuDrive::new("local-lvm:4"));
    twin.await.expect("accepted").wait().await.expect("made");
}

#[tokio::test]
async fn what_is_read_is_written_back() {
    let (_pve, client) = start().await;
    let cluster = client.cluster();

    let job = ClusterBackupItem::new("nightly")
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

    let zone =
        ClusterSdnZonesItem::from_json(json!({ "zone": "z1", "type": "simple", "nodes": "pve1" }));
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
async fn an_answer_is_read_as_whatever_serde_reads() {
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
