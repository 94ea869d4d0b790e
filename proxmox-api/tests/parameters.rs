//! Encoding of parameters: lists with the separators of their readers, and values that are refused
//! before sending.

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::error::{ErrorKind, RequestErrorKind};
use proxmox_api::manage::guest::CloudInit;
use proxmox_api::pve::qemu::{QemuBoot, QemuCpu, QemuDrive, QemuNet, QemuNuma};
use proxmox_api::request::{ApiRequest, Call};
use proxmox_api::value::encode::ParamValue;
use proxmox_api::value::endpoint::Method;
use proxmox_api::{Client, Error, List};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use serde_json::Value;

async fn start() -> (Simulator, Client) {
    let pve = Simulator::builder()
        .time_factor(0.0)
        .qemu(
            100,
            "pve1",
            &[("name", "one"), ("net0", "virtio=BC:24:11:00:00:01")],
        )
        .start()
        .await
        .expect("it starts");
    let client = Client::builder(pve.url())
        .ca_pem(pve.ca_pem())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .retry(RetryPolicy::none())
        .build()
        .expect("the settings are complete");
    (pve, client)
}

fn sent<'a>(call: &'a Call, name: &str) -> &'a str {
    match call.params().get(name) {
        Some(ParamValue::One(text)) => text,
        other => panic!("`{name}` is {other:?}"),
    }
}

/// The reason why a request is not sent.
async fn refused<R: ApiRequest>(request: R) -> String {
    let error = request.into_request().await.err().expect("not sent");
    let Error::Request(error) = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(error.kind(), RequestErrorKind::Parameter { .. }),
        "{error}"
    );
    error.to_string()
}

#[tokio::test]
async fn a_bond_and_similar_interfaces_can_be_created_and_written_back() {
    let (_pve, client) = start().await;
    let network = client.nodes().node("pve1").network();
    network
        .post()
        .type_("bond")
        .iface("bond0")
        .slaves(["eth0", "eth1"])
        .await
        .unwrap();
    network
        .post()
        .type_("bridge")
        .iface("vmbr7")
        .bridge_ports("eth2,eth7")
        .bridge_vids(["2", "4-6"])
        .await
        .unwrap();
    network
        .post()
        .type_("OVSBridge")
        .iface("vmbr9")
        .ovs_ports(vec!["eth3", "eth4"])
        .await
        .unwrap();
    network
        .post()
        .type_("OVSBond")
        .iface("bond9")
        .ovs_bridge("vmbr9")
        .ovs_bonds(List::from("eth5;eth6"))
        .await
        .unwrap();
    // A value that was read is written unchanged.
    let read = async |name: &str| network.iface(name).get().await.unwrap();
    let bond = network.iface("bond0").put("bond");
    let bond = bond.slaves(read("bond0").await.slaves.unwrap());
    assert_eq!(sent(bond.call(), "slaves"), "eth0 eth1");
    bond.await.unwrap();
    let bridge = network.iface("vmbr7").put("bridge");
    let bridge = bridge.bridge_ports(read("vmbr7").await.bridge_ports.unwrap());
    assert_eq!(sent(bridge.call(), "bridge_ports"), "eth2 eth7");
    bridge.await.unwrap();
    let bridge = network.iface("vmbr9").put("OVSBridge");
    let bridge = bridge.ovs_ports(read("vmbr9").await.ovs_ports.unwrap());
    assert_eq!(sent(bridge.call(), "ovs_ports"), "eth3 eth4");
    bridge.await.unwrap();
    let bond = network.iface("bond9").put("OVSBond");
    let bond = bond.ovs_bonds(read("bond9").await.ovs_bonds.unwrap());
    assert_eq!(sent(bond.call(), "ovs_bonds"), "eth5 eth6");
    bond.await.unwrap();
}

#[tokio::test]
async fn the_alias_of_an_optical_drive_has_the_type_of_a_drive() {
    let (_pve, client) = start().await;
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    let mut drive = QemuDrive::new("local:iso/debian-13.iso");
    drive.ssd = Some(true);
    config.put().cdrom(drive).await.unwrap();
    let drives = config.get().await.unwrap().ide;
    let drive = drives.get(2).expect("it is ide2");
    assert_eq!(drive.media.as_ref().unwrap().as_str(), "cdrom");
    assert_eq!(drive.ssd, Some(true));
    config.put().cdrom("none").await.unwrap();
    let drives = config.get().await.unwrap().ide;
    assert_eq!(drives[&2].to_string(), "none,media=cdrom");
    config.put().delete(["cdrom"]).await.unwrap();
    assert!(config.get().await.unwrap().ide.is_empty());
    let text = refused(config.put().cdrom("none,cache=warm")).await;
    assert!(text.contains("cdrom"), "{text}");
}

#[tokio::test]
async fn name_servers_of_a_machine_are_separate() {
    let (_pve, client) = start().await;
    let guest = client.guest(100);
    let servers = |text: Value| -> Vec<String> {
        let text = text.as_str().unwrap().to_owned();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("      - '"));
        lines
            .map(|line| line.trim_end_matches('\'').to_owned())
            .collect()
    };
    let dump = client
        .request::<Value>(Method::Get, "/nodes/pve1/qemu/100/cloudinit/dump")
        .param("type", "network");

    let settings = CloudInit::new()
        .dhcp(0)
        .nameserver("192.0.2.1")
        .nameserver("192.0.2.2")
        .search_domain("a.example")
        .search_domain("b.example");
    guest.set_cloud_init(settings).await.unwrap();
    let all = ["192.0.2.1", "192.0.2.2", "a.example", "b.example"];
    assert_eq!(servers(dump.clone().await.unwrap()), all);

    // Reading it, and writing it with the generated call.
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    let current = config.get().await.unwrap();
    let (name_servers, search_domains) =
        (current.nameserver.unwrap(), current.searchdomain.unwrap());
    let change = config
        .put()
        .nameserver(name_servers)
        .searchdomain(search_domains);
    assert_eq!(sent(change.call(), "nameserver"), "192.0.2.1 192.0.2.2");
    change.await.unwrap();
    assert_eq!(servers(dump.clone().await.unwrap()), all);

    // Changing the configuration as a whole.
    guest
        .update_qemu(|config| {
            config
                .nameserver
                .get_or_insert_default()
                .push("192.0.2.3".into());
        })
        .await
        .unwrap();
    assert_eq!(
        servers(dump.await.unwrap())[..3],
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    );
}

#[test]
fn each_list_has_the_separator_of_its_reader() {
    let qemu = proxmox_api::pve::Root::detached()
        .nodes()
        .node("pve1")
        .qemu();
    let request = qemu
        .post(100)
        .tags(["a", "b"])
        .nameserver("192.0.2.1,192.0.2.2")
        .searchdomain(["a.example", "b.example"])
        .cpu(QemuCpu::new().cputype("host").flags(["+aes", "-pcid"]))
        .boot(QemuBoot::new().order(["scsi0", "net0"]))
        .net(0, QemuNet::virtio().trunks(["2", "4-6"]))
        .numa_nodes(0, QemuNuma::new(["0-1", "3"]));
    for (name, text) in [
        ("tags", "a,b"),
        ("nameserver", "192.0.2.1 192.0.2.2"),
        ("searchdomain", "a.example b.example"),
        ("cpu", "host,flags=+aes;-pcid"),
        ("boot", "order=scsi0;net0"),
        ("net0", "virtio,trunks=2;4-6"),
        ("numa0", "cpus=0-1;3"),
    ] {
        let sent = sent(request.call(), name);
        let mut parts: Vec<_> = sent.split(',').collect();
        let mut expected: Vec<_> = text.split(',').collect();
        parts.sort_unstable();
        expected.sort_unstable();
        assert_eq!(parts, expected, "{name}");
    }
}

#[tokio::test]
async fn an_item_that_would_arrive_as_several_is_not_sent() {
    let (pve, client) = start().await;
    let access = client.access();
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    for (error, parameter, item) in [
        (
            refused(
                access
                    .acl()
                    .put()
                    .path("/vms/100")
                    .roles(["PVEAuditor,Administrator"]),
            )
            .await,
            "roles",
            "PVEAuditor,Administrator",
        ),
        (
            refused(
                access
                    .acl()
                    .put()
                    .path("/")
                    .roles(["PVEAuditor"])
                    .users(["alice@pve;mallory@pve"]),
            )
            .await,
            "users",
            "alice@pve;mallory@pve",
        ),
        (
            refused(
                access
                    .acl()
                    .put()
                    .path("/")
                    .roles(["PVEAuditor"])
                    .groups(["a b"]),
            )
            .await,
            "groups",
            "a b",
        ),
        (
            refused(config.put().tags(["with space"])).await,
            "tags",
            "with space",
        ),
        (
            refused(config.put().unset("balloon,protection")).await,
            "delete",
            "balloon,protection",
        ),
        (
            refused(config.put().param("tags", List::<String>::from(["a\0b"]))).await,
            "tags",
            "a\\0b",
        ),
        (
            refused(config.put().nameserver(["192.0.2.1\n192.0.2.2"])).await,
            "nameserver",
            "192.0.2.1\\n192.0.2.2",
        ),
        (
            refused(
                config
                    .put()
                    .cpu(QemuCpu::new().cputype("host").flags(["+aes;-pcid"])),
            )
            .await,
            "cpu",
            "+aes;-pcid",
        ),
    ] {
        assert!(error.contains(&format!("`{parameter}`")), "{error}");
        assert!(error.contains(item), "{error}");
        assert!(error.contains("pass several items separately"), "{error}");
    }
    let mut net = QemuNet::virtio();
    net.unknown.set("x,firewall=0", "1");
    let error = refused(config.put().net(0, net)).await;
    assert!(
        error.contains("`net0`") && error.contains("\"x,firewall=0\""),
        "{error}"
    );
    let mut net = QemuNet::virtio();
    net.unknown.set("x", "1,firewall=0");
    let error = refused(config.put().net(0, net)).await;
    assert!(error.contains("`net0`") && error.contains("`x`"), "{error}");
    assert!(pve.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn values_that_no_release_accepts_are_refused_unless_the_check_is_off() {
    let (pve, client) = start().await;
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    for (error, expected) in [
        (
            refused(config.put().cores(-1)).await,
            "the parameter `cores` takes integers from 1; not \"-1\"",
        ),
        (
            refused(config.put().net(99, QemuNet::virtio())).await,
            "the parameter `net99` takes the indexes 0 to 31; not \"99\"",
        ),
        (
            refused(config.put().net(300, QemuNet::virtio())).await,
            "the parameter `net300` takes the indexes 0 to 31; not \"300\"",
        ),
        (
            refused(config.put().param("net32", "virtio")).await,
            "the parameter `net32` takes the indexes 0 to 31; not \"32\"",
        ),
        (
            refused(config.put().cores(u64::MAX)).await,
            "the parameter `cores` takes integers of 64 bits with a sign; not \"18446744073709551615\"",
        ),
        (
            refused(config.put().cpulimit(129)).await,
            "the parameter `cpulimit` takes numbers from 0 to 128; not \"129\"",
        ),
        (
            refused(config.put().bootdisk("floppy0")).await,
            "the parameter `bootdisk` takes texts that match `(ide|sata|scsi|virtio)\\d+`; not \"floppy0\"",
        ),
        (
            refused(config.put().net(0, QemuNet::new("virtoi"))).await,
            "for its key `model`; not \"virtoi\"",
        ),
        (
            refused(config.put().net(0, QemuNet::virtio().tag(4095))).await,
            "the parameter `net0` takes integers from 1 to 4094 for its key `tag`; not \"4095\"",
        ),
    ] {
        assert!(error.ends_with(expected), "{error}\n{expected}");
    }
    let agent = client.nodes().node("pve1").qemu().vmid(100).agent();
    // A query cannot express that this is an array.
    let lone = client.request::<Value>(Method::Get, "/nodes/pve1/qemu/100/agent/exec-status");
    let error = refused(lone.param("pid", vec!["0"])).await;
    assert!(error.contains("more than one element"), "{error}");
    let secret = agent
        .set_user_password()
        .post()
        .username("longer")
        .password("longer");
    let secret = secret.param("password", "1234");
    let error = refused(secret).await;
    assert!(
        error.contains("characters") && !error.contains("1234"),
        "{error}"
    );
    assert!(pve.requests().is_empty());

    // A later value replaces an invalid one.
    config.put().cores(-1).cores(2).await.unwrap();
    // A newer server may accept more; a value that would be misread stays refused.
    let bold = Client::builder(pve.url())
        .ca_pem(pve.ca_pem())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .retry(RetryPolicy::none())
        .check_parameters(false)
        .build()
        .unwrap();
    let config = bold.nodes().node("pve1").qemu().vmid(100).config();
    let error = config.put().cores(-1).await.unwrap_err();
    assert!(matches!(error, Error::Api(_)), "{error}");
    refused(config.put().tags(["a b"])).await;
}

/// Calls in usual spellings: they compile, and send the same as the plain spelling.
#[test]
#[allow(
    clippy::needless_borrows_for_generic_args,
    clippy::cloned_ref_to_slice_refs,
    reason = "usual spelling"
)]
fn setters_accept_usual_types() {
    use std::collections::{BTreeSet, HashSet};

    use proxmox_api::pve::Root;
    use proxmox_api::pve::qemu::{QemuBios, QemuMemory, QemuOstype};
    use proxmox_api::value::formats::UserId;

    struct Spec {
        cores: u32,
        memory: u64,
        sockets: usize,
        name: String,
        tags: Vec<String>,
        os: QemuOstype,
        bios: Option<QemuBios>,
        onboot: Option<bool>,
        note: Option<String>,
        net: QemuNet,
    }
    let spec = Spec {
        cores: 2,
        memory: 4096,
        sockets: 1,
        name: "web".into(),
        tags: vec!["a".into(), "b".into()],
        os: QemuOstype::L26,
        bios: None,
        onboot: Some(true),
        note: None,
        net: QemuNet::virtio().bridge("vmbr0"),
    };
    let qemu = Root::detached().nodes().node("pve1").qemu();
    let full = |call: &Call| -> Vec<(String, String)> {
        let one = |value: &ParamValue| match value {
            ParamValue::One(text) => text.clone(),
            ParamValue::Many(texts) => texts.join("|"),
            other => panic!("{other:?}"),
        };
        let params = call.params().iter();
        params
            .map(|(key, value)| (key.to_owned(), one(value)))
            .collect()
    };
    let plain = qemu
        .post(100)
        .cores(2)
        .memory("4096")
        .sockets(1)
        .name("web")
        .tags("a,b")
        .ostype("l26")
        .onboot(true)
        .net(0, "virtio,bridge=vmbr0");
    for request in [
        qemu.post(100_u32)
            .cores(spec.cores)
            .memory(spec.memory)
            .sockets(spec.sockets)
            .name(&spec.name)
            .tags(&spec.tags)
            .ostype(&spec.os)
            .bios(&spec.bios)
            .onboot(spec.onboot)
            .description(&spec.note)
            .net(0, &spec.net),
        qemu.post(100_i64)
            .cores(&spec.cores)
            .memory(4096)
            .sockets(Some(1_u8))
            .name(spec.name.as_str())
            .tags(spec.tags.iter())
            .ostype(spec.os.clone())
            .bios(None::<QemuBios>)
            .onboot(&Some(true))
            .description(spec.note.as_deref())
            .net(0_usize, spec.net.clone()),
        qemu.post(100_usize)
            .cores(Some(2))
            .memory(QemuMemory::new(4096_u32))
            .sockets(&1)
            .name(Some("web"))
            .tags(["a", "b"])
            .ostype(Some(&spec.os))
            .bios(spec.bios.as_ref())
            .onboot(&true)
            .description(None::<String>)
            .net(0_u64, Some(&spec.net)),
        qemu.post(&100)
            .cores(2_i128)
            .memory(Some(4096))
            .sockets(1_isize)
            .name(String::from("web"))
            .tags(Some(&spec.tags))
            .ostype(QemuOstype::L26)
            .onboot(Some(&true))
            .net(0_i32, String::from("virtio,bridge=vmbr0")),
    ] {
        assert_eq!(full(request.call()), full(plain.call()));
    }
    let lists = [
        qemu.post(1).tags(&["a", "b"]),
        qemu.post(1).tags(&["a", "b"][..]),
        qemu.post(1).tags(vec!["a", "b"]),
        qemu.post(1).tags(spec.tags.as_slice()),
        qemu.post(1)
            .tags(spec.tags.iter().map(|tag| tag.to_lowercase())),
        qemu.post(1)
            .tags(spec.tags.iter().filter(|tag| !tag.is_empty())),
        qemu.post(1).tags(BTreeSet::from(["a", "b"])),
        qemu.post(1)
            .tags(&BTreeSet::from(["a".to_owned(), "b".to_owned()])),
        qemu.post(1).tags("a;b"),
        qemu.post(1).tags(&String::from("a b")),
        qemu.post(1).tags(List::<String>::from("a,b")),
        qemu.post(1).tags(&List::<String>::from("a,b")),
        qemu.post(1).tags(Some(["a", "b"])),
        qemu.post(1).tags(Some("a,b")),
        qemu.post(1).tags(&Some(spec.tags.clone())),
    ];
    for request in &lists {
        assert_eq!(sent(request.call(), "tags"), "a,b");
    }
    assert!(
        qemu.post(1)
            .tags(None::<Vec<String>>)
            .call()
            .params()
            .get("tags")
            .is_none()
    );
    let backup = Root::detached().nodes().node("pve1").vzdump();
    for request in [
        backup.post().vmid([100, 101]),
        backup.post().vmid([100_u32, 101]),
        backup.post().vmid(&[100_i64, 101]),
        backup.post().vmid(vec![100_u64, 101]),
        backup.post().vmid(100..=101),
        backup.post().vmid("100,101"),
        backup.post().vmid([100_usize, 101].iter()),
        backup.post().vmid(Some(&[100_u32, 101])),
    ] {
        assert_eq!(sent(request.call(), "vmid"), "100,101");
    }
    assert_eq!(
        sent(backup.post().vmid(HashSet::from([7_u32])).call(), "vmid"),
        "7"
    );
    let acl = Root::detached().access().acl();
    let user = UserId::from("ci@pve");
    for request in [
        acl.put().path("/").roles("PVEAuditor").users("ci@pve"),
        acl.put().path("/").roles(["PVEAuditor"]).users(["ci@pve"]),
        acl.put()
            .path("/")
            .roles(vec![String::from("PVEAuditor")])
            .users(&[user.clone()]),
        acl.put().path("/").roles(&["PVEAuditor"]).users([&user]),
        acl.put()
            .path("/")
            .roles("PVEAuditor")
            .users(&String::from("ci@pve")),
    ] {
        assert_eq!(sent(request.call(), "users"), "ci@pve");
    }
    let exec = Root::detached()
        .nodes()
        .node("pve1")
        .qemu()
        .vmid(100)
        .agent()
        .exec();
    let words: Vec<String> = "ls -l /".split(' ').map(str::to_owned).collect();
    for request in [
        exec.post().command(["ls", "-l", "/"]),
        exec.post().command(&words),
        exec.post().command(words.iter()),
        exec.post().command("ls -l /".split(' ')),
    ] {
        assert_eq!(
            request.call().params().get("command"),
            Some(&ParamValue::Many(words.clone()))
        );
    }
    let more =
        serde_json::json!({ "cores": 2, "onboot": true, "name": "web", "description": null });
    let request = qemu.post(100).params(more.as_object().unwrap().clone());
    assert_eq!(
        full(request.call())[1..],
        [("cores", "2"), ("name", "web"), ("onboot", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
    );
    fn generic<R: ApiRequest>(request: R) -> R {
        ApiRequest::param(request, "x", Some(1_u64)).params([("y", "z")])
    }
    let request = generic(qemu.post(100)).cores(2);
    assert_eq!(sent(request.call(), "x"), "1");
}

/// The error of a request.
async fn error_of<R: ApiRequest>(request: R) -> String {
    let error = request.into_request().await.err();
    error.expect("refused").to_string()
}

#[tokio::test]
async fn swapped_arguments_have_an_error_with_their_names() {
    let (_pve, client) = start().await;
    let node = client.nodes().node("pve1");
    let rules = client.cluster().firewall().rules();
    let at = node.storage().storage("local").download_url();
    for (text, parameter) in [
        (
            error_of(client.storage().post().type_("nas").storage("dir")).await,
            "type: ",
        ),
        (
            error_of(rules.post().type_("ACCEPT").action("in")).await,
            "type: ",
        ),
        (
            error_of(node.network().post().type_("vmbr7").iface("bridge")).await,
            "type: ",
        ),
        (
            error_of((at.post().url("iso").content("a.iso")).filename("https://example.org/a.iso"))
                .await,
            "the parameter `url` takes ",
        ),
    ] {
        assert!(text.contains(parameter), "{text}");
    }
}

#[tokio::test]
async fn a_path_value_with_white_space_is_not_sent() {
    let (pve, client) = start().await;
    let content = client
        .nodes()
        .node("pve1")
        .storage()
        .storage("local")
        .content();
    for value in [
        "local:iso/two words.iso",
        "local:iso/tab\t.iso",
        "local:iso/line\n.iso",
    ] {
        let error = content.volume(value).get().await.expect_err(value);
        assert!(error.never_sent(), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("white space, which no server accepts"),
            "{error}"
        );
    }
    assert!(pve.requests().is_empty());
    // The server's own error, if it is sent all the same.
    let path = "/nodes/pve1/storage/local/content/local%3Aiso%2Ftwo%20words.iso";
    let error = client
        .request::<Value>(Method::Get, path)
        .await
        .expect_err("no such path");
    assert_eq!(error.kind(), Some(ErrorKind::UnknownMethod), "{error}");
}
