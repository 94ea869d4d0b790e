//! Configuration is stored and visible in all calls that return it: firewall, HA, SDN, jobs,
//! options.

use std::time::Duration;

use proxmox_simulator::{Clock, Simulator};
use serde_json::{Value, json};

use crate::support::{ask, finish};

async fn pve() -> Simulator {
    Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .node("pve1")
        .node("pve2")
        .qemu(100, "pve1", &[("name", "one"), ("scsi0", "local-lvm:4")])
        .lxc(101, "pve1", &[("rootfs", "local-lvm:4")])
        .start()
        .await
        .expect("starts")
}

async fn get(pve: &Simulator, path: &str) -> Value {
    ask(pve, "GET", path, "").await.data()
}

async fn query(pve: &Simulator, path: &str, form: &str) -> Value {
    ask(pve, "GET", path, form).await.data()
}

async fn succeeds(pve: &Simulator, method: &str, path: &str, form: &str) {
    assert_eq!(
        ask(pve, method, path, form).await.data(),
        Value::Null,
        "{method} {path} {form}"
    );
}

async fn reason(pve: &Simulator, method: &str, path: &str, form: &str) -> String {
    let answer = ask(pve, method, path, form).await;
    assert_eq!(answer.status, 500, "{method} {path}: {answer}");
    answer.reason
}

fn column(rows: &Value, key: &str) -> Vec<Value> {
    rows.as_array()
        .expect("rows")
        .iter()
        .map(|row| row[key].clone())
        .collect()
}

#[tokio::test]
async fn firewall_rules_have_an_order_and_a_digest() {
    let pve = pve().await;
    for base in [
        "/cluster/firewall/rules",
        "/nodes/pve1/firewall/rules",
        "/nodes/pve1/qemu/100/firewall/rules",
        "/nodes/pve1/lxc/101/firewall/rules",
    ] {
        assert_eq!(get(&pve, base).await, json!([]));
        for port in ["1", "2", "3"] {
            succeeds(
                &pve,
                "POST",
                base,
                &format!("type=in&action=ACCEPT&proto=tcp&enable=1&dport={port}"),
            )
            .await;
        }
        let rules = get(&pve, base).await;
        assert_eq!(column(&rules, "dport"), ["3", "2", "1"]);
        assert_eq!(column(&rules, "pos"), [0, 1, 2]);
        assert_eq!(rules[0]["enable"], 1);
        let digest = rules[0]["digest"].as_str().expect("a digest").to_owned();
        succeeds(&pve, "PUT", &format!("{base}/0"), "moveto=3").await;
        assert_eq!(column(&get(&pve, base).await, "dport"), ["2", "1", "3"]);
        let stale = format!("comment=x&digest={digest}");
        assert_eq!(
            reason(&pve, "PUT", &format!("{base}/1"), &stale).await,
            "detected modified configuration - file changed by other user? Try again."
        );
        succeeds(&pve, "PUT", &format!("{base}/1"), "comment=x&delete=enable").await;
        let one = get(&pve, &format!("{base}/1")).await;
        assert_eq!((&one["comment"], &one["pos"]), (&json!("x"), &json!("1")));
        assert!(one["enable"].is_null());
        succeeds(&pve, "PUT", &format!("{base}/2"), "moveto=0").await;
        succeeds(&pve, "DELETE", &format!("{base}/1"), "").await;
        assert_eq!(column(&get(&pve, base).await, "dport"), ["3", "1"]);
        assert_eq!(
            reason(&pve, "GET", &format!("{base}/2"), "").await,
            "no rule at position 2"
        );
    }
}

#[tokio::test]
async fn firewall_names() {
    let pve = pve().await;
    let base = "/cluster/firewall";
    succeeds(
        &pve,
        "POST",
        &format!("{base}/aliases"),
        "name=lan&cidr=192.0.2.0/24&comment=here",
    )
    .await;
    let alias = get(&pve, &format!("{base}/aliases/lan")).await;
    assert_eq!(
        (&alias["cidr"], &alias["ipversion"]),
        (&json!("192.0.2.0/24"), &json!(4))
    );
    succeeds(
        &pve,
        "PUT",
        &format!("{base}/aliases/lan"),
        "cidr=192.0.2.0/25&rename=net",
    )
    .await;
    assert_eq!(
        column(&get(&pve, &format!("{base}/aliases")).await, "name"),
        ["net"]
    );
    let gone = ask(&pve, "GET", &format!("{base}/aliases/lan"), "").await;
    assert_eq!(
        (gone.status, &gone.json()["errors"]["name"]),
        (400, &json!("no such alias"))
    );

    succeeds(&pve, "POST", &format!("{base}/ipset"), "name=bad").await;
    succeeds(
        &pve,
        "POST",
        &format!("{base}/ipset/bad"),
        "cidr=198.51.100.0/24&nomatch=1",
    )
    .await;
    succeeds(
        &pve,
        "POST",
        &format!("{base}/ipset/bad"),
        "cidr=203.0.113.7",
    )
    .await;
    let entries = get(&pve, &format!("{base}/ipset/bad")).await;
    // The newest entry is first.
    assert_eq!(column(&entries, "cidr"), ["203.0.113.7", "198.51.100.0/24"]);
    assert_eq!(entries[1]["nomatch"], 1);
    assert_eq!(
        reason(&pve, "DELETE", &format!("{base}/ipset/bad"), "").await,
        "IPSet 'bad' is not empty"
    );
    succeeds(
        &pve,
        "DELETE",
        &format!("{base}/ipset/bad/198.51.100.0/24"),
        "",
    )
    .await;
    succeeds(
        &pve,
        "POST",
        &format!("{base}/ipset"),
        "name=worse&rename=bad",
    )
    .await;
    assert_eq!(
        column(&get(&pve, &format!("{base}/ipset/worse")).await, "cidr"),
        ["203.0.113.7"]
    );
    assert_eq!(
        column(
            &get(&pve, "/nodes/pve1/qemu/100/firewall/refs").await,
            "ref"
        ),
        ["+worse", "net"]
    );
    succeeds(&pve, "DELETE", &format!("{base}/ipset/worse"), "force=1").await;
    assert_eq!(get(&pve, &format!("{base}/ipset")).await, json!([]));

    succeeds(&pve, "POST", &format!("{base}/groups"), "group=web").await;
    succeeds(
        &pve,
        "POST",
        &format!("{base}/groups/web"),
        "type=in&action=ACCEPT&dport=443&proto=tcp",
    )
    .await;
    assert_eq!(
        column(&get(&pve, &format!("{base}/groups/web")).await, "dport"),
        ["443"]
    );
    assert!(
        reason(&pve, "DELETE", &format!("{base}/groups/web"), "")
            .await
            .contains("not empty")
    );
    succeeds(&pve, "DELETE", &format!("{base}/groups/web/0"), "").await;
    succeeds(&pve, "DELETE", &format!("{base}/groups/web"), "").await;
    assert_eq!(
        reason(&pve, "GET", &format!("{base}/groups/web"), "").await,
        "no such security group 'web'"
    );

    let options = "/nodes/pve1/qemu/100/firewall/options";
    succeeds(&pve, "PUT", options, "enable=1&policy_in=DROP").await;
    succeeds(&pve, "PUT", options, "delete=policy_in&dhcp=1").await;
    let stored = get(&pve, options).await;
    assert_eq!((&stored["enable"], &stored["dhcp"]), (&json!(1), &json!(1)));
    assert!(stored["policy_in"].is_null());
    assert_eq!(
        get(&pve, "/cluster/firewall/options").await,
        json!({ "digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709" })
    );
}

#[tokio::test]
async fn ha_brings_guests_to_the_requested_state() {
    let pve = pve().await;
    succeeds(
        &pve,
        "POST",
        "/cluster/ha/resources",
        "sid=100&max_restart=3",
    )
    .await;
    pve.clock().advance(Duration::from_secs(60));
    let status = get(&pve, "/nodes/pve1/qemu/100/status/current").await;
    assert_eq!(status["status"], "running");
    assert_eq!(status["ha"], json!({ "managed": 1, "state": "started" }));
    let services = get(&pve, "/cluster/ha/status/current").await;
    let service = services
        .as_array()
        .expect("rows")
        .last()
        .expect("a row")
        .clone();
    assert_eq!(
        (&service["sid"], &service["state"], &service["max_restart"]),
        (&json!("vm:100"), &json!("started"), &json!(3))
    );
    let stop = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/stop", "").await;
    assert!(
        stop.data()
            .as_str()
            .expect("a UPID")
            .contains(":hastop:100:")
    );
    assert_eq!(finish(&pve, &stop).await, "OK");
    pve.clock().advance(Duration::from_secs(60));
    // One task passes the request on, another carries it out.
    let tasks = get(&pve, "/cluster/tasks").await;
    let types = column(&tasks, "type");
    assert!(types.contains(&json!("hastop")), "{types:?}");
    assert!(types.contains(&json!("qmshutdown")), "{types:?}");
    let resources = query(&pve, "/cluster/resources", "type=vm").await;
    assert_eq!(
        (&resources[0]["hastate"], &resources[0]["status"]),
        (&json!("stopped"), &json!("stopped"))
    );

    let moved = ask(
        &pve,
        "POST",
        "/cluster/ha/resources/vm:100/migrate",
        "node=pve2",
    )
    .await;
    assert_eq!(
        moved.data(),
        json!({ "sid": "vm:100", "requested-node": "pve2" })
    );
    pve.clock().advance(Duration::from_secs(60));
    assert_eq!(
        get(&pve, "/nodes/pve2/qemu/100/status/current").await["vmid"],
        100
    );

    succeeds(
        &pve,
        "POST",
        "/cluster/ha/rules",
        "rule=r1&type=node-affinity&resources=vm:100&nodes=pve2",
    )
    .await;
    assert_eq!(
        column(&get(&pve, "/cluster/ha/rules").await, "rule"),
        ["r1"]
    );
    assert!(
        reason(
            &pve,
            "POST",
            "/cluster/ha/rules",
            "rule=r2&type=node-affinity&resources=vm:999&nodes=pve2"
        )
        .await
        .contains("vm:999")
    );
    assert_eq!(
        reason(&pve, "GET", "/cluster/ha/groups", "").await,
        "cannot index groups: ha groups have been migrated to rules"
    );
    // `purge` removes the guest from HA.
    let gone = ask(&pve, "DELETE", "/nodes/pve2/qemu/100", "purge=1").await;
    assert_eq!(finish(&pve, &gone).await, "OK");
    assert_eq!(get(&pve, "/cluster/ha/resources").await, json!([]));
}

#[tokio::test]
async fn networks_are_planned_and_then_applied() {
    let pve = pve().await;
    succeeds(
        &pve,
        "POST",
        "/cluster/sdn/zones",
        "zone=z1&type=simple&mtu=1400",
    )
    .await;
    succeeds(&pve, "POST", "/cluster/sdn/vnets", "vnet=v1&zone=z1").await;
    assert_eq!(
        reason(&pve, "POST", "/cluster/sdn/vnets", "vnet=v2&zone=zz").await,
        "create sdn vnet object failed: cannot lookup undefined type!"
    );
    succeeds(
        &pve,
        "POST",
        "/cluster/sdn/vnets/v1/subnets",
        "subnet=192.0.2.0/24&type=subnet&gateway=192.0.2.1",
    )
    .await;
    let zones = "/cluster/sdn/zones";
    assert_eq!(query(&pve, zones, "running=1").await, json!([]));
    assert_eq!(query(&pve, zones, "pending=1").await[0]["state"], "new");
    assert_eq!(get(&pve, zones).await[0]["mtu"], 1400);
    let subnet = get(&pve, "/cluster/sdn/vnets/v1/subnets/z1-192.0.2.0-24").await;
    assert_eq!(
        (&subnet["cidr"], &subnet["zone"]),
        (&json!("192.0.2.0/24"), &json!("z1"))
    );

    let apply = ask(&pve, "PUT", "/cluster/sdn", "").await;
    assert_eq!(finish(&pve, &apply).await, "OK");
    assert_eq!(
        column(&query(&pve, zones, "running=1").await, "zone"),
        ["z1"]
    );
    assert!(query(&pve, zones, "pending=1").await[0]["state"].is_null());
    let networks = column(
        &query(&pve, "/cluster/resources", "type=sdn").await,
        "network",
    );
    assert!(networks.contains(&json!("z1")), "{networks:?}");

    succeeds(&pve, "PUT", &format!("{zones}/z1"), "mtu=1300").await;
    let changed = query(&pve, "/cluster/sdn/zones/z1", "pending=1").await;
    assert_eq!(
        (
            &changed["state"],
            &changed["mtu"],
            &changed["pending"]["mtu"]
        ),
        (&json!("changed"), &json!(1400), &json!(1300))
    );
    assert_eq!(
        reason(&pve, "DELETE", &format!("{zones}/z1"), "").await,
        "delete sdn zone object failed: zone z1 is used by vnet v1"
    );
    succeeds(&pve, "POST", "/cluster/sdn/rollback", "").await;
    assert_eq!(get(&pve, &format!("{zones}/z1")).await["mtu"], 1400);
    assert_eq!(
        reason(&pve, "DELETE", "/cluster/sdn/vnets/v1", "").await,
        "delete sdn vnet object failed: 400 Parameter verification failed."
    );
    succeeds(
        &pve,
        "DELETE",
        "/cluster/sdn/vnets/v1/subnets/z1-192.0.2.0-24",
        "",
    )
    .await;
    succeeds(&pve, "DELETE", "/cluster/sdn/vnets/v1", "").await;
    assert_eq!(
        query(&pve, "/cluster/sdn/vnets", "pending=1").await[0]["state"],
        "deleted"
    );
    succeeds(&pve, "DELETE", &format!("{zones}/z1"), "").await;
    assert_eq!(
        reason(&pve, "DELETE", &format!("{zones}/z1"), "").await,
        "delete sdn zone object failed: sdn 'z1' does not exist"
    );
}

#[tokio::test]
async fn jobs_name_guests() {
    let pve = pve().await;
    let jobs = "/cluster/backup";
    let bare = "/cluster/backup-info/not-backed-up";
    assert_eq!(column(&get(&pve, bare).await, "vmid"), [100, 101]);
    succeeds(
        &pve,
        "POST",
        jobs,
        "vmid=100&schedule=02:00&storage=local&prune-backups=keep-last%3D3",
    )
    .await;
    assert_eq!(column(&get(&pve, bare).await, "vmid"), [101]);
    let job = get(&pve, jobs).await[0].clone();
    assert_eq!((&job["enabled"], &job["vmid"]), (&json!(1), &json!("100")));
    // Property strings returned as objects contain strings.
    assert_eq!(job["prune-backups"], json!({ "keep-last": "3" }));
    assert!(job["next-run"].is_u64(), "{job}");
    let one = format!("{jobs}/{}", job["id"].as_str().expect("an id"));
    succeeds(&pve, "PUT", &one, "all=1&exclude=100&delete=vmid").await;
    assert_eq!(column(&get(&pve, bare).await, "vmid"), [100]);
    succeeds(&pve, "DELETE", &one, "").await;
    assert_eq!(get(&pve, jobs).await, json!([]));

    succeeds(
        &pve,
        "POST",
        "/cluster/replication",
        "id=100-0&target=pve2&type=local&schedule=*/30",
    )
    .await;
    assert!(
        reason(
            &pve,
            "POST",
            "/cluster/replication",
            "id=999-0&target=pve2&type=local"
        )
        .await
        .contains("999")
    );
    let all = get(&pve, "/cluster/replication").await;
    assert_eq!(
        (&all[0]["guest"], &all[0]["jobnum"], &all[0]["source"]),
        (&json!(100), &json!(0), &json!("pve1"))
    );
    assert_eq!(
        column(&get(&pve, "/nodes/pve1/replication").await, "id"),
        ["100-0"]
    );
    assert_eq!(get(&pve, "/nodes/pve2/replication").await, json!([]));
    succeeds(&pve, "DELETE", "/cluster/replication/100-0", "").await;
    assert_eq!(get(&pve, "/cluster/replication").await, json!([]));
}

#[tokio::test]
async fn options_and_other_settings_are_stored() {
    let pve = pve().await;
    let bare = json!({ "allowed-tags": [], "description": "", "mac_prefix": "BC:24:11" });
    assert_eq!(get(&pve, "/cluster/options").await, bare);
    succeeds(
        &pve,
        "PUT",
        "/cluster/options",
        "keyboard=de&max_workers=4&migration=type%3Dinsecure",
    )
    .await;
    succeeds(&pve, "PUT", "/cluster/options", "delete=keyboard").await;
    let options = get(&pve, "/cluster/options").await;
    assert_eq!(
        options,
        json!({
            "allowed-tags": [], "description": "", "mac_prefix": "BC:24:11", "max_workers": 4,
            "migration": { "type": "insecure" },
        })
    );
    // Registered tags and user tags are returned as lists.
    succeeds(
        &pve,
        "PUT",
        "/cluster/options",
        "registered-tags=b%3Ba&user-tag-access=user-allow%3Dlist,user-allow-list%3Dd%3Bc&description=x",
    )
    .await;
    let options = get(&pve, "/cluster/options").await;
    assert_eq!(options["registered-tags"], json!(["b", "a"]));
    assert_eq!(
        options["user-tag-access"]["user-allow-list"],
        json!(["d", "c"])
    );
    assert_eq!(options["allowed-tags"], json!(["a", "b", "c", "d"]));
    assert_eq!(options["description"], "x\n");

    let networks = "/nodes/pve1/network";
    assert_eq!(
        column(&get(&pve, networks).await, "iface"),
        [
            "eno1", "eth0", "eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7", "vmbr0"
        ]
    );
    succeeds(
        &pve,
        "POST",
        networks,
        "iface=vmbr1&type=bridge&autostart=1",
    )
    .await;
    assert_eq!(
        get(&pve, &format!("{networks}/vmbr1")).await["autostart"],
        1
    );
    assert_eq!(
        get(&pve, "/nodes/pve2/network")
            .await
            .as_array()
            .map(Vec::len),
        Some(10)
    );
    let again = ask(&pve, "POST", networks, "iface=vmbr1&type=bridge").await;
    assert_eq!(again.json()["errors"]["iface"], "interface already exists");
    // A change waits for the reload, and can be reverted.
    let listed = ask(&pve, "GET", networks, "").await.json();
    let changes = listed["changes"].as_str().expect("a comparison");
    assert!(changes.contains("+iface vmbr1 inet manual"), "{changes}");
    let active = |rows: &Value| -> Value {
        let mut rows = rows.as_array().expect("a list").iter();
        let row = rows.find(|row| row["iface"] == "vmbr1").expect("vmbr1");
        row["active"].clone()
    };
    assert_eq!(active(&listed["data"]), Value::Null);
    succeeds(&pve, "DELETE", networks, "").await;
    let gone = ask(&pve, "GET", &format!("{networks}/vmbr1"), "").await;
    assert_eq!(gone.json()["errors"]["iface"], "interface does not exist");
    succeeds(&pve, "POST", networks, "iface=vmbr1&type=bridge").await;
    let reloaded = ask(&pve, "PUT", networks, "").await;
    assert_eq!(finish(&pve, &reloaded).await, "OK");
    let listed = ask(&pve, "GET", networks, "").await.json();
    assert!(listed.get("changes").is_none(), "{listed}");
    assert_eq!(active(&listed["data"]), 1);
    let bridges = query(&pve, networks, "type=any_bridge").await;
    assert_eq!(column(&bridges, "iface"), ["vmbr0", "vmbr1"]);

    // The simulator sends no metrics; it stores the server's settings, without the secret.
    let servers = "/cluster/metrics/server";
    succeeds(
        &pve,
        "POST",
        &format!("{servers}/m1"),
        "type=influxdb&server=192.0.2.9&port=8086&token=hush",
    )
    .await;
    let stored = get(&pve, servers).await;
    assert_eq!(
        (&stored[0]["id"], &stored[0]["port"]),
        (&json!("m1"), &json!(8086))
    );
    assert!(!stored.to_string().contains("hush"), "{stored}");
    succeeds(
        &pve,
        "PUT",
        &format!("{servers}/m1"),
        "server=192.0.2.10&port=8087",
    )
    .await;
    assert_eq!(get(&pve, servers).await[0]["server"], "192.0.2.10");
    succeeds(&pve, "PUT", "/nodes/pve1/config", "description=rack%20four").await;
    assert_eq!(
        get(&pve, "/nodes/pve1/config").await["description"],
        "rack four"
    );
}

/// The parameter's check accepts any separator; the code that writes the interfaces splits at white
/// space only.
#[tokio::test]
async fn ports_of_an_interface_are_separated_by_white_space() {
    let pve = pve().await;
    let networks = "/nodes/pve1/network";
    for (form, refusal) in [
        (
            "iface=bond0&type=bond&slaves=eth0%2Ceth1",
            "bond 'bond0' - wrong interface type on slave 'eth0,eth1' ('' != 'eth or bond')",
        ),
        (
            "iface=vmbr7&type=bridge&bridge_ports=eth0%3Beth1",
            "bridge 'vmbr7' - unable to find bridge port 'eth0;eth1'",
        ),
        (
            "iface=vmbr9&type=OVSBridge&ovs_ports=eth3%2Ceth4",
            "OVS bridge 'vmbr9' - unable to find port 'eth3,eth4'",
        ),
        (
            "iface=bond9&type=OVSBond&ovs_bridge=vmbr9&ovs_bonds=eth5%2Ceth6",
            "OVS bond 'bond9' - wrong interface type on slave 'eth5,eth6' ('' != 'eth')",
        ),
        (
            "iface=bond0&type=bond&slaves=eth0+vmbr0",
            "bond 'bond0' - wrong interface type on slave 'vmbr0' ('bridge' != 'eth or bond')",
        ),
        (
            "iface=bond0&type=bond&slaves=eth0+eth1&bond-primary=eth2",
            "bond 'bond0' - bond-primary interface is not a slave",
        ),
    ] {
        assert_eq!(reason(&pve, "POST", networks, form).await, refusal);
    }
    for form in [
        "iface=bond0&type=bond&slaves=eth0+eth1",
        "iface=vmbr7&type=bridge&bridge_ports=bond0+eth2.5",
        "iface=vmbr9&type=OVSBridge&ovs_ports=eth3%09eth4",
        "iface=bond9&type=OVSBond&ovs_bridge=vmbr9&ovs_bonds=eth5+eth6",
    ] {
        succeeds(&pve, "POST", networks, form).await;
    }
    let bond = format!("{networks}/bond0");
    assert_eq!(get(&pve, &bond).await["slaves"], "eth0 eth1");
    let taken = ask(
        &pve,
        "POST",
        networks,
        "iface=bond1&type=bond&slaves=eth7%2Ceth1",
    )
    .await;
    assert_eq!(taken.status, 400);
    assert_eq!(
        taken.json()["errors"]["slaves"],
        "eth1 is already used on interface 'bond0'."
    );
    assert_eq!(
        reason(&pve, "PUT", &bond, "type=bond&slaves=eth0%2Ceth1").await,
        "bond 'bond0' - wrong interface type on slave 'eth0,eth1' ('' != 'eth or bond')"
    );
    assert_eq!(get(&pve, &bond).await["slaves"], "eth0 eth1");
    // The server rewrites this list with other separators.
    let bridge = format!("{networks}/vmbr7");
    succeeds(
        &pve,
        "PUT",
        &bridge,
        "type=bridge&bridge_ports=bond0&bridge_vids=2%2C4-6",
    )
    .await;
    assert_eq!(get(&pve, &bridge).await["bridge_vids"], "2 4-6");
}

#[tokio::test]
async fn cloud_init_and_containers_split_name_servers_differently() {
    let pve = pve().await;
    let dump = "/nodes/pve1/qemu/100/cloudinit/dump";
    for (servers, dumped) in [
        (
            "192.0.2.1%2C192.0.2.2",
            "    - type: nameserver\n      address:\n      - '192.0.2.1,192.0.2.2'\n      search:\n      - 'example.org'\n",
        ),
        (
            "192.0.2.1+192.0.2.2&searchdomain=a.example+b.example",
            "    - type: nameserver\n      address:\n      - '192.0.2.1'\n      - '192.0.2.2'\n      \
             search:\n      - 'a.example'\n      - 'b.example'\n",
        ),
    ] {
        let form = format!(
            "nameserver={servers}&net0=virtio=BC:24:11:00:00:01&ipconfig0=ip%3D192.0.2.9/24"
        );
        let form = form.replace("net0=virtio=", "net0=virtio%3D");
        succeeds(&pve, "PUT", "/nodes/pve1/qemu/100/config", &form).await;
        let text = query(&pve, dump, "type=network").await;
        let text = text.as_str().expect("a text");
        assert!(text.ends_with(dumped), "{text}");
        assert!(text.contains("mac_address: 'bc:24:11:00:00:01'"), "{text}");
        assert!(text.contains("netmask: '255.255.255.0'"), "{text}");
    }
    let container = "/nodes/pve1/lxc/101/config";
    succeeds(&pve, "PUT", container, "nameserver=192.0.2.1%2C192.0.2.2").await;
    assert_eq!(
        get(&pve, container).await["nameserver"],
        "192.0.2.1 192.0.2.2"
    );
}

/// Handlers return sections of files unchanged: with a type, without an id; lists add the id.
#[tokio::test]
async fn entries_have_the_members_that_the_handlers_return() {
    let pve = pve().await;
    for (list, form, id, listed, alone) in [
        (
            "/cluster/mapping/dir",
            "id=d1&map=node%3Dpve1,path%3D/srv",
            "d1",
            "digest id map type",
            "digest map type",
        ),
        (
            "/cluster/mapping/usb",
            "id=u1&map=node%3Dpve1,id%3Dabcd:ef01",
            "u1",
            "digest id map type",
            "digest map type",
        ),
        (
            "/cluster/metrics/server/m1",
            "type=graphite&server=192.0.2.9&port=2003&path=a.b",
            "m1",
            "disable id port server type",
            "path port server type",
        ),
        (
            "/cluster/acme/plugins",
            "id=p1&type=dns&api=cf",
            "p1",
            "api digest plugin type",
            "api digest plugin type",
        ),
        (
            "/cluster/jobs/realm-sync/j1",
            "realm=ld&schedule=daily&enabled=1&scope=users",
            "j1",
            "enabled id last-run next-run realm schedule scope type",
            "enabled realm schedule scope type",
        ),
    ] {
        if list.contains("realm-sync") {
            let realm = "realm=ld&type=ldap&server1=192.0.2.3&base_dn=dc%3Da&user_attr=uid\
                         &sync-defaults-options=scope%3Dusers,remove-vanished%3Dacl";
            succeeds(&pve, "POST", "/access/domains", realm).await;
            let realm = get(&pve, "/access/domains/ld").await;
            assert_eq!(
                realm["sync-defaults-options"],
                "remove-vanished=acl,scope=users"
            );
        }
        succeeds(&pve, "POST", list, form).await;
        let names = |row: &Value| -> String {
            let row = row.as_object().expect("an object");
            row.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        let list = list.trim_end_matches(&format!("/{id}")).to_owned();
        let rows = get(&pve, &list).await;
        assert_eq!(names(&rows[0]), listed, "{list}");
        assert_eq!(
            names(&get(&pve, &format!("{list}/{id}")).await),
            alone,
            "{list}"
        );
    }
    let checked = query(&pve, "/cluster/mapping/dir", "check-node=pve1").await;
    assert_eq!(checked[0]["checks"], json!([]));
    let checked = query(&pve, "/cluster/mapping/usb", "check-node=pve2").await;
    assert_eq!(checked[0]["errors"][0]["severity"], "warning");
}

#[tokio::test]
async fn targets_and_matchers_refer_to_each_other_by_name() {
    let pve = pve().await;
    let (mails, gotify) = (
        "/cluster/notifications/endpoints/sendmail",
        "/cluster/notifications/endpoints/gotify",
    );
    let matchers = "/cluster/notifications/matchers";
    succeeds(&pve, "POST", mails, "name=m1&mailto=a%40example.org").await;
    succeeds(&pve, "POST", matchers, "name=k1&target=m1&mode=any").await;
    for (method, path, form, status, text) in [
        (
            "POST",
            gotify,
            "name=m1&server=x&token=t",
            400,
            "Cannot create 'm1', an entity with the same name",
        ),
        (
            "POST",
            matchers,
            "name=m1",
            400,
            "Cannot create 'm1', an entity with the same name",
        ),
        (
            "POST",
            mails,
            "name=m2",
            400,
            "must at least provide one recipient",
        ),
        (
            "POST",
            matchers,
            "name=k2&target=nothing",
            404,
            "endpoint 'nothing' does not exist",
        ),
        (
            "DELETE",
            "/cluster/notifications/endpoints/sendmail/m1",
            "",
            400,
            "cannot delete 'm1', referenced by: k1",
        ),
        (
            "DELETE",
            "/cluster/notifications/endpoints/sendmail/m9",
            "",
            404,
            "endpoint 'm9' not found",
        ),
        (
            "DELETE",
            "/cluster/notifications/matchers/k9",
            "",
            404,
            "matcher 'k9' not found",
        ),
        (
            "PUT",
            "/cluster/notifications/matchers/k1",
            "mode=all&digest=00",
            400,
            "detected modified configuration",
        ),
        (
            "PUT",
            "/cluster/notifications/endpoints/sendmail/m1",
            "delete=mailto",
            400,
            "must at least provide one",
        ),
    ] {
        let answer = ask(&pve, method, path, form).await;
        assert_eq!(answer.status, status, "{method} {path}?{form}");
        let message = answer.json()["message"].to_string();
        assert!(message.contains(text), "{method} {path}?{form}: {message}");
    }
    // Built-in entries cannot be removed, only reset.
    let builtin = "/cluster/notifications/matchers/default-matcher";
    succeeds(&pve, "PUT", builtin, "mode=any").await;
    assert_eq!(get(&pve, builtin).await["origin"], "modified-builtin");
    succeeds(&pve, "DELETE", builtin, "").await;
    let row = get(&pve, builtin).await;
    assert_eq!(
        (&row["origin"], &row["mode"]),
        (&json!("builtin"), &json!("all"))
    );
    succeeds(&pve, "DELETE", "/cluster/notifications/matchers/k1", "").await;
    succeeds(
        &pve,
        "DELETE",
        "/cluster/notifications/endpoints/sendmail/m1",
        "",
    )
    .await;
}
