//! Members that servers send and no dump has: each is declared, so that nothing is left in `extra`.

use proxmox_e2e::ANSWERS;
use proxmox_e2e::show::EXTRA;
use serde_json::{Value, json};

fn extras(decoded: &Value, place: &str, found: &mut Vec<String>) {
    match decoded {
        Value::Object(object) => {
            for (name, value) in object {
                match name.as_str() {
                    EXTRA => found.extend(
                        value
                            .as_object()
                            .into_iter()
                            .flatten()
                            .map(|(key, _)| format!("{place}.{key}")),
                    ),
                    _ => extras(value, &format!("{place}.{name}"), found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                extras(item, &format!("{place}[]"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn members_that_no_dump_has_are_declared() {
    let vdev = |name: &str, children: Value| {
        let mut vdev = json!({
            "name": name, "state": "ONLINE", "read": 0, "write": 0, "cksum": 0, "msg": "",
            "leaf": i32::from(children.is_null()),
        });
        if !children.is_null() {
            vdev["children"] = children;
        }
        vdev
    };
    let disks = json!([
        vdev("/dev/disk/by-id/ata-first", Value::Null),
        vdev(
            "replacing-1",
            json!([vdev("/dev/disk/by-id/ata-old", Value::Null)])
        ),
    ]);
    let pool = vdev("silo", json!([vdev("mirror-0", disks)]));
    let addresses = json!({
        "addrvec": [{ "type": "v2", "addr": "192.0.2.7:3300", "nonce": 0 }],
    });
    let controller = json!({
        "controller": "edge", "type": "bgp", "bgp-multipath-as-path-relax": 1, "fabric": "spine",
        "route-map-in": "in", "route-map-out": "out",
    });
    let zone = json!({ "zone": "blue", "type": "vxlan", "fabric": "spine", "dp-id": 3 });
    let pending = |of: &Value| {
        let mut all = of.clone();
        let mut pending = of.clone();
        if let Some(pending) = pending.as_object_mut() {
            pending.retain(|name, _| !["controller", "zone", "type"].contains(&name.as_str()));
        }
        all["pending"] = pending;
        all["state"] = json!("changed");
        all
    };
    let disk = json!({
        "volid": "shelf:101/vm-101-disk-0.qcow2", "cdrom": 0, "is_unused": 0, "is_attached": 1,
        "is_cloudinit": 0, "is_tpmstate": 0, "is_vmstate": 0, "replicate": 1, "shared": 0,
        "drivename": "scsi0", "size": 4_194_304, "referenced_in_snapshot": { "before": 1 },
        "referenced_in_pending": 1,
    });
    let job = json!({
        "id": "job-1", "type": "vzdump", "notification-policy": "failure", "notification-target": "mail",
    });
    let ceph = json!({
        "monmap": {
            "features": { "persistent": ["kraken"], "optional": [] }, "stretch_mode": false,
            "tiebreaker_mon": "", "removed_ranks": "", "disallowed_leaders: ": "",
            "mons": [{ "name": "a", "public_addrs": addresses }],
        },
        "mgrmap": {
            "active_addrs": addresses, "flags": 0, "active_mgr_features": 4_540_138_322_906_710_015_i64,
            "active_clients": [{ "name": "devicehealth", "addrvec": addresses["addrvec"] }],
            "available_modules": [{ "name": "alerts", "can_run": true, "error_string": "" }],
            "always_on_modules": { "squid": ["balancer"] },
        },
    });
    let container = json!({
        "vmid": 102, "status": "running", "type": "lxc", "pressurecpusome": "0.00",
        "pressurecpufull": "0.10",
    });
    let cases = [
        (
            "/access/domains/{realm}",
            json!({ "type": "pam", "plugin": "PVE::Auth::PAM" }),
        ),
        (
            "/access/domains",
            json!([{ "realm": "sso", "type": "ldap", "tfa": "oath", "comment": "x", "default": 1 }]),
        ),
        (
            "/storage/{storage}",
            json!({
                "storage": "shelf", "type": "dir", "path": "/srv", "content": "iso,backup", "digest": "00",
                "content-dirs": { "iso": "a/b", "backup": "c" },
            }),
        ),
        ("/cluster/backup", json!([job])),
        ("/cluster/backup/{id}", job),
        (
            "/cluster/backup/{id}/included_volumes",
            json!({ "children": [
                { "id": 101, "name": "web", "type": "qemu", "leaf": 0, "children": [
                    { "id": "101:scsi0", "name": "shelf:101/a.raw", "included": 1, "leaf": 1, "reason": "backup=yes" },
                ] },
                { "id": 109, "type": "unknown", "leaf": 1 },
            ] }),
        ),
        ("/cluster/ceph/status", ceph.clone()),
        ("/nodes/{node}/ceph/status", ceph),
        (
            "/cluster/config/join",
            json!({
                "config_digest": "00", "preferred_node": "hen", "totem": {},
                "nodelist": [{ "name": "hen", "nodeid": "1", "quorum_votes": "1", "pve_fp": "AA", "pve_addr": "192.0.2.1",
                    "ring0_addr": "192.0.2.1", "ring1_addr": "2001:db8::1", "ring7_addr": "198.51.100.1" }],
            }),
        ),
        (
            "/cluster/log",
            json!([{ "id": "7:hen", "uid": 7, "msg": "x", "node": "hen", "pid": 1, "pri": 6, "tag": "t", "time": 1, "user": "u" }]),
        ),
        (
            "/cluster/sdn/controllers",
            json!([controller, pending(&controller)]),
        ),
        (
            "/cluster/sdn/controllers/{controller}",
            pending(&controller),
        ),
        ("/cluster/sdn/zones", json!([zone, pending(&zone)])),
        ("/cluster/sdn/zones/{zone}", pending(&zone)),
        (
            "/nodes/{node}/disks/zfs/{name}",
            json!({ "name": "silo", "state": "ONLINE", "leaf": 0, "children": [pool] }),
        ),
        ("/nodes/{node}/lxc", json!([container])),
        ("/nodes/{node}/lxc/{vmid}/status/current", {
            let mut container = container;
            container["ha"] = json!({ "managed": 0 });
            container
        }),
        (
            "/nodes/{node}/lxc/{vmid}/config",
            json!({ "digest": "00", "snaptime": 1, "parent": "older", "snapstate": "prepare" }),
        ),
        (
            "/nodes/{node}/qemu/{vmid}/config",
            json!({ "digest": "00", "snaptime": 1, "snapstate": "delete" }),
        ),
        (
            "/nodes/{node}/network",
            json!([{ "iface": "blue1", "type": "vnet", "active": "1", "ipam": 0, "vlanaware": 1, "comments": "x" }]),
        ),
        (
            "/nodes/{node}/qemu/{vmid}/migrate",
            json!({ "running": 0, "local_disks": [disk], "local_resources": [] }),
        ),
        (
            "/nodes/{node}/storage",
            json!([{ "storage": "shelf", "type": "dir", "content": "images", "format": [{ "raw": 1, "qcow2": 1 }, "raw"] }]),
        ),
    ];
    for (path, data) in cases {
        let answer = ANSWERS
            .iter()
            .find(|answer| answer.method == "GET" && answer.path == path)
            .unwrap_or_else(|| panic!("{path} is an endpoint"));
        let body = json!({ "data": data }).to_string();
        let decoded = (answer.decode)(body.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut found = Vec::new();
        extras(&decoded.expect("there is a value"), path, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
