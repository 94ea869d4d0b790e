//! The gRPC services, called by the library's client.

use std::time::Duration;

use crate::common::{Pair, background, token};
use proxmox_gateway::VclustersConfig;
use proxmox_gateway::gpve::v1::cluster_service_client::ClusterServiceClient;
use proxmox_gateway::gpve::v1::guest_service_client::GuestServiceClient;
use proxmox_gateway::gpve::v1::operation_service_client::OperationServiceClient;
use proxmox_gateway::gpve::v1::v_cluster_service_client::VClusterServiceClient;
use proxmox_gateway::gpve::v1::*;
use proxmox_simulator::{Simulator, TOKEN_ID};
use tonic::transport::Channel;
use tonic::{Code, Request};

async fn pair() -> (Pair, Channel) {
    let simulator = Simulator::builder()
        .node("node1")
        .node("node2")
        .qemu(100, "node1", &[("name", "web"), ("scsi0", "local-lvm:8")])
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
        .guest_file(
            9000,
            "/etc/rancher/k3s/k3s.yaml",
            "    server: https://127.0.0.1:6443\n",
        )
        .time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        config.background = Some(background());
        config.vclusters = Some(VclustersConfig::new(9000, "1.28.0"));
        config.grpc = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let answer = pair
        .send("POST /api2/json/nodes/node1/qemu/9000/template", "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let address = pair.gateway.grpc_address().expect("it serves gRPC");
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    (pair, channel.connect().await.expect("a connection"))
}

fn with<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", token().parse().expect("a value"));
    request
}

async fn wait_for(channel: &Channel, operation: Operation) -> Operation {
    let mut operations = OperationServiceClient::new(channel.clone());
    let wait = WaitOperationRequest {
        name: operation.name,
        timeout_seconds: 20,
    };
    let ended = operations
        .wait(with(wait))
        .await
        .expect("it ends")
        .into_inner();
    assert!(ended.done && ended.error.is_empty(), "{ended:?}");
    ended
}

#[tokio::test]
async fn the_example_in_the_document_works() {
    let (pair, channel) = pair().await;
    let mut guests = GuestServiceClient::new(channel.clone());
    let disk = DiskConfig {
        storage: "local-lvm".into(),
        size: "32G".into(),
        ..Default::default()
    };
    let order = CreateGuestRequest {
        name: "test-vm".into(),
        cores: 4,
        memory: 8192,
        disks: vec![disk],
        ..Default::default()
    };
    let created = guests.create(with(order)).await.expect("made").into_inner();
    wait_for(&channel, created.operation.expect("an operation")).await;
    // The watch begins with the current state and continues with changes.
    let seen = || {
        pair.simulator
            .requests()
            .iter()
            .filter(|request| request.path == "/cluster/resources")
            .count()
    };
    let before = seen();
    while seen() < before + 3 {
        tokio::task::yield_now().await;
    }
    let watch = WatchStatusRequest { vmid: created.vmid };
    let mut stream = guests
        .watch_status(with(watch))
        .await
        .expect("watched")
        .into_inner();
    let first = stream.message().await.expect("received").expect("a status");
    assert_eq!(
        (first.vmid, first.state.as_str()),
        (created.vmid, "stopped")
    );
    let start = StartGuestRequest {
        vmid: created.vmid,
        ..Default::default()
    };
    let started = guests
        .start(with(start))
        .await
        .expect("started")
        .into_inner();
    wait_for(&channel, started).await;
    let next = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    let next = next.expect("in time").expect("received").expect("a status");
    assert_eq!(next.state, "running");
}

#[tokio::test]
async fn all_calls_on_guests_work() {
    let (_pair, channel) = pair().await;
    let mut guests = GuestServiceClient::new(channel.clone());
    let list = guests
        .list(with(ListGuestsRequest {
            page_size: 1,
            ..Default::default()
        }))
        .await
        .expect("listed")
        .into_inner();
    assert_eq!((list.guests.len(), list.total), (1, 2));
    let rest = ListGuestsRequest {
        page_size: 1,
        page_token: list.next_page_token,
        ..Default::default()
    };
    let rest = guests.list(with(rest)).await.expect("listed").into_inner();
    assert_eq!(
        (rest.guests[0].vmid, rest.next_page_token.as_str()),
        (9000, "")
    );
    let update = UpdateGuestRequest {
        vmid: 100,
        name: Some("www".into()),
        cores: Some(2),
        ..Default::default()
    };
    let updated = guests
        .update(with(update))
        .await
        .expect("updated")
        .into_inner();
    assert_eq!((updated.name.as_str(), updated.cores), ("www", 2));
    let start = guests
        .start(with(StartGuestRequest {
            vmid: 100,
            ..Default::default()
        }))
        .await;
    wait_for(&channel, start.expect("started").into_inner()).await;
    let restart = RestartGuestRequest {
        vmid: 100,
        hard: true,
        ..Default::default()
    };
    wait_for(
        &channel,
        guests
            .restart(with(restart))
            .await
            .expect("reset")
            .into_inner(),
    )
    .await;
    let migrate = MigrateGuestRequest {
        vmid: 100,
        target: "node2".into(),
        online: true,
        with_local_disks: true,
        ..Default::default()
    };
    wait_for(
        &channel,
        guests
            .migrate(with(migrate))
            .await
            .expect("moved")
            .into_inner(),
    )
    .await;
    let guest = guests
        .get(with(GetGuestRequest { vmid: 100 }))
        .await
        .expect("there")
        .into_inner();
    assert_eq!(
        (guest.node.as_str(), guest.status.as_str()),
        ("node2", "running")
    );
    let copy = CloneGuestRequest {
        vmid: 100,
        name: "copy".into(),
        full: true,
        ..Default::default()
    };
    let copy = GuestServiceClient::clone(&mut guests, with(copy))
        .await
        .expect("copied")
        .into_inner();
    let vmid = copy.vmid;
    wait_for(&channel, copy).await;
    let stop = StopGuestRequest {
        vmid: 100,
        ..Default::default()
    };
    wait_for(
        &channel,
        guests.stop(with(stop)).await.expect("stopped").into_inner(),
    )
    .await;
    let delete = DeleteGuestRequest {
        vmid,
        purge: true,
        ..Default::default()
    };
    let deleted = guests
        .delete(with(delete))
        .await
        .expect("deleted")
        .into_inner();
    wait_for(&channel, deleted.operation.expect("an operation")).await;
    let gone = guests
        .get(with(GetGuestRequest { vmid }))
        .await
        .expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn errors_have_specific_codes() {
    let (pair, channel) = pair().await;
    let mut guests = GuestServiceClient::new(channel.clone());
    let code = |answer: Result<_, tonic::Status>| {
        answer
            .map(|_: tonic::Response<Operation>| ())
            .expect_err("refused")
            .code()
    };
    let nobody = guests
        .start(StartGuestRequest {
            vmid: 100,
            ..Default::default()
        })
        .await;
    assert_eq!(code(nobody), Code::Unauthenticated);
    let mut wrong = Request::new(StartGuestRequest {
        vmid: 100,
        ..Default::default()
    });
    wrong.metadata_mut().insert(
        "authorization",
        format!("PVEAPIToken={TOKEN_ID}=wrong")
            .parse()
            .expect("a value"),
    );
    assert_eq!(code(guests.start(wrong).await), Code::Unauthenticated);
    let missing = guests
        .start(with(StartGuestRequest {
            vmid: 999,
            ..Default::default()
        }))
        .await;
    assert_eq!(code(missing), Code::NotFound);
    let exists = CreateGuestRequest {
        vmid: 100,
        node: "node1".into(),
        ..Default::default()
    };
    assert_eq!(
        guests.create(with(exists)).await.expect_err("there").code(),
        Code::AlreadyExists
    );
    let path = CreateGuestRequest {
        node: "../..".into(),
        ..Default::default()
    };
    assert_eq!(
        guests.create(with(path)).await.expect_err("no node").code(),
        Code::InvalidArgument
    );
    pair.simulator.set_lock(100, Some("backup"));
    let locked = UpdateGuestRequest {
        vmid: 100,
        cores: Some(3),
        ..Default::default()
    };
    assert_eq!(
        guests
            .update(with(locked))
            .await
            .expect_err("locked")
            .code(),
        Code::Aborted
    );
    let mut operations = OperationServiceClient::new(channel.clone());
    let invalid = operations
        .get(with(GetOperationRequest { name: "x".into() }))
        .await;
    assert_eq!(code(invalid), Code::InvalidArgument);
}

#[tokio::test]
async fn clusters_of_both_kinds_are_served() {
    let (_pair, channel) = pair().await;
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let status = cluster
        .status(with(StatusRequest {}))
        .await
        .expect("received")
        .into_inner();
    assert!(
        status.quorate && status.nodes.len() == 2 && status.nodes.iter().all(|node| node.online),
        "{status:?}"
    );
    let nodes = cluster
        .list_nodes(with(ListNodesRequest {}))
        .await
        .expect("listed")
        .into_inner()
        .nodes;
    assert_eq!(
        nodes
            .iter()
            .map(|node| node.name.as_str())
            .collect::<Vec<_>>(),
        ["node1", "node2"]
    );
    let join = JoinRequest {
        hostname: "192.0.2.1".into(),
        fingerprint: ["AA"; 32].join(":"),
        password: "secret".into(),
        ..Default::default()
    };
    // A token of root is not root itself.
    let refused = cluster.join(with(join)).await.expect_err("refused").code();
    assert_eq!(refused, Code::PermissionDenied);
    let leave = cluster
        .leave(with(LeaveRequest {
            node: "../x".into(),
        }))
        .await
        .expect_err("no node")
        .code();
    assert_eq!(leave, Code::InvalidArgument);
    let mut vclusters = VClusterServiceClient::new(channel.clone());
    let resources = Resources {
        cpu: 4,
        memory: "8Gi".into(),
    };
    let order = CreateVClusterRequest {
        name: "dev".into(),
        k8s_version: "1.28.0".into(),
        resources: Some(resources),
        ..Default::default()
    };
    let created = vclusters
        .create(with(order))
        .await
        .expect("made")
        .into_inner();
    let id = created.vcluster.expect("a cluster").id;
    let wait = async {
        loop {
            let vcluster = vclusters
                .get(with(GetVClusterRequest { id: id.clone() }))
                .await
                .expect("there")
                .into_inner();
            if !vcluster.api_server.is_empty() {
                return vcluster;
            }
        }
    };
    let vcluster = tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time");
    let kubeconfig = vclusters
        .get_kubeconfig(with(GetKubeconfigRequest { id: id.clone() }))
        .await
        .expect("read")
        .into_inner();
    assert_eq!(
        kubeconfig.kubeconfig,
        format!("    server: {}\n", vcluster.api_server)
    );
    let resources = Resources {
        cpu: 8,
        memory: String::new(),
    };
    let scaled = vclusters
        .scale(with(ScaleVClusterRequest {
            id: id.clone(),
            resources: Some(resources),
        }))
        .await;
    assert!(scaled.expect("scaled").into_inner().done);
    let listed = vclusters
        .list(with(ListVClustersRequest {}))
        .await
        .expect("listed")
        .into_inner()
        .vclusters;
    assert_eq!(
        listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        [id.as_str()]
    );
    let gone = vclusters
        .delete(with(DeleteVClusterRequest { id }))
        .await
        .expect("deleted")
        .into_inner();
    wait_for(&channel, gone.operation.expect("an operation")).await;
}

#[tokio::test]
async fn guessing_credentials_is_limited_like_logins() {
    let simulator = Simulator::builder().node("node1").time_factor(0.0);
    let pair = Pair::start(simulator, |config| {
        config.grpc = Some(([127, 0, 0, 1], 0).into());
        config.limits.authentication = 3;
    })
    .await;
    let address = pair.gateway.grpc_address().expect("it serves gRPC");
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    let channel = channel.connect().await.expect("a connection");
    let mut guests = GuestServiceClient::new(channel);
    let mut codes = Vec::new();
    for guess in 0..10 {
        let mut request = Request::new(ListGuestsRequest::default());
        let value = format!("PVEAPIToken=root@pam!test={guess:08}-2222-3333-4444-555555555555");
        let value = value.parse().expect("a value");
        request.metadata_mut().insert("authorization", value);
        codes.push(guests.list(request).await.expect_err("wrong").code());
    }
    assert_eq!(codes[..3], [Code::Unauthenticated; 3]);
    assert_eq!(codes[3..], [Code::ResourceExhausted; 7]);
}
