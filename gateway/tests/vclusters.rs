//! `/v1/vclusters`, from the template to the kubeconfig.

use std::time::Duration;

use crate::common::Pair;
use proxmox_gateway::VclustersConfig;
use proxmox_simulator::Simulator;
use serde_json::{Value, json};

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters:
- cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: Q0E=
  name: default
current-context: default
";

async fn pair() -> Pair {
    let settings = [
        ("name", "kubernetes"),
        ("agent", "1"),
        ("cores", "2"),
        ("scsi0", "local-lvm:8"),
        ("net0", "virtio,bridge=vmbr0"),
    ];
    let simulator = Simulator::builder()
        .node("node1")
        .node("node2")
        .qemu(9000, "node1", &settings)
        .guest_file(9000, "/etc/rancher/k3s/k3s.yaml", KUBECONFIG)
        .time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        config.vclusters = Some(VclustersConfig::new(9000, "1.28.0"));
    })
    .await;
    let answer = pair
        .send("POST /api2/json/nodes/node1/qemu/9000/template", "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    pair
}

/// Repeats a request until the answer fits.
async fn until(pair: &Pair, request: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let answer = pair.send(request, "").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if fits(&answer.json()) {
                return answer.json();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time")
}

#[tokio::test]
async fn a_vcluster_is_created_scaled_and_deleted() {
    let pair = pair().await;
    let body = json!({
        "name": "dev-cluster", "k8s_version": "1.28.0", "isolation": "namespace",
        "resources": {"cpu": 4, "memory": "8Gi"}, "node_selector": {"node": "node1"},
    });
    let answer = pair.send("POST /v1/vclusters", &body.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (id.as_str(), &answer.json()["status"]),
        ("vc-7000", &json!("creating"))
    );
    let path = format!("GET /v1/vclusters/{id}");
    let running = until(&pair, &path, |one| {
        one["endpoints"]["api_server"].is_string()
    })
    .await;
    assert_eq!(
        (&running["name"], &running["status"]),
        (&json!("dev-cluster"), &json!("running"))
    );
    assert_eq!(
        (&running["k8s_version"], &running["isolation"]),
        (&json!("1.28.0"), &json!("namespace"))
    );
    assert_eq!(running["resources"]["cpu"], 4);
    let list = pair.send("GET /v1/vclusters", "").await.json();
    assert_eq!(list["items"], json!([running]));
    // A template and any other machine are not Kubernetes clusters.
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let config = pair.send(&format!("{path}/kubeconfig"), "").await;
    assert_eq!(config.status, 200, "{}", config.text());
    let server = running["endpoints"]["api_server"]
        .as_str()
        .expect("an address");
    assert!(server.starts_with("https://") && server.ends_with(":6443"));
    assert_eq!(
        config.text(),
        KUBECONFIG.replace("https://127.0.0.1:6443", server)
    );
    let body = r#"{"resources": {"cpu": 8, "memory": "16Gi"}}"#;
    let scaled = pair
        .send(&format!("POST /v1/vclusters/{id}/scale"), body)
        .await;
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let guest = pair
        .send("GET /api2/json/nodes/node1/qemu/7000/config", "")
        .await
        .json();
    assert_eq!(
        (&guest["data"]["cores"], &guest["data"]["memory"]),
        (&json!(8), &json!("16384"))
    );
    let gone = pair.send(&format!("DELETE /v1/vclusters/{id}"), "").await;
    assert_eq!(gone.status, 202, "{}", gone.text());
    until(&pair, "GET /v1/vclusters", |list| {
        list["items"] == json!([])
    })
    .await;
    assert_eq!(pair.send(&path, "").await.status, 404);
}

#[tokio::test]
async fn requests_beyond_the_template_are_refused() {
    let pair = pair().await;
    for (body, field) in [
        (json!({"name": "x", "k8s_version": "1.99.0"}), "k8s_version"),
        (json!({"name": "x", "isolation": "none"}), "isolation"),
        (
            json!({"name": "x", "resources": {"memory": "much"}}),
            "resources.memory",
        ),
    ] {
        let refused = pair.send("POST /v1/vclusters", &body.to_string()).await;
        assert_eq!(refused.status, 400);
        assert!(
            refused.json()["errors"][field].is_string(),
            "{}",
            refused.text()
        );
    }
    assert_eq!(pair.send("GET /v1/vclusters/vc-100", "").await.status, 404);
    assert_eq!(pair.send("DELETE /v1/vclusters/9000", "").await.status, 404);
    let other = Pair::start(Simulator::builder(), |_| {}).await;
    assert_eq!(other.send("GET /v1/vclusters", "").await.status, 503);
}
