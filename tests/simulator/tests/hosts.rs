//! Disks, Ceph and certificates: created objects exist, and used ones are in use.

use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator};
use serde_json::{Value, json};

use crate::support::{Answer, ask_with, finish, login};

async fn pve() -> Simulator {
    Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .start()
        .await
        .expect("starts")
}

/// As root@pam itself, for calls that no token may make.
async fn ask(pve: &Simulator, method: &str, path: &str, form: &str) -> Answer {
    let headers = login(pve, "root@pam", ROOT_PASSWORD).await;
    ask_with(pve, method, path, &headers, form).await
}

async fn get(pve: &Simulator, path: &str, form: &str) -> Value {
    ask(pve, "GET", path, form).await.data()
}

/// Starts a task and waits for its success.
async fn run_task(pve: &Simulator, method: &str, path: &str, form: &str) {
    let answer = ask(pve, method, path, form).await;
    assert_eq!(finish(pve, &answer).await, "OK", "{method} {path} {form}");
}

async fn reason(pve: &Simulator, method: &str, path: &str, form: &str) -> String {
    let answer = ask(pve, method, path, form).await;
    assert_eq!(answer.status, 500, "{answer}");
    answer.reason
}

fn column(rows: &Value, key: &str) -> Vec<Value> {
    let rows = rows.as_array().expect("rows");
    rows.iter().map(|row| row[key].clone()).collect()
}

#[tokio::test]
async fn a_disk_has_one_use() {
    let pve = pve().await;
    let disks = "/nodes/pve1/disks";
    let unused = async || {
        column(
            &get(&pve, &format!("{disks}/list"), "type=unused").await,
            "devpath",
        )
    };
    assert_eq!(unused().await, ["/dev/sdb", "/dev/sdc", "/dev/nvme0n1"]);
    run_task(&pve, "POST", &format!("{disks}/initgpt"), "disk=/dev/sdb").await;
    let all = get(&pve, &format!("{disks}/list"), "").await;
    assert_eq!(column(&all, "gpt"), [1, 1, 0, 0]);

    let mirror = "name=tank&raidlevel=mirror&devices=/dev/sdb,/dev/sdc&add_storage=1";
    run_task(&pve, "POST", &format!("{disks}/zfs"), mirror).await;
    assert_eq!(unused().await, ["/dev/nvme0n1"]);
    let pools = get(&pve, &format!("{disks}/zfs"), "").await;
    assert_eq!(
        (pools[0]["name"].as_str(), pools[0]["size"].as_u64()),
        (Some("tank"), Some(1 << 40))
    );
    let pool = get(&pve, &format!("{disks}/zfs/tank"), "").await;
    assert_eq!(
        column(&pool["children"][0]["children"], "name"),
        ["/dev/sdb", "/dev/sdc"]
    );
    assert_eq!(get(&pve, "/storage/tank", "").await["pool"], "tank");
    let vm = "vmid=100&scsi0=tank:4";
    run_task(&pve, "POST", "/nodes/pve1/qemu", vm).await;
    let content = get(&pve, "/nodes/pve1/storage/tank/content", "").await;
    assert_eq!(column(&content, "vmid"), [100]);

    let again = "name=data&device=/dev/sdb";
    for kind in ["directory", "lvm", "lvmthin"] {
        let refused = reason(&pve, "POST", &format!("{disks}/{kind}"), again).await;
        assert_eq!(refused, "device '/dev/sdb' is already in use");
    }
    let cleanup = "cleanup-disks=1&cleanup-config=1";
    run_task(&pve, "DELETE", &format!("{disks}/zfs/tank"), cleanup).await;
    assert_eq!(unused().await.len(), 3);
    assert_eq!(ask(&pve, "GET", "/storage/tank", "").await.status, 500);

    for kind in ["directory", "lvm", "lvmthin"] {
        let path = format!("{disks}/{kind}");
        run_task(&pve, "POST", &path, &format!("{again}&add_storage=1")).await;
        let list = get(&pve, &path, "").await.to_string();
        assert!(list.contains("data"), "{kind}: {list}");
        get(&pve, "/storage/data", "").await;
        let group = "volume-group=data&";
        let group = if kind == "lvmthin" { group } else { "" };
        run_task(
            &pve,
            "DELETE",
            &format!("{path}/data"),
            &format!("{group}{cleanup}"),
        )
        .await;
        let list = get(&pve, &path, "").await.to_string();
        assert!(!list.contains("data"), "{kind}: {list}");
    }
    // All of it is part of the state, and restored with it.
    run_task(&pve, "POST", &format!("{disks}/lvm"), again).await;
    let state = pve.snapshot();
    run_task(&pve, "DELETE", &format!("{disks}/lvm/data"), cleanup).await;
    pve.restore(&state).expect("its own state");
    assert_eq!(unused().await.len(), 2);
}

#[tokio::test]
async fn ceph_has_the_created_objects() {
    let pve = pve().await;
    let ceph = "/nodes/pve1/ceph";
    for kind in ["mon", "mgr", "mds"] {
        let path = format!("{ceph}/{kind}");
        assert_eq!(get(&pve, &path, "").await, json!([]), "{kind}");
        run_task(&pve, "POST", &format!("{path}/pve1"), "").await;
        assert_eq!(column(&get(&pve, &path, "").await, "name"), ["pve1"]);
    }
    let last = reason(&pve, "DELETE", &format!("{ceph}/mon/pve1"), "").await;
    assert_eq!(last, "can't remove last monitor");

    run_task(&pve, "POST", &format!("{ceph}/osd"), "dev=/dev/sdb").await;
    let hosts = |tree: &Value| tree["root"]["children"][0]["children"].clone();
    let tree = get(&pve, &format!("{ceph}/osd"), "").await;
    assert_eq!(hosts(&tree)[0]["children"][0]["name"], "osd.0");
    let disks = get(&pve, "/nodes/pve1/disks/list", "").await;
    assert_eq!(
        column(&disks, "osdid"),
        [json!(-1), json!("0"), json!(-1), json!(-1)]
    );
    let busy = reason(&pve, "DELETE", &format!("{ceph}/osd/0"), "").await;
    assert!(busy.contains("in use"), "{busy}");
    ask(&pve, "POST", &format!("{ceph}/osd/0/out"), "")
        .await
        .data();
    let tree = get(&pve, &format!("{ceph}/osd"), "").await;
    assert_eq!(hosts(&tree)[0]["children"][0]["in"], 0);
    run_task(&pve, "DELETE", &format!("{ceph}/osd/0"), "cleanup=1").await;
    assert_eq!(
        hosts(&get(&pve, &format!("{ceph}/osd"), "").await),
        json!([])
    );

    let pool = format!("{ceph}/pool");
    run_task(&pve, "POST", &pool, "name=vms&size=2&add_storages=1").await;
    let pools = get(&pve, &pool, "").await;
    assert_eq!(
        (&pools[0]["pool_name"], &pools[0]["size"]),
        (&json!("vms"), &json!(2))
    );
    assert_eq!(get(&pve, "/storage/vms", "").await["type"], "rbd");
    run_task(&pve, "PUT", &format!("{pool}/vms"), "size=3").await;
    let status = get(&pve, &format!("{pool}/vms/status"), "").await;
    assert_eq!(status["size"], 3);
    run_task(&pve, "POST", &format!("{ceph}/fs/shared"), "add-storage=1").await;
    assert_eq!(column(&get(&pve, &pool, "").await, "pool"), [1, 2, 3]);
    assert_eq!(
        column(&get(&pve, &format!("{ceph}/fs"), "").await, "name"),
        ["shared"]
    );
    run_task(&pve, "DELETE", &format!("{pool}/vms"), "remove_storages=1").await;
    assert_eq!(ask(&pve, "GET", "/storage/vms", "").await.status, 500);

    ask(&pve, "PUT", "/cluster/ceph/flags/noout", "value=1")
        .await
        .data();
    assert_eq!(get(&pve, "/cluster/ceph/flags/noout", "").await, 1);
    run_task(&pve, "PUT", "/cluster/ceph/flags", "noout=0&noscrub=1").await;
    let flags = get(&pve, "/cluster/ceph/flags", "").await;
    let set: Vec<&Value> = flags
        .as_array()
        .expect("flags")
        .iter()
        .filter(|flag| flag["value"] == 1)
        .map(|flag| &flag["name"])
        .collect();
    assert_eq!(set, ["noscrub"]);
}

#[tokio::test]
async fn certificates_are_ordered_and_renewed() {
    let pve = pve().await;
    let node = "/nodes/pve1/certificates";
    let order = format!("{node}/acme/certificate");
    let files = async || column(&get(&pve, &format!("{node}/info"), "").await, "filename");
    assert_eq!(files().await, ["pve-root-ca.pem", "pve-ssl.pem"]);
    assert_eq!(
        reason(&pve, "POST", &order, "").await,
        "No ACME domains configured"
    );
    let config = "acme=domains%3Dpve.example.org";
    ask(&pve, "PUT", "/nodes/pve1/config", config).await.data();
    assert!(reason(&pve, "POST", &order, "").await.contains("account"));
    let contact = "contact=admin%40example.org";
    run_task(&pve, "POST", "/cluster/acme/account", contact).await;
    assert_eq!(
        column(&get(&pve, "/cluster/acme/account", "").await, "name"),
        ["default"]
    );
    let account = get(&pve, "/cluster/acme/account/default", "").await;
    assert_eq!(
        account["account"]["contact"],
        json!(["mailto:admin@example.org"])
    );

    run_task(&pve, "POST", &order, "").await;
    let certificate = get(&pve, &format!("{node}/info"), "").await[2].clone();
    assert_eq!(certificate["filename"], "pveproxy-ssl.pem");
    assert_eq!(certificate["san"], json!(["pve.example.org"]));
    let soon = ask(&pve, "PUT", &order, "").await;
    assert_eq!(soon.status, 400, "{soon}");
    pve.clock()
        .advance(std::time::Duration::from_secs(70 * 86_400));
    run_task(&pve, "PUT", &order, "").await;
    let renewed = get(&pve, &format!("{node}/info"), "").await[2].clone();
    assert!(renewed["notafter"].as_u64() > certificate["notafter"].as_u64());
    assert_ne!(renewed["fingerprint"], certificate["fingerprint"]);
    run_task(&pve, "DELETE", &order, "").await;
    assert_eq!(files().await.len(), 2);
    run_task(&pve, "DELETE", "/cluster/acme/account/default", "").await;
    assert_eq!(get(&pve, "/cluster/acme/account", "").await, json!([]));
}

#[tokio::test]
async fn services_stop_and_files_are_stored() {
    let pve = pve().await;
    let state = "/nodes/pve1/services/cron/state";
    assert_eq!(get(&pve, state, "").await["state"], "running");
    run_task(&pve, "POST", "/nodes/pve1/services/cron/stop", "").await;
    assert_eq!(get(&pve, state, "").await["active-state"], "inactive");
    run_task(&pve, "POST", "/nodes/pve1/services/cron/restart", "").await;
    let all = get(&pve, "/nodes/pve1/services", "").await;
    assert!(column(&all, "state").iter().all(|state| state == "running"));

    let hosts = get(&pve, "/nodes/pve1/hosts", "").await;
    let digest = hosts["digest"].as_str().expect("a digest");
    let form = format!("data=192.0.2.9+nine&digest={digest}");
    ask(&pve, "POST", "/nodes/pve1/hosts", &form).await.data();
    assert_eq!(
        get(&pve, "/nodes/pve1/hosts", "").await["data"],
        "192.0.2.9 nine"
    );
    assert!(
        reason(&pve, "POST", "/nodes/pve1/hosts", &form)
            .await
            .contains("modified")
    );
    let template = "storage=local&template=alpine-3.22-default_20250617_amd64.tar.xz";
    run_task(&pve, "POST", "/nodes/pve1/aplinfo", template).await;
    let content = get(&pve, "/nodes/pve1/storage/local/content", "content=vztmpl").await;
    assert!(content.to_string().contains("alpine-3.22"));
}

#[tokio::test]
async fn one_call_changes_many_guests() {
    let pve = Simulator::builder()
        .clock(Clock::manual(1_800_000_000))
        .node("pve1")
        .node("pve2")
        .qemu(
            100,
            "pve1",
            &[
                ("scsi0", "local-lvm:4"),
                ("scsi1", "local-lvm:1"),
                ("net0", "virtio,bridge=vmbr0"),
            ],
        )
        .qemu(101, "pve2", &[])
        .qemu(102, "pve1", &[])
        .start()
        .await
        .expect("starts");
    let statuses = async |key: &str| {
        let rows = get(&pve, "/cluster/resources", "type=vm").await;
        column(&rows, key)
    };
    let bulk = "/cluster/bulk-action/guest";
    run_task(&pve, "POST", &format!("{bulk}/start"), "vms=100&vms=101").await;
    assert_eq!(statuses("status").await, ["running", "running", "stopped"]);
    let traffic = get(&pve, "/nodes/pve1/netstat", "").await;
    assert_eq!(column(&traffic, "dev"), ["net0"], "{traffic}");
    assert_eq!(traffic[0]["vmid"], "100");
    run_task(&pve, "POST", &format!("{bulk}/shutdown"), "").await;
    assert_eq!(statuses("status").await, ["stopped"; 3]);
    run_task(
        &pve,
        "POST",
        "/nodes/pve1/migrateall",
        "target=pve2&max-workers=2",
    )
    .await;
    assert_eq!(statuses("node").await, ["pve2"; 3]);

    let vm = "/nodes/pve2/qemu/100";
    ask(&pve, "PUT", &format!("{vm}/unlink"), "idlist=scsi1")
        .await
        .data();
    let config = get(&pve, &format!("{vm}/config"), "").await;
    assert_eq!(config["unused0"], "local-lvm:vm-100-disk-1");
    ask(
        &pve,
        "PUT",
        &format!("{vm}/unlink"),
        "idlist=unused0&force=1",
    )
    .await
    .data();
    let content = get(&pve, "/nodes/pve2/storage/local-lvm/content", "").await;
    assert_eq!(column(&content, "volid"), ["local-lvm:vm-100-disk-0"]);
}
