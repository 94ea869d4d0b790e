//! Decoding: leniency, kept values, and errors.

#![cfg(all(
    feature = "cluster-sdn",
    feature = "lxc",
    feature = "node-sdn",
    feature = "qemu"
))]

use proxmox_api::Pending;
use proxmox_api::pve::cluster::ClusterResourcesItem;
use proxmox_api::pve::cluster_sdn::SdnSubnet;
use proxmox_api::pve::lxc::LxcNet;
use proxmox_api::pve::node_sdn::NodeSdnZonesBridgesItem;
use proxmox_api::pve::qemu::{QemuConfig, QemuDrive, QemuItem, QemuMigrate, QemuNet};
use proxmox_api::stream::envelope::Answer;
use proxmox_api::value::decode::from_answer;
use serde_json::json;

fn config(members: &str) -> QemuConfig {
    let body = format!(r#"{{"data":{{"digest":"abc"{members}}}}}"#);
    from_answer(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn failure(body: &str) -> String {
    from_answer::<Vec<ClusterResourcesItem>>(body.as_bytes())
        .expect_err(body)
        .to_string()
}

#[test]
fn scalars_are_accepted_in_every_spelling_of_servers() {
    for text in ["2", "\"2\"", "2.0", "\"2.0\"", "2e0"] {
        assert_eq!(
            config(&format!(r#","cores":{text}"#)).cores,
            Some(2),
            "{text}"
        );
    }
    for (text, value) in [
        ("1", true),
        ("\"1\"", true),
        ("0", false),
        ("\"\"", false),
        ("true", true),
    ] {
        assert_eq!(
            config(&format!(r#","onboot":{text}"#)).onboot,
            Some(value),
            "{text}"
        );
    }
    let large = from_answer::<i64>(br#"{"data":3.47726673451418e+15}"#);
    assert_eq!(large, Ok(3_477_266_734_514_180));
}

#[test]
fn null_is_absent() {
    let config = config(r#","cores":null,"net0":null,"tags":null"#);
    assert_eq!((config.cores, config.net.len()), (None, 0));
    assert!(config.extra.is_empty(), "{:?}", config.extra);
}

#[test]
fn values_that_do_not_fit_are_only_in_extra() {
    let config = config(r#","cores":"many","net0":[1],"name":{"a":1},"brand-new":[true]"#);
    assert_eq!(
        (config.cores, config.name.as_deref(), config.net.len()),
        (None, None, 0)
    );
    assert_eq!(config.extra["cores"], json!("many"));
    assert_eq!(config.extra["net0"], json!([1]));
    assert_eq!(config.extra["name"], json!({"a": 1}));
    assert_eq!(config.extra["brand-new"], json!([true]));
}

#[test]
fn indexed_members_are_a_map_and_a_plain_member_of_the_name_is_not() {
    let config = config(
        r#","net0":"virtio=BC:24:11:00:00:01,bridge=vmbr0","net12":"e1000","numa":1,"numa0":"cpus=0-1","net999":"virtio""#,
    );
    assert_eq!(config.net.keys().copied().collect::<Vec<_>>(), [0, 12]);
    assert_eq!(config.net[&0].macaddr, Some("BC:24:11:00:00:01".into()));
    assert_eq!(config.numa, Some(true));
    assert_eq!(config.numa_nodes[&0].cpus.0, ["0-1"]);
    assert_eq!(config.extra["net999"], json!("virtio"));
}

fn list(data: &str) -> Answer<Vec<ClusterResourcesItem>> {
    let body = format!(r#"{{"data":{data}}}"#);
    Answer::from_body(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[test]
fn an_invalid_list_element_is_kept_beside_the_data() {
    let misfit = json!({"id": {}, "type": "qemu", "node": "pve1"});
    let answer = list(&format!(
        r#"[{{"id":"node/pve1","type":"node"}},{misfit},null,{{"id":"lxc/101","type":"lxc"}},7]"#
    ));
    let ids: Vec<&str> = answer.data.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["node/pve1", "lxc/101"]);
    assert_eq!(answer.extra["data"], json!([null, misfit, null, 7]));
    assert!(
        list(r#"[{"id":"node/pve1","type":"node"}]"#)
            .extra
            .is_empty()
    );
}

#[test]
fn an_inactive_bridge_decodes() {
    let body = br#"{"data":[{"ports":[],"name":"vmbr5","vlan_filtering":null},{"vlan_filtering":0,"name":"vmbr0",
        "ports":[{"name":"tap100i0"},7]}]}"#;
    let answer: Answer<Vec<NodeSdnZonesBridgesItem>> = Answer::from_body(body).unwrap();
    assert_eq!(answer.data[0].vlan_filtering, None);
    assert_eq!(answer.data[1].vlan_filtering.as_deref(), Some("0"));
    assert_eq!(answer.data[1].ports.as_ref().map(Vec::len), Some(1));
    assert_eq!(answer.data[1].extra["ports"], json!([null, 7]));
    assert!(answer.extra.is_empty());
}

#[test]
fn pending_network_changes_include_removals() {
    let body = br#"{"data":[{"subnet":"lab-10.9.0.0-24","dhcp-range":[{"start-address":"10.9.0.10","end-address":"10.9.0.20"}],
        "pending":{"dhcp-range":["start-address=10.9.0.30,end-address=10.9.0.40"],"snat":"deleted","gateway":"10.9.0.1",
        "dnszoneprefix":"deleted"}},{"subnet":"lab-10.8.0.0-24","pending":{"dhcp-range":"deleted"}}]}"#;
    let subnets: Vec<SdnSubnet> = from_answer(body).unwrap();
    let pending = subnets[0].pending.as_ref().unwrap();
    let ranges = pending
        .dhcp_range
        .as_ref()
        .and_then(Pending::value)
        .unwrap();
    assert_eq!(ranges[0].start_address.as_str(), "10.9.0.30");
    assert_eq!(pending.snat, Some(Pending::Deleted));
    assert_eq!(pending.gateway, Some(Pending::Set("10.9.0.1".to_owned())));
    assert_eq!(pending.dnszoneprefix, Some(Pending::Deleted));
    assert!(pending.extra.is_empty(), "{pending:?}");
    let other = subnets[1].pending.as_ref().unwrap();
    assert!(other.dhcp_range.as_ref().is_some_and(Pending::is_deleted));
}

#[test]
fn a_value_that_does_not_fit_is_kept_in_the_nearest_object() {
    let body = br#"{"data":{"running":0,"local_disks":[{"volid":"a:1","size":1},5],"local_resources":["usb0",[1]],
        "not_allowed_nodes":{"pve2":{"blocking-ha-resources":{"sid":"vm:1"}},"pve3":"full"}}}"#;
    let check: QemuMigrate = from_answer(body).unwrap();
    assert_eq!(check.extra["local_disks"], json!([null, 5]));
    assert_eq!(check.extra["local_resources"], json!([null, [1]]));
    assert_eq!(check.extra["not_allowed_nodes"], json!({"pve3": "full"}));
    let nodes = check.not_allowed_nodes.unwrap();
    let blocking = &nodes["pve2"].extra["blocking-ha-resources"];
    assert_eq!(*blocking, json!({"sid": "vm:1"}));
}

#[test]
fn a_list_without_a_fitting_element_is_an_error_only_as_the_whole_answer() {
    let body = br#"{"data":{"running":0,"local_disks":[5,"x"],"local_resources":[],"mapped-resources":[[1]]}}"#;
    let check: QemuMigrate = from_answer(body).unwrap();
    assert!(check.local_disks.is_empty());
    assert_eq!(check.extra["local_disks"], json!([5, "x"]));
    assert!(check.mapped_resources.is_none());
    assert_eq!(check.extra["mapped-resources"], json!([[1]]));
    assert_eq!(
        failure(r#"{"data":["a","b"]}"#),
        "at data[0]: expected object, found a text of 1 characters (line 1 column 13)"
    );
    assert!(failure(r#"{"data":{"id":"a"}}"#).starts_with("at data: expected array, found object"));
}

#[test]
fn a_property_string_survives_every_form() {
    for text in [
        "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1",
        "virtio,bridge=vmbr0,macaddr=BC:24:11:00:00:01,firewall=1",
        "model=virtio,macaddr=BC:24:11:00:00:01,bridge=vmbr0,firewall=on",
    ] {
        let net: QemuNet = text.parse().unwrap();
        assert_eq!(
            (net.model.as_str(), net.firewall),
            ("virtio", Some(true)),
            "{text}"
        );
        assert_eq!(
            net.to_string(),
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"
        );
    }
    let drive = QemuDrive::from("local-lvm:vm-100-disk-0,size=32G,next=1");
    assert_eq!(drive.file.storage(), Some("local-lvm"));
    assert_eq!(
        drive.size.as_ref().and_then(|size| size.bytes()),
        Some(32 << 30)
    );
    assert_eq!(drive.unknown.keys()["next"], "1");
    assert_eq!(drive.to_string(), "local-lvm:vm-100-disk-0,size=32G,next=1");
    assert!(
        "bridge=vmbr0".parse::<LxcNet>().is_err(),
        "a name is required"
    );
}

#[test]
fn an_invalid_property_string_keeps_its_text() {
    let config = config(r#","net0":"virtio,tag=none","net1":{"model":"e1000","tag":7,"odd":[1]}"#);
    assert_eq!(config.net[&0].unknown.text(), Some("virtio,tag=none"));
    assert_eq!(config.net[&0].to_string(), "virtio,tag=none");
    assert_eq!(
        (config.net[&1].model.as_str(), config.net[&1].tag),
        ("e1000", Some(7))
    );
    assert_eq!(config.net[&1].unknown.members()["odd"], json!([1]));
}

#[test]
fn an_unknown_enum_value_is_kept() {
    let body = br#"{"data":[{"vmid":100,"status":"hibernating"}]}"#;
    let items: Vec<QemuItem> = from_answer(body).unwrap();
    assert_eq!(items[0].status.as_str(), "hibernating");
}

#[test]
fn an_error_has_the_path_and_quotes_no_text() {
    assert_eq!(
        failure(r#"{"data":[{"id":{},"type":"qemu"}]}"#),
        "at data[0].id: expected scalar, found object (line 1 column 17)"
    );
    assert!(
        failure(r#"{"data":[{"type":"node"}]}"#).contains("at data[0]: the required member `id`")
    );
    assert!(failure("{}").contains("`data` is missing"));
    assert!(failure("").contains("EOF"));
    assert!(failure("<html>").contains("line 1 column 1"));
    let text = from_answer::<i64>(br#"{"data":"hunter2"}"#)
        .unwrap_err()
        .to_string();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn null_differs_from_missing() {
    let text = failure(r#"{"data":[{"id":null,"type":"node"}]}"#);
    assert!(
        text.contains("at data[0]: the required member `id` is null"),
        "{text}"
    );
}

#[test]
fn invalid_utf8_is_an_error_with_a_path() {
    let body = b"{\"data\":[{\"id\":\"a\",\"type\":\"node\"},{\"id\":\"caf\xe9\"}]}";
    let text = from_answer::<Vec<ClusterResourcesItem>>(body)
        .expect_err("not UTF-8")
        .to_string();
    assert!(
        text.starts_with("at data[1].id: the text is not UTF-8 from here on"),
        "{text}"
    );
}

#[test]
fn debug_shows_set_members_and_no_secret() {
    let read = config(
        r#","cores":4,"net2":"virtio=BC:24:11:00:00:01,bridge=vmbr0","cipassword":"hunter2","new":1"#,
    );
    let text = format!("{read:?}");
    assert!(text.starts_with("QemuConfig {"), "{text}");
    for part in [
        "cores: 4",
        "net: {2: QemuNet {",
        "bridge: \"vmbr0\"",
        "extra: {\"new\": Number(1)}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        !text.contains("hunter2") && !text.contains("memory"),
        "{text}"
    );
}

#[test]
fn a_comma_within_a_property_string_is_refused_before_sending() {
    let net = QemuNet::virtio().bridge("vmbr0,firewall=0");
    let request = proxmox_api::pve::Root::detached()
        .nodes()
        .node("pve1")
        .qemu()
        .vmid(100)
        .config()
        .put()
        .net(0, net);
    let client = proxmox_api::Client::builder("https://localhost:9")
        .api_token("root@pam!t", "s")
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(client.send(request))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`net0`") && error.contains("`bridge`"),
        "{error}"
    );
}
