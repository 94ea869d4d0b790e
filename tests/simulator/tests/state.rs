//! The everyday path: what a call changes shows wherever it should.

mod support;

use proxmox_simulator::{Clock, Simulator};
use serde_json::{Value, json};

use crate::support::{ask, finish};

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

fn row<'a>(rows: &'a Value, key: &str, value: &Value) -> &'a Value {
    rows.as_array()
        .expect("a list")
        .iter()
        .find(|row| row[key] == *value)
        .unwrap_or_else(|| panic!("no {key} {value} in {rows}"))
}

#[tokio::test]
async fn a_machine_from_create_to_destroy() {
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
    assert_eq!(
        finish(&pve, &refused).await,
        "VM 100 is running - destroy failed"
    );

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
