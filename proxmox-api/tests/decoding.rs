//! How answers become values: leniency, what is kept, and what an error says.

#![cfg(all(feature = "cluster", feature = "lxc", feature = "qemu"))]

use proxmox_api::pve::cluster::ClusterResourcesItem;
use proxmox_api::pve::lxc::LxcNet;
use proxmox_api::pve::qemu::{QemuConfig, QemuDrive, QemuItem, QemuNet};
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
fn scalars_are_taken_in_every_spelling_that_servers_use() {
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
fn what_does_not_fit_stays_in_extra_and_leaves_no_trace_elsewhere() {
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
fn an_indexed_family_is_a_map_and_its_neighbour_of_the_same_name_is_not() {
    let config = config(
        r#","net0":"virtio=BC:24:11:00:00:01,bridge=vmbr0","net12":"e1000","numa":1,"numa0":"cpus=0-1","net999":"virtio""#,
    );
    assert_eq!(config.net.keys().copied().collect::<Vec<_>>(), [0, 12]);
    assert_eq!(config.net[&0].macaddr.as_deref(), Some("BC:24:11:00:00:01"));
    assert_eq!(config.numa, Some(true));
    assert_eq!(config.numa_nodes[&0].cpus.as_str(), "0-1");
    assert_eq!(config.extra["net999"], json!("virtio"));
}

#[test]
fn a_property_string_reads_every_form_and_writes_back_what_it_read() {
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
    let drive: QemuDrive = "local-lvm:vm-100-disk-0,size=32G,next=1".parse().unwrap();
    assert_eq!(drive.file.storage(), Some("local-lvm"));
    assert_eq!(
        drive.size.as_ref().and_then(|size| size.bytes()),
        Some(32 << 30)
    );
    assert_eq!(drive.undeclared.keys()["next"], "1");
    assert_eq!(drive.to_string(), "local-lvm:vm-100-disk-0,size=32G,next=1");
    assert!(
        "bridge=vmbr0".parse::<LxcNet>().is_err(),
        "a name is required"
    );
}

#[test]
fn a_property_string_that_cannot_be_understood_keeps_its_text() {
    let config = config(r#","net0":"virtio,tag=none","net1":{"model":"e1000","tag":7,"odd":[1]}"#);
    assert_eq!(config.net[&0].undeclared.text(), Some("virtio,tag=none"));
    assert_eq!(config.net[&0].to_string(), "virtio,tag=none");
    assert_eq!(
        (config.net[&1].model.as_str(), config.net[&1].tag),
        ("e1000", Some(7))
    );
    assert_eq!(config.net[&1].undeclared.members()["odd"], json!([1]));
}

#[test]
fn an_unlisted_enum_value_is_kept() {
    let body = br#"{"data":[{"vmid":100,"status":"hibernating"}]}"#;
    let items: Vec<QemuItem> = from_answer(body).unwrap();
    assert_eq!(items[0].status.as_str(), "hibernating");
}

#[test]
fn an_error_names_the_place_and_never_quotes_a_text() {
    assert_eq!(
        failure(r#"{"data":[{"id":"a","type":"node"},{"id":{},"type":"qemu"}]}"#),
        "at data[1].id: expected scalar, found object (line 1 column 42)"
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
fn null_is_told_from_missing() {
    let text = failure(r#"{"data":[{"id":null,"type":"node"}]}"#);
    assert!(
        text.contains("at data[0]: the required member `id` is null"),
        "{text}"
    );
}

#[test]
fn a_text_that_is_no_utf8_is_an_error_with_its_place() {
    let body = b"{\"data\":[{\"id\":\"a\",\"type\":\"node\"},{\"id\":\"caf\xe9\"}]}";
    let text = from_answer::<Vec<ClusterResourcesItem>>(body)
        .expect_err("not UTF-8")
        .to_string();
    assert!(
        text.starts_with("at data[1].id: what follows is not UTF-8"),
        "{text}"
    );
}

#[test]
fn debug_shows_what_is_set_and_no_secret() {
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
