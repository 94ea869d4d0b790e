//! Sends every request of the design document of this API.
//!
//! This test prints the table in `docs/gateway.md`. `GATEWAY_TABLE_WRITE=1` writes it there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::common::{Answer, Pair, background};
use proxmox_gateway::VclustersConfig;
use proxmox_simulator::Simulator;
use serde_json::Value;

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\n";

/// A request of the document. `{name}` stands for a value from an earlier answer, or for a name of
/// the cluster.
struct Case {
    section: &'static str,
    request: &'static str,
    /// The body. A leading `=` makes it a form, a leading `--` an upload.
    body: &'static str,
    status: u16,
    /// Required content of the answer: a JSON pointer, `pointer=value`, or `header:NAME`.
    holds: &'static [&'static str],
    /// Values of the answer to keep: `name=pointer`.
    keeps: &'static [&'static str],
    /// Differences from the document, for readers.
    note: &'static str,
}

const CASE: Case = Case {
    section: "",
    request: "",
    body: "",
    status: 200,
    holds: &[],
    keeps: &[],
    note: "",
};

const TASK: &[&str] = &["/data=UPID:"];

/// In the order of the document, except for prerequisites. Sections named `-` only prepare and have
/// no row.
const CASES: &[Case] = &[
    Case {
        section: "Obtain Access Ticket",
        request: "POST /api2/json/access/ticket",
        body: "=username=root@pam&password=secret",
        holds: &[
            "/data/ticket=PVE:root@pam:",
            "/data/CSRFPreventionToken",
            "/data/username=root@pam",
            "/data/cap/vms/VM.Allocate",
        ],
        keeps: &["ticket=/data/ticket", "csrf=/data/CSRFPreventionToken"],
        ..CASE
    },
    Case {
        section: "Using the Ticket",
        request: "GET /api2/json/nodes",
        holds: &["/data/0/node"],
        ..CASE
    },
    Case {
        section: "API Tokens",
        request: "POST /api2/json/access/users/{userid}/token/{tokenid}",
        body: r#"{"privsep": true, "expire": 0, "comment": "Terraform automation"}"#,
        holds: &["/data/value", "/data/full-tokenid=root@pam!terraform"],
        keeps: &["secret=/data/value"],
        ..CASE
    },
    Case {
        section: "API Tokens: in a request",
        request: "GET /api2/json/nodes +token",
        holds: &["/data"],
        note: "a token with privilege separation sees nothing until it gets privileges",
        ..CASE
    },
    Case {
        section: "List Nodes",
        request: "GET /api2/json/nodes",
        holds: &[
            "/data/0/node",
            "/data/0/status=online",
            "/data/0/cpu",
            "/data/0/maxcpu",
            "/data/0/mem",
            "/data/0/maxmem",
            "/data/0/disk",
            "/data/0/maxdisk",
            "/data/0/uptime",
            "/data/0/level",
        ],
        ..CASE
    },
    Case {
        section: "Get Node Status",
        request: "GET /api2/json/nodes/{node}/status",
        holds: &[
            "/data/uptime",
            "/data/kversion",
            "/data/cpuinfo/model",
            "/data/cpuinfo/sockets",
            "/data/memory/total",
            "/data/rootfs/avail",
            "/data/loadavg/2",
        ],
        ..CASE
    },
    Case {
        section: "List VMs on Node",
        request: "GET /api2/json/nodes/{node}/qemu",
        holds: &[
            "/data/0/vmid",
            "/data/0/name",
            "/data/0/status",
            "/data/0/maxmem",
        ],
        ..CASE
    },
    Case {
        section: "-",
        request: "POST /api2/json/nodes/{node}/storage/{storage}/upload",
        body: "--",
        ..CASE
    },
    Case {
        section: "Create VM",
        request: "POST /api2/json/nodes/{node}/qemu",
        body: r#"{"vmid": 101, "name": "new-vm", "memory": 4096, "cores": 2, "sockets": 1, "cpu": "host", "ostype": "l26",
            "scsihw": "virtio-scsi-single", "scsi0": "local-lvm:32,format=raw", "net0": "virtio,bridge=vmbr0",
            "ide2": "local:iso/ubuntu-22.04.iso,media=cdrom", "boot": "order=scsi0;ide2", "start": false}"#,
        holds: &["/data=UPID:node1:"],
        ..CASE
    },
    Case {
        section: "Get VM Configuration",
        request: "GET /api2/json/nodes/{node}/qemu/101/config",
        holds: &[
            "/data/name=new-vm",
            "/data/cores=2",
            "/data/cpu=host",
            "/data/scsi0=local-lvm:",
            "/data/net0=virtio=",
            "/data/boot=order=scsi0;ide2",
            "/data/digest",
        ],
        keeps: &["digest=/data/digest"],
        note: "numbers such as memory can be strings, as in Proxmox VE",
        ..CASE
    },
    Case {
        section: "Update VM Configuration",
        request: "PUT /api2/json/nodes/{node}/qemu/101/config",
        body: r#"{"memory": 8192, "cores": 4, "digest": "{digest}"}"#,
        ..CASE
    },
    Case {
        section: "Get Current Status",
        request: "GET /api2/json/nodes/{node}/qemu/{vmid}/status/current",
        holds: &["/data/status", "/data/vmid=100"],
        ..CASE
    },
    Case {
        section: "Start VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/start",
        holds: TASK,
        keeps: &["upid=/data"],
        ..CASE
    },
    Case {
        section: "Stop VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/stop",
        body: r#"{"timeout": 60, "forceStop": false}"#,
        holds: TASK,
        note: "`forceStop` is dropped: this call always stops immediately",
        ..CASE
    },
    Case {
        section: "-",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/start",
        ..CASE
    },
    Case {
        section: "Shutdown VM (ACPI)",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/shutdown",
        body: r#"{"timeout": 120, "forceStop": true}"#,
        holds: TASK,
        ..CASE
    },
    Case {
        section: "-",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/start",
        ..CASE
    },
    Case {
        section: "Reboot VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/reboot",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Reset VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/reset",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Suspend VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/suspend",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Resume VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/status/resume",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Clone VM",
        request: "POST /api2/json/nodes/{node}/qemu/101/clone",
        body: r#"{"newid": 102, "name": "cloned-vm", "target": "node2", "full": true, "storage": "local-lvm"}"#,
        holds: TASK,
        note: "`local-lvm` is shared in this test; from storage that is not shared, the cluster can clone only to the same node",
        ..CASE
    },
    Case {
        section: "Migrate VM",
        request: "POST /api2/json/nodes/{node}/qemu/{vmid}/migrate",
        body: r#"{"target": "node2", "online": true, "with-local-disks": true, "targetstorage": "local-lvm"}"#,
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Create Snapshot",
        request: "POST /api2/json/nodes/{node}/qemu/101/snapshot",
        body: r#"{"snapname": "before-upgrade", "description": "Snapshot before system upgrade", "vmstate": true}"#,
        holds: TASK,
        ..CASE
    },
    Case {
        section: "List Snapshots",
        request: "GET /api2/json/nodes/{node}/qemu/101/snapshot",
        holds: &["/data/0/name"],
        ..CASE
    },
    Case {
        section: "Rollback Snapshot",
        request: "POST /api2/json/nodes/{node}/qemu/101/snapshot/{snapname}/rollback",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Delete Snapshot",
        request: "DELETE /api2/json/nodes/{node}/qemu/101/snapshot/{snapname}",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Delete VM",
        request: "DELETE /api2/json/nodes/node2/qemu/102",
        body: r#"{"purge": true, "destroy-unreferenced-disks": true}"#,
        holds: TASK,
        ..CASE
    },
    Case {
        section: "-",
        request: "POST /api2/json/nodes/{node}/qemu/103/status/start",
        ..CASE
    },
    Case {
        section: "VNC Proxy",
        request: "POST /api2/json/nodes/{node}/qemu/103/vncproxy",
        body: r#"{"websocket": true}"#,
        holds: &[
            "/data/port",
            "/data/ticket",
            "/data/upid=UPID:",
            "/data/user=root@pam",
        ],
        ..CASE
    },
    Case {
        section: "SPICE Proxy",
        request: "POST /api2/json/nodes/{node}/qemu/103/spiceproxy",
        holds: &["/data/proxy", "/data/password"],
        ..CASE
    },
    Case {
        section: "Terminal Proxy",
        request: "POST /api2/json/nodes/{node}/qemu/103/termproxy",
        holds: &["/data/port", "/data/ticket"],
        ..CASE
    },
    Case {
        section: "List Storage",
        request: "GET /api2/json/nodes/{node}/storage",
        holds: &[
            "/data/0/storage",
            "/data/0/type",
            "/data/0/active",
            "/data/0/enabled",
            "/data/0/shared",
            "/data/0/total",
            "/data/0/content",
        ],
        ..CASE
    },
    Case {
        section: "List Storage Content",
        request: "GET /api2/json/nodes/{node}/storage/{storage}/content",
        holds: &["/data/0/volid", "/data/0/format", "/data/0/size"],
        ..CASE
    },
    Case {
        section: "List Storage Content: filtered",
        request: "GET /api2/json/nodes/{node}/storage/{storage}/content?content=iso",
        holds: &["/data/0/volid=local:iso/", "/data/0/format=iso"],
        keeps: &["volume=/data/0/volid"],
        ..CASE
    },
    Case {
        section: "Upload ISO/Template",
        request: "POST /api2/json/nodes/{node}/storage/{storage}/upload",
        body: "--",
        holds: TASK,
        ..CASE
    },
    Case {
        section: "-",
        request: "DELETE /api2/json/nodes/{node}/storage/{storage}/content/{volume}",
        ..CASE
    },
    Case {
        section: "Download from URL",
        request: "POST /api2/json/nodes/{node}/storage/{storage}/download-url",
        body: r#"{"content": "iso", "filename": "ubuntu-22.04.iso",
            "url": "https://releases.ubuntu.com/22.04/ubuntu-22.04.3-live-server-amd64.iso",
            "checksum": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "checksum-algorithm": "sha256"}"#,
        holds: TASK,
        ..CASE
    },
    Case {
        section: "Delete Volume",
        request: "DELETE /api2/json/nodes/{node}/storage/{storage}/content/{volume}",
        ..CASE
    },
    Case {
        section: "List Networks",
        request: "GET /api2/json/nodes/{node}/network",
        holds: &["/data/0/iface", "/data/0/type", "/data/0/method"],
        ..CASE
    },
    Case {
        section: "Create Network",
        request: "POST /api2/json/nodes/{node}/network",
        body: r#"{"iface": "vmbr1", "type": "bridge", "autostart": true, "bridge_ports": "eth1", "bridge_vlan_aware": true,
            "address": "192.168.1.1", "netmask": "255.255.255.0"}"#,
        ..CASE
    },
    Case {
        section: "Apply Network Changes",
        request: "PUT /api2/json/nodes/{node}/network",
        ..CASE
    },
    Case {
        section: "Revert Network Changes",
        request: "DELETE /api2/json/nodes/{node}/network",
        ..CASE
    },
    Case {
        section: "Get Cluster Status",
        request: "GET /api2/json/cluster/status",
        holds: &["/data/0/type", "/data/0/name", "/data/1/name"],
        ..CASE
    },
    Case {
        section: "Get Cluster Resources",
        request: "GET /api2/json/cluster/resources",
        holds: &["/data/0/id", "/data/0/type"],
        ..CASE
    },
    Case {
        section: "Get Cluster Resources: guests",
        request: "GET /api2/json/cluster/resources?type=vm",
        holds: &["/data/0/vmid", "/data/0/type=qemu"],
        ..CASE
    },
    Case {
        section: "Get Cluster Resources: storages",
        request: "GET /api2/json/cluster/resources?type=storage",
        holds: &["/data/0/storage", "/data/0/type=storage"],
        ..CASE
    },
    Case {
        section: "Get Cluster Resources: nodes",
        request: "GET /api2/json/cluster/resources?type=node",
        holds: &["/data/0/node", "/data/0/type=node"],
        ..CASE
    },
    Case {
        section: "Get Next VMID",
        request: "GET /api2/json/cluster/nextid",
        holds: &["/data"],
        note: "a string, as in Proxmox VE",
        ..CASE
    },
    Case {
        section: "List Tasks",
        request: "GET /api2/json/nodes/{node}/tasks",
        holds: &[
            "/data/0/upid=UPID:",
            "/data/0/type",
            "/data/0/starttime",
            "/data/0/user=root@pam",
            "/data/0/status",
            "header:x-total-count",
        ],
        ..CASE
    },
    Case {
        section: "List Tasks: filtered",
        request: "GET /api2/json/nodes/{node}/tasks?vmid=100&typefilter=qmstart",
        holds: &["/data/0/type=qmstart", "/data/0/id=100"],
        ..CASE
    },
    Case {
        section: "Get Task Status",
        request: "GET /api2/json/nodes/{node}/tasks/{upid}/status",
        holds: &[
            "/data/upid=UPID:",
            "/data/type=qmstart",
            "/data/status",
            "/data/pid",
            "/data/starttime",
        ],
        ..CASE
    },
    Case {
        section: "Get Task Log",
        request: "GET /api2/json/nodes/{node}/tasks/{upid}/log",
        holds: &["/data/0/n=1", "/data/0/t", "/total"],
        ..CASE
    },
    Case {
        section: "Get Task Log: a page",
        request: "GET /api2/json/nodes/{node}/tasks/{upid}/log?start=0&limit=50",
        holds: &["/data/0/n=1", "header:x-total-count"],
        ..CASE
    },
    Case {
        section: "Stop Task",
        request: "DELETE /api2/json/nodes/{node}/tasks/{upid}",
        ..CASE
    },
    Case {
        section: "Create vCluster",
        request: "POST /v1/vclusters",
        body: r#"{"name": "dev-cluster", "k8s_version": "1.28.0", "isolation": "namespace",
            "resources": {"cpu": 4, "memory": "8Gi"}, "node_selector": {"node": "node1"}}"#,
        status: 202,
        holds: &[
            "/id=vc-",
            "/name=dev-cluster",
            "/status=creating",
            "/k8s_version=1.28.0",
            "/node=node1",
            "/isolation=namespace",
            "/created_at",
        ],
        keeps: &["id=/id"],
        ..CASE
    },
    Case {
        section: "List vClusters",
        request: "GET /v1/vclusters +until:/items/0/endpoints/api_server",
        holds: &[
            "/items/0/id=vc-",
            "/items/0/name=dev-cluster",
            "/items/0/status=running",
            "/items/0/k8s_version=1.28.0",
            "/items/0/isolation=namespace",
            "/items/0/endpoints/api_server=https://",
        ],
        ..CASE
    },
    Case {
        section: "Get vCluster Kubeconfig",
        request: "GET /v1/vclusters/{id}/kubeconfig",
        holds: &[
            "text:server: https://",
            "header:content-type=application/yaml",
        ],
        ..CASE
    },
    Case {
        section: "Scale vCluster",
        request: "POST /v1/vclusters/{id}/scale",
        body: r#"{"resources": {"cpu": 8, "memory": "16Gi"}}"#,
        holds: &["/resources/cpu=8", "/restart_needed"],
        ..CASE
    },
    Case {
        section: "Delete vCluster",
        request: "DELETE /v1/vclusters/{id}",
        status: 202,
        holds: &["/upid=UPID:"],
        ..CASE
    },
    Case {
        section: "Create Template from VM",
        request: "POST /v1/templates",
        body: r#"{"source_vmid": 100, "name": "ubuntu-22.04-base", "description": "Base Ubuntu 22.04 template", "tags": ["ubuntu", "base"]}"#,
        status: 202,
        holds: &["/vmid", "/upid=UPID:"],
        note: "the guest stays; its copy becomes the template",
        ..CASE
    },
    Case {
        section: "List Templates",
        request: "GET /v1/templates",
        holds: &["/items/0/vmid", "/items/0/name"],
        ..CASE
    },
    Case {
        section: "Get Node Metrics",
        request: "GET /v1/nodes/{node}/metrics",
        holds: &[
            "/timestamp",
            "/cpu/usage_percent",
            "/cpu/cores",
            "/cpu/load_avg/2",
            "/memory/total_bytes",
            "/memory/used_bytes",
            "/network",
        ],
        note: "the cluster measures neither the disks nor the packets of a node: `null`",
        ..CASE
    },
    Case {
        section: "Get Node Metrics: Prometheus",
        request: "GET /v1/nodes/{node}/metrics?format=prometheus",
        holds: &[
            "text:pve_node_cpu_usage_ratio{node=\"node1\"}",
            "header:content-type=text/plain; version=0.0.4",
        ],
        ..CASE
    },
    Case {
        section: "WebSocket Events",
        request: "GET /v1/events/ws +websocket",
        status: 101,
        holds: &["header:sec-websocket-accept"],
        note: "`tests/native.rs` compares the messages with the document",
        ..CASE
    },
    Case {
        section: "Authentication Error",
        request: "GET /api2/json/nodes +wrong",
        status: 401,
        holds: &["/message", "/status=401"],
        ..CASE
    },
    Case {
        section: "Permission Denied",
        request: "POST /api2/json/nodes/{node}/qemu +token",
        body: r#"{"vmid": 150}"#,
        status: 403,
        holds: &["/message=Permission check failed", "/status=403"],
        note: "the text is the cluster's",
        ..CASE
    },
    Case {
        section: "Resource Not Found",
        request: "GET /api2/json/nodes/node1/qemu/999/config",
        status: 404,
        holds: &[
            "/message=Configuration file 'nodes/node1/qemu-server/999.conf' does not exist",
            "/status=404",
        ],
        ..CASE
    },
    Case {
        section: "Validation Error",
        request: "PUT /api2/json/nodes/{node}/qemu/101/config",
        body: r#"{"memory": 1, "cores": 0}"#,
        status: 400,
        holds: &[
            "/errors/memory",
            "/errors/cores",
            "/message=Parameter verification failed",
            "/status=400",
        ],
        note: "the texts are the cluster's",
        ..CASE
    },
    Case {
        section: "Resource Locked",
        request: "PUT /api2/json/nodes/{node}/qemu/103/config +lock:103",
        body: r#"{"cores": 2}"#,
        status: 423,
        holds: &["/message=VM is locked (backup)", "/status=423"],
        note: "the text is the cluster's",
        ..CASE
    },
    Case {
        section: "Rate Limiting: Headers",
        request: "GET /api2/json/version",
        holds: &[
            "header:x-ratelimit-limit=1000",
            "header:x-ratelimit-remaining",
            "header:x-ratelimit-reset",
        ],
        ..CASE
    },
    Case {
        section: "Rate Limit Exceeded Response",
        request: "POST /api2/json/access/ticket +times:11",
        body: "=username=root@pam&password=secret",
        status: 429,
        holds: &[
            "header:retry-after",
            "/message=Rate limit exceeded. Try again in ",
            "/status=429",
        ],
        ..CASE
    },
    Case {
        section: "Pagination",
        request: "GET /api2/json/nodes/node1/tasks?start=0&limit=50",
        holds: &["header:x-total-count", "/data/0/upid"],
        ..CASE
    },
    Case {
        section: "Pagination: Response Headers",
        request: "GET /api2/json/nodes/node1/tasks?start=0&limit=2",
        holds: &[
            "header:x-total-count",
            "header:link=</api2/json/nodes/node1/tasks?start=2&limit=2>; rel=\"next\"",
        ],
        ..CASE
    },
    Case {
        section: "Filtering & Sorting",
        request: "GET /api2/json/cluster/resources?type=vm&status=running&sort=name&order=asc",
        holds: &["/data/0/status=running", "header:x-total-count"],
        ..CASE
    },
    Case {
        section: "Batch VM Operations",
        request: "POST /v1/batch/vms/action",
        body: r#"{"action": "start", "vmids": [100, 101, 102, 103], "options": {"parallel": 4, "continue_on_error": true}}"#,
        holds: &[
            "/results/0/vmid=100",
            "/results/1/success=true",
            "/results/1/upid=UPID:",
            "/results/2/success=false",
            "/results/2/error",
            "/summary/total=4",
        ],
        ..CASE
    },
    Case {
        section: "Configure Webhook",
        request: "POST /v1/webhooks",
        body: r#"{"name": "slack-notifications", "url": "https://hooks.slack.com/services/xxx",
            "events": ["vm.started", "vm.stopped", "vm.migrated", "node.offline"], "secret": "webhook-secret-key", "enabled": true}"#,
        status: 201,
        holds: &[
            "/id=wh-",
            "/name=slack-notifications",
            "/events/3=node.offline",
            "/enabled=true",
        ],
        note: "`tests/native.rs` compares payload and signature with the document",
        ..CASE
    },
    Case {
        section: "OpenAPI Specification",
        request: "GET /api2/json/openapi.json",
        holds: &[
            "/openapi=3.",
            "/paths/~1api2~1json~1nodes/get",
            "/paths/~1v1~1webhooks/post",
            "/components/schemas",
        ],
        note: "OpenAPI 3.1",
        ..CASE
    },
    Case {
        section: "OpenAPI Specification: page",
        request: "GET /api-explorer/",
        holds: &["text:explorer.js", "header:content-type=text/html"],
        ..CASE
    },
];

/// The table's rows for the rest of the document.
const ELSEWHERE: &str = "\
| gRPC API | `gpve.v1` on port 8007: all calls of the three services, and the steps of the example | passes | `tests/grpc.rs`; with grpcio in `.ci/gateway` |
| Webhook Payload, Signature Verification | `POST` to the receiver | passes | `tests/native.rs` |
| SDK Examples: Python | proxmoxer, 25 steps | passes | `.ci/gateway` |
| SDK Examples: JavaScript | the npm client `proxmox-api`, 17 steps | passes | `.ci/gateway` |
| SDK Examples: Terraform | provider `go-proxmox/proxmox` | not applicable | the provider does not exist; its resources are calls of the rows above |
";

async fn pair() -> Pair {
    let vm = |name: &'static str| {
        [
            ("name", name),
            ("memory", "4096"),
            ("scsi0", "local-lvm:32"),
        ]
    };
    let simulator = Simulator::builder()
        .node("node1")
        .node("node2")
        .user("root@pam", "secret")
        .storage("local-lvm", "rbd", &["images", "rootdir"], 1 << 40)
        .qemu(100, "node1", &vm("ubuntu-server"))
        .qemu(
            103,
            "node1",
            &[
                ("name", "desktop"),
                ("scsi0", "local-lvm:8"),
                ("vga", "qxl"),
                ("serial0", "socket"),
            ],
        )
        .qemu(
            9000,
            "node1",
            &[
                ("name", "kubernetes"),
                ("agent", "1"),
                ("scsi0", "local-lvm:8"),
                ("net0", "virtio,bridge=vmbr0"),
            ],
        )
        .guest_file(9000, "/etc/rancher/k3s/k3s.yaml", KUBECONFIG)
        .time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        config.background = Some(background());
        config.vclusters = Some(VclustersConfig::new(9000, "1.28.0"));
    })
    .await;
    let answer = pair
        .send("POST /api2/json/nodes/node1/qemu/9000/template", "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    pair
}

struct Run {
    pair: Pair,
    names: BTreeMap<String, String>,
}

impl Run {
    fn fill(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{name}}}"), value)
            })
    }

    async fn send(&self, request: &str, body: &str, how: &str) -> Answer {
        let mut headers = Vec::new();
        match how {
            "token" => headers.push(format!(
                "Authorization: PVEAPIToken=root@pam!terraform={}",
                self.names["secret"]
            )),
            "wrong" => headers.push("Authorization: PVEAPIToken=root@pam!terraform=0".to_owned()),
            _ => {
                if let (Some(ticket), Some(csrf)) =
                    (self.names.get("ticket"), self.names.get("csrf"))
                {
                    headers.push(format!("Cookie: PVEAuthCookie={ticket}"));
                    headers.push(format!("CSRFPreventionToken: {csrf}"));
                }
            }
        }
        if how == "websocket" {
            for line in [
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ] {
                headers.push(line.to_owned());
            }
        }
        let form = body.strip_prefix('=');
        let body = match body {
            "--" => {
                headers.push("Content-Type: multipart/form-data; boundary=edge".to_owned());
                let part = "--edge\r\nContent-Disposition: form-data; name=";
                format!(
                    "{part}\"content\"\r\n\r\niso\r\n{part}\"filename\"; filename=\"ubuntu-22.04.iso\"\r\n\r\nbytes\r\n--edge--\r\n"
                )
            }
            _ if form.is_some() => {
                headers.push("Content-Type: application/x-www-form-urlencoded".to_owned());
                form.unwrap_or_default().to_owned()
            }
            // The document has bodies without a content type, too.
            body => body.to_owned(),
        };
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        if how == "websocket" {
            return self.pair.head(request, &headers).await;
        }
        self.pair.send_with(request, &headers, &body).await
    }

    async fn case(&mut self, case: &Case) -> String {
        let (request, how) = case.request.split_once(" +").unwrap_or((case.request, ""));
        let (how, argument) = how.split_once(':').unwrap_or((how, ""));
        let (request, body) = (self.fill(request), self.fill(case.body));
        if how == "lock" {
            self.pair
                .simulator
                .set_lock(argument.parse().expect("a number"), Some("backup"));
        }
        let times: usize = if how == "times" {
            argument.parse().expect("a number")
        } else {
            1
        };
        for _ in 1..times {
            let _ = self.send(&request, &body, how).await;
        }
        let mut answer = self.send(&request, &body, how).await;
        if how == "until" {
            let wait = async {
                while answer.json().pointer(argument).is_none_or(Value::is_null) {
                    answer = self.send(&request, &body, how).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), wait)
                .await
                .expect("in time");
        }
        if how == "lock" {
            self.pair
                .simulator
                .set_lock(argument.parse().expect("a number"), None);
        }
        assert_eq!(answer.status, case.status, "{request}: {}", answer.text());
        for expected in case.holds {
            assert!(
                holds(&answer, expected),
                "{request}: no {expected} in {:?} {}",
                answer.headers,
                answer.text()
            );
        }
        for kept in case.keeps {
            let (name, pointer) = kept.split_once('=').expect("a name");
            let value = answer
                .json()
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned);
            self.names.insert(
                name.to_owned(),
                value.unwrap_or_else(|| panic!("{request}: no {pointer}")),
            );
        }
        format!("{} `{}`", answer.status, shape(&answer))
    }
}

/// Whether an answer has a value that begins with this text.
fn holds(answer: &Answer, expected: &str) -> bool {
    if let Some(text) = expected.strip_prefix("text:") {
        return answer.text().contains(text);
    }
    if let Some(header) = expected.strip_prefix("header:") {
        let (name, value) = header.split_once('=').unwrap_or((header, ""));
        return answer
            .headers
            .get(name)
            .is_some_and(|found| found.starts_with(value));
    }
    let (pointer, value) = expected.split_once('=').unwrap_or((expected, ""));
    match answer.json().pointer(pointer) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => text.starts_with(value),
        Some(found) => {
            let text = found.to_string();
            value.is_empty() || text == value
        }
    }
}

/// A short description of an answer that is the same in every run.
fn shape(answer: &Answer) -> String {
    let kind = answer
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let Ok(value) = serde_json::from_slice::<Value>(&answer.body) else {
        return if kind.is_empty() {
            "-".to_owned()
        } else {
            kind
        };
    };
    let of = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::String(text) if text.starts_with("UPID:") => "\"UPID:…\"".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "{…}".to_owned(),
        other if other.is_number() => "number".to_owned(),
        other => other.to_string(),
    };
    let members = value.as_object().into_iter().flatten();
    let members = members.filter(|(key, _)| *key != "total");
    let members: Vec<String> = members
        .map(|(key, value)| format!("{key}: {}", of(value)))
        .collect();
    let mut text = members.join(", ");
    if members.len() > 4 {
        let names: Vec<&str> = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .take(6)
            .collect();
        text = format!("{}, …", names.join(", "));
    }
    format!("{{{text}}}")
}

#[tokio::test]
async fn every_request_of_the_document_is_answered() {
    let names = [
        ("node", "node1"),
        ("vmid", "100"),
        ("storage", "local"),
        ("snapname", "before-upgrade"),
        ("userid", "root@pam"),
        ("tokenid", "terraform"),
    ];
    let names = names.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut run = Run {
        pair: pair().await,
        names: names.into(),
    };
    let mut table = String::from("| section | request | answer | notes |\n|---|---|---|---|\n");
    for case in CASES {
        let answer = run.case(case).await;
        if case.section == "-" {
            continue;
        }
        let (request, _) = case.request.split_once(" +").unwrap_or((case.request, ""));
        writeln!(
            table,
            "| {} | `{request}` | {answer} | {} |",
            case.section, case.note
        )
        .expect("written");
    }
    table.push_str(ELSEWHERE);
    println!("{table}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let (before, _) = document
        .split_once("| section | request |")
        .expect("a table");
    let whole = format!("{before}{table}");
    if std::env::var_os("GATEWAY_TABLE_WRITE").is_some() {
        std::fs::write(path, whole).expect("written");
        return;
    }
    assert_eq!(
        document, whole,
        "run this with GATEWAY_TABLE_WRITE=1 and read the difference"
    );
}
