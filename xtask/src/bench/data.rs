//! Made-up documents of the size of a busy cluster's answers.

use serde_json::{Map, Value, json};

/// The answers that are decoded.
pub(super) const KINDS: [&str; 3] = ["resources", "guests", "config"];

/// The title of each.
pub(super) fn title(kind: &str) -> &'static str {
    match kind {
        "resources" => "10,000 guests of a cluster",
        "guests" => "1,000 virtual machines of a node",
        _ => "one full VM configuration",
    }
}

/// The body of an answer.
pub(super) fn body(kind: &str) -> String {
    let data = match kind {
        "resources" => (0..10_000).map(resource).collect(),
        "guests" => (0..1_000).map(guest).collect(),
        _ => config(),
    };
    json!({ "data": data }).to_string()
}

/// A cluster's resources: its nodes and this many guests. `later` changes the state of every
/// hundredth guest.
pub(super) fn cluster(guests: u64, later: bool) -> String {
    let nodes = (0..32).map(|index| {
        let node = format!("node{index:02}");
        json!({
            "id": format!("node/{node}"),
            "type": "node",
            "node": node,
            "status": "online",
            "maxcpu": 64,
            "cpu": 0.25,
            "maxmem": 549_755_813_888_u64,
            "mem": 274_877_906_944_u64,
        })
    });
    let guests = (0..guests).map(|index| {
        let mut guest = resource(index);
        if later && index.is_multiple_of(100) {
            guest["status"] = json!("running");
        }
        guest
    });
    let data: Vec<Value> = nodes.chain(guests).collect();
    json!({ "data": data }).to_string()
}

fn resource(index: u64) -> Value {
    let vmid = 100 + index;
    let kind = if index.is_multiple_of(3) {
        "lxc"
    } else {
        "qemu"
    };
    let running = !index.is_multiple_of(4);
    let busy = |value: u64| if running { value } else { 0 };
    json!({
        "id": format!("{kind}/{vmid}"),
        "type": kind,
        "vmid": vmid,
        "node": format!("node{:02}", index % 32),
        "name": format!("guest-{index:05}.example.org"),
        "status": if running { "running" } else { "stopped" },
        "template": 0,
        "uptime": busy(1_000 + index * 37),
        "cpu": if running { 0.001_953_125 * (1 + index % 300) as f64 } else { 0.0 },
        "maxcpu": 1 + index % 16,
        "mem": busy(268_435_456 + index * 4_099),
        "maxmem": 4_294_967_296_u64 + (index % 8) * 1_073_741_824,
        "disk": 0,
        "maxdisk": 34_359_738_368_u64,
        "diskread": busy(index * 1_234_567),
        "diskwrite": busy(index * 7_654_321),
        "netin": busy(index * 98_765),
        "netout": busy(index * 56_789),
        "tags": "production;web",
    })
}

fn guest(index: u64) -> Value {
    let running = !index.is_multiple_of(4);
    let busy = |value: u64| if running { value } else { 0 };
    let mut guest = json!({
        "vmid": 100 + index,
        "name": format!("guest-{index:05}.example.org"),
        "status": if running { "running" } else { "stopped" },
        "cpu": if running { 0.003_906_25 * (1 + index % 200) as f64 } else { 0.0 },
        "cpus": 1 + index % 16,
        "mem": busy(268_435_456 + index * 4_099),
        "maxmem": 4_294_967_296_u64,
        "disk": 0,
        "maxdisk": 34_359_738_368_u64,
        "diskread": busy(index * 1_234_567),
        "diskwrite": busy(index * 7_654_321),
        "netin": busy(index * 98_765),
        "netout": busy(index * 56_789),
        "uptime": busy(1_000 + index * 37),
        "tags": "production;web",
    });
    if running {
        guest["pid"] = json!(2_000 + index);
    }
    guest
}

fn config() -> Value {
    let mut config = Map::new();
    let mut set = |key: String, value: Value| {
        config.insert(key, value);
    };
    for (key, value) in [
        ("agent", json!("1,fstrim_cloned_disks=1")),
        ("args", json!("-smbios type=11")),
        ("balloon", json!(2048)),
        ("bios", json!("ovmf")),
        ("boot", json!("order=scsi0;net0")),
        ("cicustom", json!("user=local:snippets/user.yaml")),
        ("ciuser", json!("admin")),
        ("cores", json!(8)),
        ("cpu", json!("host,flags=+aes")),
        ("cpulimit", json!(4)),
        ("cpuunits", json!(200)),
        (
            "description",
            json!("The web server of the shop.\nCall the night shift before a restart.\n"),
        ),
        ("digest", json!("0123456789abcdef0123456789abcdef01234567")),
        (
            "efidisk0",
            json!("tank:vm-100-disk-9,efitype=4m,pre-enrolled-keys=1,size=4M"),
        ),
        ("hotplug", json!("disk,network,usb")),
        ("kvm", json!(1)),
        ("machine", json!("q35")),
        ("memory", json!("16384")),
        ("name", json!("web.example.org")),
        ("nameserver", json!("192.0.2.53")),
        ("numa", json!(1)),
        ("onboot", json!(1)),
        ("ostype", json!("l26")),
        ("protection", json!(1)),
        ("scsihw", json!("virtio-scsi-single")),
        ("searchdomain", json!("example.org")),
        (
            "smbios1",
            json!("uuid=0f0e0d0c-0b0a-0908-0706-050403020100"),
        ),
        ("sockets", json!(2)),
        ("startup", json!("order=3,up=30,down=60")),
        ("tablet", json!(0)),
        ("tags", json!("production;web")),
        ("vga", json!("virtio,memory=64")),
        ("vmgenid", json!("00010203-0405-0607-0809-0a0b0c0d0e0f")),
    ] {
        set(key.to_owned(), value);
    }
    for index in 0..8 {
        set(
            format!("net{index}"),
            json!(format!(
                "virtio=02:00:00:00:00:{index:02X},bridge=vmbr{index},firewall=1,tag={},queues=4",
                100 + index
            )),
        );
        set(
            format!("ipconfig{index}"),
            json!(format!("ip=192.0.2.{}/24,gw=192.0.2.1", 10 + index)),
        );
    }
    for index in 0..16 {
        set(
            format!("scsi{index}"),
            json!(format!(
                "tank:vm-100-disk-{index},cache=writeback,discard=on,iothread=1,size={}G,ssd=1",
                32 + index
            )),
        );
    }
    for index in 0..4 {
        set(
            format!("hostpci{index}"),
            json!(format!("0000:0{index}:00.0,pcie=1,rombar=0")),
        );
        set(
            format!("usb{index}"),
            json!(format!("host=1-{index},usb3=1")),
        );
        set(
            format!("numa{index}"),
            json!(format!("cpus={}-{},memory=4096", index * 2, index * 2 + 1)),
        );
    }
    Value::Object(config)
}
