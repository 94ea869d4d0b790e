//! Events, metrics and the inventory of a simulated cluster.

use proxmox_api::Client;
use proxmox_api::manage::events::{Change, Event, Watch};
use proxmox_api::manage::inventory::{Inventory, Order, ResourceType, SortBy};
use proxmox_api::manage::metrics;
use proxmox_api::manage::webhook::{Deliverer, SIGNATURE, TIMESTAMP, WINDOW, Webhook, verify};
use proxmox_simulator::{Simulator, TOKEN_ID, TOKEN_SECRET};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn cluster() -> (Simulator, Client) {
    let simulator = Simulator::builder()
        .time_factor(0.0)
        .node("pve1")
        .node("pve2")
        .qemu(
            100,
            "pve1",
            &[("name", "web"), ("memory", "2048"), ("tags", "prod")],
        )
        .running(100)
        .lxc(
            200,
            "pve2",
            &[("hostname", "dns"), ("rootfs", "local-lvm:4")],
        )
        .start()
        .await
        .expect("it starts");
    let client = Client::builder(simulator.url())
        .api_token(TOKEN_ID, TOKEN_SECRET)
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .build()
        .expect("complete settings");
    (simulator, client)
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.change.kind()).collect()
}

#[tokio::test]
async fn changes_of_guests_and_nodes_are_events() {
    let (simulator, pve) = cluster().await;
    let mut watch = Watch::new(&pve);
    assert!(watch.poll().await.unwrap().is_empty());
    assert!(watch.poll().await.unwrap().is_empty());

    pve.guest(100).stop().await.unwrap().wait().await.unwrap();
    let events = watch.poll().await.unwrap();
    assert_eq!(
        kinds(&events),
        ["task.started", "guest.stopped", "task.ended"]
    );

    pve.guest(100)
        .migrate("pve2")
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    let events = watch.poll().await.unwrap();
    assert_eq!(
        kinds(&events),
        ["task.started", "guest.migrated", "task.ended"]
    );
    assert!(matches!(
        &events[1].change,
        Change::GuestMigrated { vmid: 100, guest, from } if guest.node == "pve2" && from == "pve1"
    ));

    let copy = pve.guest(200).clone_to(201).await.unwrap();
    copy.started.wait().await.unwrap();
    let cursor = watch.cursor().cloned().unwrap();
    let events = watch.poll().await.unwrap();
    assert_eq!(
        kinds(&events),
        ["task.started", "guest.created", "task.ended"]
    );
    copy.guest.destroy().await.unwrap().wait().await.unwrap();
    simulator.set_online("pve2", false);
    let events = watch.poll().await.unwrap();
    let kinds_now = kinds(&events);
    for kind in [
        "node.offline",
        "guest.removed",
        "task.started",
        "task.ended",
    ] {
        assert!(kinds_now.contains(&kind), "{kind}: {kinds_now:?}");
    }

    // Resumed from an earlier state: the clone was created and removed meanwhile, which the tasks
    // show.
    let events = Watch::resume(&pve, cursor).poll().await.unwrap();
    let tasks = events
        .iter()
        .filter(|event| event.change.kind() == "task.ended")
        .count();
    assert_eq!(tasks, 2);
    assert!(!kinds(&events).contains(&"guest.created"));
}

#[tokio::test]
async fn waiting_for_the_next_event() {
    let (_simulator, pve) = cluster().await;
    let mut watch = Watch::new(&pve).interval(std::time::Duration::from_millis(1));
    watch.poll().await.unwrap();
    let guest = pve.guest(200);
    let (event, started) = tokio::join!(watch.next_event(), async { guest.start().await });
    // The poll may have read the tasks just before the start and the guests just after it.
    let kind = event.unwrap().change.kind();
    assert!(["task.started", "guest.started"].contains(&kind), "{kind}");
    started.unwrap().detach();
}

#[tokio::test]
async fn metrics_of_a_node_and_of_the_cluster() {
    let (_simulator, pve) = cluster().await;
    let node = metrics::node_metrics(&pve, "pve1").await.unwrap();
    assert_eq!(node.cpus, 16);
    assert_eq!(node.load, [0.42, 0.37, 0.31]);
    let json = node.to_json();
    assert_eq!(json["cpu"]["cores"], 16);
    assert_eq!(json["memory"]["total_bytes"], 64_u64 << 30);
    assert!(json["timestamp"].as_str().unwrap().ends_with('Z'));

    let storage = metrics::storage_metrics(&pve, "pve1", "local").await;
    let storage = storage.unwrap();
    assert!(storage.active && storage.size > storage.used);
    assert_eq!(storage.size, storage.used + storage.available);
    let rising = |times: Vec<u64>| times.len() > 1 && times.is_sorted() && times[0] > 0;
    let nodes = metrics::node_history(&pve, "pve1", "hour").await.unwrap();
    assert!(rising(nodes.iter().map(|sample| sample.time).collect()));
    assert!(nodes.iter().any(|sample| sample.memory_used > Some(0.0)));
    let guests = pve
        .guest(100)
        .history(proxmox_api::manage::metrics::Timeframe::Day)
        .await
        .unwrap();
    assert!(rising(guests.iter().map(|sample| sample.time).collect()));
    metrics::storage_history(&pve, "pve1", "local", "week")
        .await
        .unwrap();

    let text = metrics::scrape(&pve).await.unwrap();
    for line in [
        "# TYPE pve_up gauge",
        "pve_up{id=\"qemu/100\"} 1",
        "pve_up{id=\"lxc/200\"} 0",
        "pve_memory_size_bytes{id=\"qemu/100\"} 2147483648",
        "pve_cluster_quorate{name=\"simulated\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn selecting_from_the_inventory() {
    let (_simulator, pve) = cluster().await;
    let inventory = Inventory::fetch(&pve).await.unwrap();
    let vms = || inventory.select().of_type(ResourceType::Vm);
    assert_eq!(vms().tag("prod").vmids(), [100]);
    assert_eq!(
        vms().sort(SortBy::Name, Order::Ascending).vmids(),
        [200, 100]
    );
    assert_eq!(inventory.capacity()["pve1"].running, 1);
    assert_eq!(
        inventory.placement(1 << 30, 1.0)[0],
        "pve2",
        "pve1 has a guest running"
    );
}

/// Reads one HTTP request: its head in lines, and its body.
async fn receive(stream: &mut TcpStream) -> (Vec<String>, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        assert!(
            stream
                .read_buf(&mut bytes)
                .await
                .expect("the sender is there")
                > 0
        );
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head: Vec<String> = (String::from_utf8_lossy(&bytes[..end]).lines())
            .map(str::to_owned)
            .collect();
        let length: usize = header(&head, "content-length").parse().expect("a number");
        if bytes.len() == end + 4 + length {
            return (head, bytes.split_off(end + 4));
        }
    }
}

fn header(head: &[String], expected: &str) -> String {
    let value = |line: &String| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case(expected)).then(|| value.trim().to_owned())
    };
    head.iter().find_map(value).unwrap_or_default()
}

#[tokio::test]
async fn a_receiver_verifies_a_delivery() {
    let (_simulator, pve) = cluster().await;
    let mut watch = Watch::new(&pve);
    watch.poll().await.unwrap();
    pve.guest(100).stop().await.unwrap().wait().await.unwrap();
    let events = watch.poll().await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/in?key=1", listener.local_addr().unwrap());
    let hook = Webhook::new("test", &url, "webhook-secret-key").unwrap();
    let hook = hook.events(["guest.started", "guest.stopped"]);
    let deliverer = Deliverer::new().unwrap().attempts(1);
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = receive(&mut stream).await;
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        request
    });
    for event in &events {
        deliverer.deliver(&hook, event).await.unwrap();
    }
    let (head, body) = receiver.await.unwrap();
    assert_eq!(head[0], "POST /hooks/in?key=1 HTTP/1.1");
    let (signature, time) = (header(&head, SIGNATURE), header(&head, TIMESTAMP));
    let now: u64 = time.parse().unwrap();
    verify(b"webhook-secret-key", &signature, &time, &body, now, WINDOW).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["type"], "guest.stopped");
    assert_eq!(json["data"]["vmid"], 100);
    assert_eq!(json["data"]["name"], "web");
    assert_eq!(json["data"]["node"], "pve1");
}
