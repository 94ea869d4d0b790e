//! How parameters are written: lists as their readers split them, and what is refused before it is sent.

use proxmox_api::client::retry::RetryPolicy;
use proxmox_api::error::RequestErrorKind;
use proxmox_api::manage::guest::CloudInit;
use proxmox_api::pve::qemu::{QemuBoot, QemuCpu, QemuNet, QemuNuma};
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

/// Why a request is not sent.
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
async fn a_bond_with_two_slaves_and_all_its_kin_can_be_made_and_written_back() {
    let (_pve, client) = start().await;
    let network = client.nodes().node("pve1").network();
    network
        .post("bond", "bond0")
        .slaves(["eth0", "eth1"])
        .await
        .unwrap();
    network
        .post("bridge", "vmbr7")
        .bridge_ports("eth2,eth7")
        .bridge_vids(["2", "4-6"])
        .await
        .unwrap();
    network
        .post("OVSBridge", "vmbr9")
        .ovs_ports(vec!["eth3", "eth4"])
        .await
        .unwrap();
    network
        .post("OVSBond", "bond9")
        .ovs_bridge("vmbr9")
        .ovs_bonds(List::from("eth5;eth6"))
        .await
        .unwrap();
    // What is read is written back as it was.
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
async fn name_servers_of_a_machine_arrive_one_by_one() {
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
        .request(Method::Get, "/nodes/pve1/qemu/100/cloudinit/dump")
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

    // Read, and written back by the generated call.
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    let held = config.get().await.unwrap();
    let (servers_held, domains_held) = (held.nameserver.unwrap(), held.searchdomain.unwrap());
    let change = config
        .put()
        .nameserver(servers_held)
        .searchdomain(domains_held);
    assert_eq!(sent(change.call(), "nameserver"), "192.0.2.1 192.0.2.2");
    change.await.unwrap();
    assert_eq!(servers(dump.clone().await.unwrap()), all);

    // And by changing the configuration as a whole.
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
fn each_list_is_written_as_its_reader_splits_it() {
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
        let mut wanted: Vec<_> = text.split(',').collect();
        parts.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(parts, wanted, "{name}");
    }
}

#[tokio::test]
async fn an_item_that_would_arrive_as_several_is_not_sent() {
    let (pve, client) = start().await;
    let access = client.access();
    let config = client.nodes().node("pve1").qemu().vmid(100).config();
    for (error, parameter, item) in [
        (
            refused(access.acl().put("/vms/100", ["PVEAuditor,Administrator"])).await,
            "roles",
            "PVEAuditor,Administrator",
        ),
        (
            refused(
                access
                    .acl()
                    .put("/", ["PVEAuditor"])
                    .users(["alice@pve;mallory@pve"]),
            )
            .await,
            "users",
            "alice@pve;mallory@pve",
        ),
        (
            refused(access.acl().put("/", ["PVEAuditor"]).groups(["a b"])).await,
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
        assert!(error.contains("one by one"), "{error}");
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
