//! Changes by one call are visible in all other calls.

use proxmox_simulator::{Clock, ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET, newest_release};
use serde_json::{Value, json};

use crate::support::{Answer, Wire, ask, ask_with, finish, login};

async fn pve() -> Simulator {
    Simulator::builder()
        .node("pve1")
        .node("pve2")
        .clock(Clock::manual(1_800_000_000))
        .time_factor(1.0)
        .start()
        .await
        .expect("starts")
}

/// Bind mounts are for root@pam alone, by a ticket.
async fn ask_as_root(pve: &Simulator, method: &str, path: &str, form: &str) -> Answer {
    let ticket = login(pve, "root@pam", ROOT_PASSWORD).await;
    ask_with(pve, method, path, &ticket, form).await
}

fn row<'a>(rows: &'a Value, key: &str, value: &Value) -> &'a Value {
    rows.as_array()
        .expect("a list")
        .iter()
        .find(|row| row[key] == *value)
        .unwrap_or_else(|| panic!("no {key} {value} in {rows}"))
}

#[tokio::test]
async fn a_virtual_machine_is_created_used_and_destroyed() {
    let pve = pve().await;
    let nodes = ask(&pve, "GET", "/nodes", "").await.data();
    assert_eq!(row(&nodes, "node", &json!("pve1"))["status"], "online");
    assert_eq!(ask(&pve, "GET", "/cluster/nextid", "").await.data(), "100");

    let form = "vmid=100&name=web&memory=2048&cores=2&scsi0=local-lvm%3A32%2Ciothread%3D1\
                &net0=virtio%2Cbridge%3Dvmbr0&ide2=local%3Aiso%2Fdebian-13.iso%2Cmedia%3Dcdrom";
    let created = ask(&pve, "POST", "/nodes/pve1/qemu", form).await;
    let during = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
        .await
        .data();
    assert_eq!(during["lock"], "create");
    assert_eq!(finish(&pve, &created).await, "OK");

    let config = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
        .await
        .data();
    assert_eq!(
        config["scsi0"],
        "local-lvm:vm-100-disk-0,iothread=1,size=32G"
    );
    assert_eq!(config["memory"], "2048");
    assert_eq!(config["cores"], 2);
    assert_eq!(config["boot"], "order=scsi0;ide2;net0");
    assert!(
        config["net0"]
            .as_str()
            .expect("text")
            .starts_with("virtio=BC:24:11:"),
        "{config}"
    );
    assert!(config["lock"].is_null());

    let content = ask(&pve, "GET", "/nodes/pve1/storage/local-lvm/content", "")
        .await
        .data();
    assert_eq!(
        row(&content, "volid", &json!("local-lvm:vm-100-disk-0"))["size"],
        32_u64 << 30
    );

    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/qemu/100/status/start", "").await
        )
        .await,
        "OK"
    );
    let current = ask(&pve, "GET", "/nodes/pve1/qemu/100/status/current", "")
        .await
        .data();
    assert_eq!(current["status"], "running");
    let resources = ask(&pve, "GET", "/cluster/resources", "type=vm")
        .await
        .data();
    assert_eq!(
        row(&resources, "id", &json!("qemu/100"))["status"],
        "running"
    );

    let again = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/start", "").await;
    assert_eq!(finish(&pve, &again).await, "VM 100 already running");
    let refused = ask(&pve, "DELETE", "/nodes/pve1/qemu/100", "").await;
    assert_eq!(refused.status, 500);
    assert_eq!(refused.reason, "VM 100 is running - destroy failed");

    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/qemu/100/status/stop", "").await
        )
        .await,
        "OK"
    );
    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "DELETE", "/nodes/pve1/qemu/100", "purge=1").await
        )
        .await,
        "OK"
    );
    let gone = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "").await;
    assert_eq!(gone.status, 500);
    assert_eq!(
        gone.reason,
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
    );
    let content = ask(&pve, "GET", "/nodes/pve1/storage/local-lvm/content", "")
        .await
        .data();
    assert_eq!(content, json!([]));
}

#[tokio::test]
async fn a_change_keeps_other_settings() {
    let pve = pve().await;
    let form = "vmid=100&name=a&memory=1024&scsi0=local-lvm%3A4&description=two%0Alines";
    assert_eq!(
        finish(&pve, &ask(&pve, "POST", "/nodes/pve1/qemu", form).await).await,
        "OK"
    );
    let config = "/nodes/pve1/qemu/100/config";
    let before = ask(&pve, "GET", config, "").await.data();
    let digest = before["digest"].as_str().expect("a digest").to_owned();

    let stale = ask(
        &pve,
        "PUT",
        config,
        &format!("cores=2&digest={}", "0".repeat(40)),
    )
    .await;
    assert_eq!(
        stale.reason,
        "checksum mismatch (file change by other user?)"
    );
    assert_eq!(
        ask(&pve, "PUT", config, "").await.reason,
        "no options specified"
    );
    let unknown = ask(&pve, "PUT", config, "delete=nosuch").await.json();
    assert_eq!(
        unknown["errors"],
        json!({ "delete": "unknown option 'nosuch'" })
    );

    let changed = ask(
        &pve,
        "PUT",
        config,
        &format!("cores=4&delete=description&digest={digest}"),
    )
    .await;
    assert_eq!(changed.data(), Value::Null);
    let after = ask(&pve, "GET", config, "").await.data();
    assert_eq!(after["cores"], 4);
    assert!(after.get("description").is_none());
    assert_eq!(after["scsi0"], before["scsi0"]);
    assert_ne!(after["digest"], before["digest"]);

    let later = ask(&pve, "POST", config, "net1=e1000").await;
    assert_eq!(finish(&pve, &later).await, "OK");
    let net = ask(&pve, "GET", config, "").await.data()["net1"].clone();
    assert!(
        net.as_str()
            .is_some_and(|net| net.starts_with("e1000=BC:24:11:")),
        "{net}"
    );

    // A detached disk becomes an unused one, which can be deleted.
    assert_eq!(ask(&pve, "PUT", config, "delete=scsi0").await.status, 200);
    let unused = ask(&pve, "GET", config, "").await.data();
    assert_eq!(unused["unused0"], "local-lvm:vm-100-disk-0");
    assert_eq!(ask(&pve, "PUT", config, "delete=unused0").await.status, 200);
    let content = ask(&pve, "GET", "/nodes/pve1/storage/local-lvm/content", "")
        .await
        .data();
    assert_eq!(content, json!([]));
}

#[tokio::test]
async fn a_running_machine_applies_some_changes_at_its_next_start() {
    let pve = pve().await;
    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=100&cores=1&start=1").await
        )
        .await,
        "OK"
    );
    let config = "/nodes/pve1/qemu/100/config";
    assert_eq!(ask(&pve, "PUT", config, "cores=3&name=b").await.status, 200);
    let pending = ask(&pve, "GET", "/nodes/pve1/qemu/100/pending", "")
        .await
        .data();
    let cores = row(&pending, "key", &json!("cores"));
    assert_eq!((&cores["value"], &cores["pending"]), (&json!(1), &json!(3)));
    assert!(
        row(&pending, "key", &json!("name"))
            .get("pending")
            .is_none()
    );
    assert_eq!(
        ask(&pve, "GET", config, "current=1").await.data()["cores"],
        1
    );
    assert_eq!(ask(&pve, "GET", config, "").await.data()["cores"], 3);
    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/qemu/100/status/reboot", "").await
        )
        .await,
        "OK"
    );
    assert_eq!(
        ask(&pve, "GET", config, "current=1").await.data()["cores"],
        3
    );
    let suspended = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/suspend", "").await;
    assert_eq!(finish(&pve, &suspended).await, "OK");
    let current = ask(&pve, "GET", "/nodes/pve1/qemu/100/status/current", "")
        .await
        .data();
    assert_eq!(
        (&current["status"], &current["qmpstatus"]),
        (&json!("running"), &json!("paused"))
    );
    let resumed = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/resume", "").await;
    assert_eq!(finish(&pve, &resumed).await, "OK");
}

#[tokio::test]
async fn snapshots_can_be_rolled_back() {
    let pve = pve().await;
    let form = "vmid=100&cores=1&scsi0=local-lvm%3A4";
    assert_eq!(
        finish(&pve, &ask(&pve, "POST", "/nodes/pve1/qemu", form).await).await,
        "OK"
    );
    let snapshots = "/nodes/pve1/qemu/100/snapshot";
    let taken = ask(&pve, "POST", snapshots, "snapname=s1&description=first").await;
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
            .await
            .data()["lock"],
        "snapshot"
    );
    assert_eq!(finish(&pve, &taken).await, "OK");
    let again = ask(&pve, "POST", snapshots, "snapname=s1").await;
    assert_eq!(
        finish(&pve, &again).await,
        "snapshot name 's1' already used"
    );
    assert_eq!(
        ask(&pve, "PUT", "/nodes/pve1/qemu/100/config", "cores=8")
            .await
            .status,
        200
    );
    assert_eq!(
        finish(&pve, &ask(&pve, "POST", snapshots, "snapname=s2").await).await,
        "OK"
    );
    let list = ask(&pve, "GET", snapshots, "").await.data();
    assert_eq!(row(&list, "name", &json!("s2"))["parent"], "s1");
    assert_eq!(row(&list, "name", &json!("s1"))["description"], "first");
    assert_eq!(row(&list, "name", &json!("current"))["parent"], "s2");
    assert_eq!(
        ask(&pve, "GET", &format!("{snapshots}/s2/config"), "")
            .await
            .data()["cores"],
        8
    );

    let back = ask(&pve, "POST", &format!("{snapshots}/s1/rollback"), "").await;
    assert_eq!(finish(&pve, &back).await, "OK");
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
            .await
            .data()["cores"],
        1
    );
    let gone = ask(&pve, "DELETE", &format!("{snapshots}/s1"), "").await;
    assert_eq!(finish(&pve, &gone).await, "OK");
    let list = ask(&pve, "GET", snapshots, "").await.data();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    assert!(row(&list, "name", &json!("s2")).get("parent").is_none());
}

#[tokio::test]
async fn clones_and_templates() {
    let pve = pve().await;
    let form = "vmid=100&name=base&scsi0=local-lvm%3A4&net0=virtio%2Cbridge%3Dvmbr0";
    assert_eq!(
        finish(&pve, &ask(&pve, "POST", "/nodes/pve1/qemu", form).await).await,
        "OK"
    );
    let clone = ask(
        &pve,
        "POST",
        "/nodes/pve1/qemu/100/clone",
        "newid=101&name=copy&full=1",
    )
    .await;
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve1/qemu/101/config", "")
            .await
            .data()["lock"],
        "clone"
    );
    assert_eq!(finish(&pve, &clone).await, "OK");
    let source = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
        .await
        .data();
    let copy = ask(&pve, "GET", "/nodes/pve1/qemu/101/config", "")
        .await
        .data();
    assert_eq!(
        (&copy["name"], &copy["scsi0"]),
        (&json!("copy"), &json!("local-lvm:vm-101-disk-0,size=4G"))
    );
    assert_ne!(source["net0"], copy["net0"]);
    let taken = ask(&pve, "POST", "/nodes/pve1/qemu/100/clone", "newid=101").await;
    assert_eq!(taken.status, 500);

    let template = ask(&pve, "POST", "/nodes/pve1/qemu/100/template", "").await;
    assert_eq!(finish(&pve, &template).await, "OK");
    let source = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
        .await
        .data();
    assert_eq!(
        (&source["template"], &source["scsi0"]),
        (&json!(1), &json!("local-lvm:base-100-disk-0,size=4G"))
    );
    let start = ask(&pve, "POST", "/nodes/pve1/qemu/100/status/start", "").await;
    assert_eq!(
        finish(&pve, &start).await,
        "you can't start a vm if it's a template"
    );
    assert_eq!(ask(&pve, "GET", "/cluster/nextid", "").await.data(), "102");
}

#[tokio::test]
async fn created_volumes_belong_to_the_guest_of_the_call() {
    let pve = pve().await;
    let done = async |method: &str, path: &str, form: &str| {
        let answer = ask(&pve, method, path, form).await;
        assert_eq!(finish(&pve, &answer).await, "OK", "{method} {path} {form}");
    };
    let config = async |vmid: u32| {
        let path = format!("/nodes/pve1/qemu/{vmid}/config");
        ask(&pve, "GET", &path, "").await.data()
    };
    let form = "vmid=100&name=model&scsi0=local-lvm%3A4&ide2=local-lvm%3Acloudinit&protection=1";
    done("POST", "/nodes/pve1/qemu", form).await;
    done("POST", "/nodes/pve1/qemu", "vmid=101&name=taker").await;

    // A copy has a drive for cloud-init of its own, and all other settings, protection among them.
    done("POST", "/nodes/pve1/qemu/100/clone", "newid=102&full=1").await;
    let copy = config(102).await;
    assert_eq!(copy["ide2"], "local-lvm:vm-102-cloudinit,media=cdrom");
    assert_eq!(copy["scsi0"], "local-lvm:vm-102-disk-0,size=4G");
    assert_eq!(copy["protection"], 1);

    // The size is read from the volume, whatever is given.
    let form = "scsi0=local-lvm%3Avm-102-disk-0%2Cbackup%3D0";
    done("POST", "/nodes/pve1/qemu/102/config", form).await;
    let disk = "local-lvm:vm-102-disk-0,backup=0,size=4G";
    assert_eq!(config(102).await["scsi0"], disk);

    // A disk that goes to another guest is there, and no longer here.
    let form = "disk=scsi0&target-vmid=101&target-disk=scsi8";
    done("POST", "/nodes/pve1/qemu/102/move_disk", form).await;
    assert!(config(102).await.get("scsi0").is_none());
    let disk = config(101).await["scsi8"].clone();
    let disk = disk.as_str().expect("a disk");
    assert!(disk.starts_with("local-lvm:vm-101-disk-"), "{disk}");
}

#[tokio::test]
async fn a_backup_contains_the_selected_guests_and_logs_its_command() {
    let pve = pve().await;
    for vmid in 100..104 {
        let form = format!("vmid={vmid}&name=g{vmid}&scsi0=local-lvm%3A1");
        let answer = ask(&pve, "POST", "/nodes/pve1/qemu", &form).await;
        assert_eq!(finish(&pve, &answer).await, "OK");
    }
    ask(&pve, "POST", "/pools", "poolid=dev").await.data();
    ask(&pve, "PUT", "/pools", "poolid=dev&vms=101,102")
        .await
        .data();
    let mut kept = 0;
    for (form, taken, line) in [
        (
            "all=1&storage=local",
            4,
            "vzdump --all 1 --node pve1 --storage local",
        ),
        (
            "pool=dev&storage=local",
            2,
            "vzdump --node pve1 --pool dev --storage local",
        ),
        (
            "vmid=100,103&storage=local&notes-template=%7B%7Bguestname%7D%7D&exclude-path=%2Ftmp%2F%3F%2A",
            2,
            "vzdump 100 103 --exclude-path '/tmp/?*' --node pve1 --notes-template '{{guestname}}' --storage local",
        ),
    ] {
        let started = ask(&pve, "POST", "/nodes/pve1/vzdump", form).await;
        assert_eq!(finish(&pve, &started).await, "OK", "{form}");
        let content = ask(
            &pve,
            "GET",
            "/nodes/pve1/storage/local/content",
            "content=backup",
        )
        .await;
        kept += taken;
        assert_eq!(
            content.data().as_array().map(Vec::len),
            Some(kept),
            "{form}"
        );
        let upid = started.data().as_str().expect("a UPID").to_owned();
        let log = ask(&pve, "GET", &format!("/nodes/pve1/tasks/{upid}/log"), "")
            .await
            .data();
        assert_eq!(
            log[0]["t"],
            format!("INFO: starting new backup job: {line}")
        );
        // So that the next archives have names of their own.
        pve.clock().advance(std::time::Duration::from_secs(60));
    }
}

#[tokio::test]
async fn graphs_are_drawn_of_what_is_recorded() {
    for (release, folder) in [("8.4", "pve2-node"), (newest_release(), "pve-node-9.0")] {
        let builder = Simulator::builder().release(release).node("pve1");
        let pve = builder.start().await.expect("starts");
        let answer = ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=100").await;
        assert_eq!(answer.status, 200);
        let graph = async |path: &str, sources: &str| {
            let form = format!("timeframe=hour&ds={sources}");
            ask(&pve, "GET", path, &form).await
        };
        let drawn = graph("/nodes/pve1/rrd", "cpu,memused").await.data();
        assert_eq!(
            drawn["filename"],
            format!("/var/lib/rrdcached/db/{folder}/pve1_cpu_memused.png")
        );
        assert!(drawn["image"].is_string());
        let unknown = graph("/nodes/pve1/rrd", "cpu,salt").await;
        let text =
            format!("RRD error: No DS called 'salt' in '/var/lib/rrdcached/db/{folder}/pve1'");
        assert_eq!((unknown.status, unknown.reason), (500, text));
        let many = graph("/nodes/pve1/rrd", "cpu,memused,netin").await;
        assert_eq!(many.reason, "fixme: no color definition");
        let guest = graph("/nodes/pve1/qemu/100/rrd", "cpu,disk").await;
        assert_eq!(guest.status, 200);
        let young = graph("/nodes/pve1/qemu/100/rrd", "memhost").await;
        assert_eq!(young.status == 200, release != "8.4");
        let none = graph("/nodes/pve1/lxc/200/rrd", "cpu").await;
        assert!(
            none.reason.ends_with("/200': No such file or directory"),
            "{}",
            none.reason
        );
        let storage = graph("/nodes/pve1/storage/local/rrd", "used").await;
        assert_eq!(storage.status == 200, release == "8.4");
    }
}

#[tokio::test]
async fn a_container_becomes_a_template_in_a_task_that_no_answer_names() {
    let pve = pve().await;
    let template = "ostemplate=local%3Avztmpl%2Fdebian-13-standard_13.1-1_amd64.tar.zst";
    for (vmid, more) in [(200, ""), (201, "&mp0=%2Fsrv%2Cmp%3D%2Fsrv")] {
        let form = format!("vmid={vmid}&{template}&rootfs=local-lvm%3A1{more}");
        let answer = ask_as_root(&pve, "POST", "/nodes/pve1/lxc", &form).await;
        assert_eq!(finish(&pve, &answer).await, "OK");
    }
    for (vmid, end) in [
        (200, "OK"),
        (201, "Template feature is not available for '/srv'"),
    ] {
        let path = format!("/nodes/pve1/lxc/{vmid}/template");
        let answer = ask(&pve, "POST", &path, "").await;
        assert_eq!(answer.data(), Value::Null);
        pve.clock().advance(std::time::Duration::from_secs(60));
        let form = format!("vmid={vmid}&typefilter=vztemplate&source=all");
        let tasks = ask(&pve, "GET", "/nodes/pve1/tasks", &form).await.data();
        assert_eq!(tasks[0]["status"], end);
        let config = ask(&pve, "GET", &format!("/nodes/pve1/lxc/{vmid}/config"), "")
            .await
            .data();
        assert_eq!(config.get("template").is_some(), end == "OK");
    }
}

#[tokio::test]
async fn a_container_is_created_used_and_destroyed() {
    let pve = pve().await;
    let form = "vmid=200&hostname=ct&ostemplate=local%3Avztmpl%2Fdebian-13-standard_13.1-1_amd64.tar.zst\
                &rootfs=local-lvm%3A8&net0=name%3Deth0%2Cbridge%3Dvmbr0%2Cip%3Ddhcp&memory=1024&password=secret12";
    assert_eq!(
        finish(&pve, &ask(&pve, "POST", "/nodes/pve1/lxc", form).await).await,
        "OK"
    );
    let config = ask(&pve, "GET", "/nodes/pve1/lxc/200/config", "")
        .await
        .data();
    assert_eq!(config["rootfs"], "local-lvm:vm-200-disk-0,size=8G");
    assert_eq!(config["memory"], 1024);
    assert!(config.get("password").is_none());
    let net = config["net0"].as_str().expect("text");
    assert!(
        net.starts_with("name=eth0,bridge=vmbr0,hwaddr=BC:24:11:")
            && net.ends_with(",ip=dhcp,type=veth"),
        "{net}"
    );

    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/lxc/200/status/start", "").await
        )
        .await,
        "OK"
    );
    let again = ask(&pve, "POST", "/nodes/pve1/lxc/200/status/start", "").await;
    assert_eq!(
        (again.status, again.reason.as_str()),
        (500, "CT 200 already running")
    );
    let moved = ask(
        &pve,
        "POST",
        "/nodes/pve1/lxc/200/migrate",
        "target=pve2&restart=1",
    )
    .await;
    assert_eq!(finish(&pve, &moved).await, "OK");
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve1/lxc/200/config", "")
            .await
            .status,
        500
    );
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve2/lxc/200/status/current", "")
            .await
            .data()["status"],
        "running"
    );
    let content = ask(
        &pve,
        "GET",
        "/nodes/pve2/storage/local-lvm/content",
        "vmid=200",
    )
    .await
    .data();
    assert_eq!(content.as_array().map(Vec::len), Some(1));

    let missing = ask(
        &pve,
        "POST",
        "/nodes/pve1/lxc",
        "vmid=201&storage=local-lvm&ostemplate=local%3Avztmpl%2Fnope.tar.zst",
    )
    .await;
    assert_eq!(
        finish(&pve, &missing).await,
        "unable to create CT 201 - volume 'local:vztmpl/nope.tar.zst' does not exist"
    );
}

#[tokio::test]
async fn tasks_take_time_and_can_be_polled_and_stopped() {
    let pve = pve().await;
    let form = "vmid=100&scsi0=local-lvm%3A1&scsi1=local-lvm%3A1&scsi2=local-lvm%3A1";
    let answer = ask(&pve, "POST", "/nodes/pve1/qemu", form).await;
    let upid = answer.data().as_str().expect("a UPID").to_owned();
    let task = format!("/nodes/pve1/tasks/{upid}");
    let status = ask(&pve, "GET", &format!("{task}/status"), "").await.data();
    assert_eq!(
        (&status["status"], &status["type"], &status["id"]),
        (&json!("running"), &json!("qmcreate"), &json!("100"))
    );
    assert_eq!(
        (&status["user"], &status["tokenid"]),
        (&json!("root@pam"), &json!("test"))
    );
    assert!(status.get("exitstatus").is_none());
    let active = ask(&pve, "GET", "/nodes/pve1/tasks", "source=active")
        .await
        .data();
    assert_eq!(active[0]["status"], "RUNNING");
    let log = format!("{task}/log");
    let early = ask(&pve, "GET", &log, "").await.json();
    pve.clock().advance(std::time::Duration::from_secs(1));
    let middle = ask(&pve, "GET", &log, "").await.json();
    assert!(
        early["total"].as_u64() < middle["total"].as_u64(),
        "{early} {middle}"
    );
    assert_eq!(finish(&pve, &answer).await, "OK");
    let all = ask(&pve, "GET", &log, "limit=0").await.json();
    let total = all["total"].as_u64().expect("a total");
    let page = ask(&pve, "GET", &log, &format!("start={}&limit=5", total - 1))
        .await
        .json();
    assert_eq!(page["data"], json!([{ "n": total, "t": "TASK OK" }]));
    assert_eq!(
        ask(&pve, "GET", &log, "start=1000").await.json()["data"],
        json!([])
    );

    let start = ask(&pve, "POST", "/nodes/pve1/qemu/100/clone", "newid=101").await;
    let upid = start.data().as_str().expect("a UPID").to_owned();
    assert_eq!(
        ask(&pve, "DELETE", &format!("/nodes/pve1/tasks/{upid}"), "")
            .await
            .status,
        200
    );
    assert_eq!(finish(&pve, &start).await, "received interrupt");
    assert_eq!(
        ask(&pve, "GET", "/nodes/pve1/qemu/101/config", "")
            .await
            .status,
        500
    );
    assert!(
        ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
            .await
            .data()
            .get("lock")
            .is_none()
    );

    let archive = ask(&pve, "GET", "/nodes/pve1/tasks", "limit=1")
        .await
        .json();
    assert_eq!(
        (&archive["total"], &archive["data"][0]["status"]),
        (&json!(2), &json!("received interrupt"))
    );
    let errors = ask(&pve, "GET", "/nodes/pve1/tasks", "errors=1")
        .await
        .json();
    assert_eq!(errors["total"], 1);
    let unknown = "/nodes/pve1/tasks/UPID:pve1:00000C1C:0002C651:6B01F6B2:imgcopy::nobody@pam:";
    let status = ask(&pve, "GET", &format!("{unknown}/status"), "")
        .await
        .json();
    assert_eq!(status["errors"], json!({ "upid": "no such task" }));
    let lines = ask(&pve, "GET", &format!("{unknown}/log"), "").await.json();
    assert_eq!(
        lines["data"][0]["t"],
        "unable to open file - No such file or directory"
    );
}

#[tokio::test]
async fn locked_guests_refuse_in_the_call_or_in_the_task() {
    let pve = pve().await;
    assert_eq!(
        finish(
            &pve,
            &ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=100").await
        )
        .await,
        "OK"
    );
    pve.set_lock(100, Some("backup"));
    for method in ["PUT", "POST"] {
        let answer = ask(&pve, method, "/nodes/pve1/qemu/100/config", "cores=2").await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (500, "VM is locked (backup)"),
            "{method}"
        );
    }
    for (method, path, form) in [
        ("POST", "/nodes/pve1/qemu/100/status/start", ""),
        ("DELETE", "/nodes/pve1/qemu/100", ""),
    ] {
        assert_eq!(
            finish(&pve, &ask(&pve, method, path, form).await).await,
            "VM is locked (backup)"
        );
    }
    pve.set_lock(100, None);
    assert_eq!(
        ask(&pve, "PUT", "/nodes/pve1/qemu/100/config", "cores=2")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn volumes_are_created_and_removed() {
    let pve = pve().await;
    let content = "/nodes/pve1/storage/local/content";
    let isos = ask(&pve, "GET", content, "content=iso").await.data();
    assert_eq!(isos[0]["volid"], "local:iso/debian-13.iso");
    let form = "content=iso&filename=new.iso&url=https%3A%2F%2Fexample.org%2Fnew.iso";
    let loaded = ask(&pve, "POST", "/nodes/pve1/storage/local/download-url", form).await;
    assert_eq!(finish(&pve, &loaded).await, "OK");
    let volume = ask(&pve, "GET", &format!("{content}/local:iso/new.iso"), "")
        .await
        .data();
    assert_eq!(volume["path"], "/var/lib/vz/template/iso/new.iso");
    let before = ask(&pve, "GET", "/nodes/pve1/storage/local/status", "")
        .await
        .data();
    let deleted = ask(
        &pve,
        "DELETE",
        &format!("{content}/local%3Aiso%2Fnew.iso"),
        "",
    )
    .await;
    assert_eq!(finish(&pve, &deleted).await, "OK");
    let after = ask(&pve, "GET", "/nodes/pve1/storage/local/status", "")
        .await
        .data();
    assert!(before["used"].as_u64() > after["used"].as_u64());
    assert_eq!(
        ask(&pve, "GET", &format!("{content}/local:iso/new.iso"), "")
            .await
            .status,
        500
    );

    assert_eq!(
        finish(
            &pve,
            &ask(
                &pve,
                "POST",
                "/nodes/pve1/qemu",
                "vmid=100&scsi0=local-lvm%3A4"
            )
            .await
        )
        .await,
        "OK"
    );
    let saved = ask(&pve, "POST", "/nodes/pve1/vzdump", "vmid=100&storage=local").await;
    assert_eq!(finish(&pve, &saved).await, "OK");
    let backups = ask(&pve, "GET", content, "content=backup").await.data();
    assert_eq!(
        (&backups[0]["vmid"], &backups[0]["subtype"]),
        (&json!(100), &json!("qemu"))
    );
    let resized = ask(
        &pve,
        "PUT",
        "/nodes/pve1/qemu/100/resize",
        "disk=scsi0&size=%2B2G",
    )
    .await;
    assert_eq!(finish(&pve, &resized).await, "OK");
    let config = ask(&pve, "GET", "/nodes/pve1/qemu/100/config", "")
        .await
        .data();
    assert_eq!(config["scsi0"], "local-lvm:vm-100-disk-0,size=6G");

    let nowhere = ask(
        &pve,
        "POST",
        "/nodes/pve1/qemu",
        "vmid=101&scsi0=nosuch%3A4",
    )
    .await;
    assert_eq!(nowhere.reason, "storage 'nosuch' does not exist");
    let wrong = ask(&pve, "POST", "/nodes/pve1/qemu", "vmid=101&scsi0=local%3A4").await;
    assert_eq!(
        wrong.json()["errors"]["storage"],
        "storage 'local' does not support vm images"
    );
    assert_eq!(ask(&pve, "GET", "/cluster/nextid", "").await.data(), "101");
}

#[tokio::test]
async fn many_guests_are_distributed_over_the_nodes() {
    let pve = Simulator::builder()
        .node("pve1")
        .node("pve2")
        .qemu(101, "pve1", &[])
        .many_guests(40)
        .start()
        .await
        .expect("starts");
    let rows = ask(&pve, "GET", "/cluster/resources", "type=vm")
        .await
        .data();
    let count = |key: &str, value: &str| {
        rows.as_array()
            .expect("rows")
            .iter()
            .filter(|row| row[key] == value)
            .count()
    };
    assert_eq!((count("type", "qemu"), count("type", "lxc")), (31, 10));
    assert_eq!((count("node", "pve1"), count("node", "pve2")), (21, 20));
    assert_eq!(count("status", "running"), 20);
    assert_eq!(
        rows.as_array()
            .and_then(|rows| rows.last()?["vmid"].as_u64()),
        Some(140)
    );
}

#[tokio::test]
async fn a_wrong_checksum_fails_the_task() {
    const SUM: &str = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7";
    let pve = pve().await;
    let wrong = "0".repeat(64);
    let mismatch = format!("checksum mismatch: got '{SUM}' != expect '{wrong}'");
    for (name, sum, end) in [
        ("bad.iso", wrong.as_str(), mismatch.as_str()),
        ("good.iso", SUM, "OK"),
    ] {
        let field = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = field("content", "iso")
            + &field("checksum-algorithm", "sha256")
            + &field("checksum", sum)
            + &format!(
                "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"{name}\"\r\n\r\ndata\r\n--B--\r\n"
            );
        let mut wire = Wire::open(&pve).await;
        wire.send(
            format!(
                "POST /api2/json/nodes/pve1/storage/local/upload HTTP/1.1\r\nHost: x\r\n\
                 Authorization: PVEAPIToken={TOKEN_ID}={TOKEN_SECRET}\r\n\
                 Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .await;
        assert_eq!(finish(&pve, &wire.answer().await).await, end);
    }
    let content = ask(
        &pve,
        "GET",
        "/nodes/pve1/storage/local/content",
        "content=iso",
    )
    .await;
    let names = content.data().to_string();
    assert!(
        names.contains("iso/good.iso") && !names.contains("bad.iso"),
        "{names}"
    );
}
