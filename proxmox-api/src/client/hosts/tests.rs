use std::collections::BTreeMap;

use super::*;
use crate::client::call::Call;
use crate::client::retry::RetryPolicy;
use crate::client::{Client, ClientBuilder};
use crate::testing::{Fake, json, ok};
use crate::transport::{Transport, TransportError, WireRequest, WireResponse};
use crate::value::BoxFuture;
use crate::value::endpoint::Method;

/// The behaviour of a host.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Answer,
    Refuse,
    Break,
    Hang,
    ShowOther,
    Status(u16),
}

type Plan = Arc<Mutex<BTreeMap<&'static str, Behaviour>>>;

fn cluster(hosts: &[(&'static str, Behaviour)]) -> (Fake, Plan) {
    let plan: Plan = Arc::new(Mutex::new(hosts.iter().copied().collect()));
    let fake = Fake::new({
        let plan = Arc::clone(&plan);
        move |request| {
            let host = request
                .origin
                .trim_start_matches("https://")
                .trim_end_matches(":8006");
            let plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
            match plan.get(host).copied().unwrap_or(Behaviour::Refuse) {
                Behaviour::Answer => ok(r#"{"data":null}"#),
                Behaviour::Refuse => Err(TransportError::never_sent("connection refused")),
                Behaviour::Break => Err(TransportError::interrupted("connection reset")),
                Behaviour::Hang => Err(TransportError::timed_out(Duration::from_secs(1))),
                Behaviour::ShowOther => {
                    Err(TransportError::untrusted("not pinned", [7; 32].into()))
                }
                Behaviour::Status(status) => Ok(json(status, "no", "")),
            }
        }
    });
    (fake, plan)
}

fn set(plan: &Plan, host: &'static str, behaviour: Behaviour) {
    plan.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(host, behaviour);
}

fn builder(fake: &Fake) -> ClientBuilder {
    Client::builder("pve1")
        .host("pve2")
        .host("pve3")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake.clone()))
}

fn client(fake: &Fake) -> Client {
    builder(fake).build().expect("the settings are complete")
}

/// The hosts of the requests since the last call.
fn new_hosts(fake: &Fake, seen: &mut usize) -> Vec<String> {
    let requests = fake.requests();
    let new = requests[*seen..].iter().map(|request| {
        let host = request
            .origin
            .trim_start_matches("https://")
            .trim_end_matches(":8006");
        host.to_owned()
    });
    let new = new.collect();
    *seen = requests.len();
    new
}

async fn get(client: &Client, path: &str) {
    client
        .execute(Call::new(Method::Get, path))
        .await
        .expect("one of them answers");
}

use Behaviour::{Answer, Break, Hang, Refuse, ShowOther, Status};

#[tokio::test(start_paused = true)]
async fn the_first_host_is_used_whenever_it_is_reachable() {
    let (fake, plan) = cluster(&[("pve1", Answer), ("pve2", Answer), ("pve3", Answer)]);
    let (client, mut seen) = (client(&fake), 0);
    get(&client, "/version").await;
    get(&client, "/version").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve1", "pve1"]);

    set(&plan, "pve1", Refuse);
    get(&client, "/version").await;
    get(&client, "/version").await;
    assert_eq!(
        new_hosts(&fake, &mut seen),
        ["pve1", "pve2", "pve2"],
        "it is not asked every time"
    );
    let up: Vec<_> = client.hosts().into_iter().map(|host| host.up).collect();
    assert_eq!(up, [false, true, true]);

    tokio::time::advance(PAUSE).await;
    get(&client, "/version").await;
    get(&client, "/version").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve1", "pve2", "pve2"]);

    set(&plan, "pve1", Answer);
    tokio::time::advance(PAUSE).await;
    get(&client, "/version").await;
    assert_eq!(
        new_hosts(&fake, &mut seen),
        ["pve2"],
        "the pause is longer the second time"
    );
    tokio::time::advance(PAUSE).await;
    get(&client, "/version").await;
    get(&client, "/version").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve1", "pve1"]);
    assert!(client.hosts().iter().all(|host| host.up));
}

#[tokio::test(start_paused = true)]
async fn only_one_caller_tests_a_failed_host() {
    let (fake, plan) = cluster(&[("pve1", Refuse), ("pve2", Answer)]);
    let (client, mut seen) = (client(&fake), 0);
    get(&client, "/version").await;
    tokio::time::advance(PAUSE).await;
    set(&plan, "pve1", Refuse);
    new_hosts(&fake, &mut seen);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(client.execute(Call::new(Method::Get, "/version")));
    }
    while let Some(result) = calls.join_next().await {
        result.expect("no panic").expect("pve2 answers");
    }
    let hosts = new_hosts(&fake, &mut seen);
    assert_eq!(hosts.iter().filter(|host| *host == "pve1").count(), 1);
}

/// Takes longer for everything than the first pause lasts.
#[derive(Debug)]
struct Slow(Fake);

impl Transport for Slow {
    fn send(&self, request: WireRequest) -> BoxFuture<'_, Result<WireResponse, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(PAUSE + Duration::from_secs(1)).await;
            self.0.send(request).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ends_during_a_call_does_not_affect_the_next() {
    let (fake, plan) = cluster(&[("pve1", Refuse), ("pve2", Answer)]);
    let client = builder(&fake)
        .transport(Arc::new(Slow(fake.clone())))
        .build()
        .expect("complete");
    let mut seen = 0;
    get(&client, "/version").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve1", "pve2"]);
    set(&plan, "pve1", Answer);
    get(&client, "/version").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve1"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_arrived_goes_to_no_other_host() {
    for (behaviour, elsewhere) in [
        (Refuse, [true, true]),
        (ShowOther, [true, true]),
        (Break, [true, false]),
        (Hang, [false, false]),
        (Status(503), [true, false]),
        (Status(500), [false, false]),
    ] {
        for (method, elsewhere) in [Method::Get, Method::Post].into_iter().zip(elsewhere) {
            let (fake, _) = cluster(&[("pve1", behaviour), ("pve2", Answer)]);
            let client = client(&fake);
            let mut seen = 0;
            let result = client.execute(Call::new(method, "/pools")).await;
            let hosts = new_hosts(&fake, &mut seen);
            assert_eq!(result.is_ok(), elsewhere, "{behaviour:?} {method}");
            assert_eq!(
                hosts.contains(&"pve2".to_owned()),
                elsewhere,
                "{behaviour:?} {method}"
            );
            let first = hosts.iter().filter(|host| *host == "pve1").count();
            assert!(
                first == 1 || method == Method::Get,
                "{behaviour:?} {method}: {first} times"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_retries_another_host_is_still_tried_for_connecting() {
    let (fake, _) = cluster(&[("pve1", Refuse), ("pve2", Answer)]);
    let client = builder(&fake)
        .retry(RetryPolicy::none())
        .build()
        .expect("complete");
    client
        .execute(Call::new(Method::Post, "/pools"))
        .await
        .expect("pve2 answers");

    let (fake, _) = cluster(&[("pve1", Break), ("pve2", Answer)]);
    let client = builder(&fake)
        .retry(RetryPolicy::none())
        .build()
        .expect("complete");
    client
        .execute(Call::new(Method::Get, "/pools"))
        .await
        .expect_err("not sent again");
}

#[tokio::test(start_paused = true)]
async fn all_hosts_are_named_when_none_can_be_reached() {
    let (fake, _) = cluster(&[("pve2", ShowOther)]);
    let client = builder(&fake)
        .retry(RetryPolicy::none())
        .build()
        .expect("complete");
    let error = client
        .execute(Call::new(Method::Post, "/pools"))
        .await
        .expect_err("none answers");
    assert!(error.never_sent());
    assert_eq!(
        error.to_string(),
        "POST /pools #1: cannot connect to https://pve1:8006: connection refused; nor to https://pve2:8006: \
         not pinned; nor to https://pve3:8006: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_host_is_skipped_after_some_calls() {
    let (fake, _) = cluster(&[("pve1", Hang), ("pve2", Answer)]);
    let client = builder(&fake)
        .retry(RetryPolicy::none())
        .build()
        .expect("complete");
    for _ in 0..TIMEOUTS {
        client
            .execute(Call::new(Method::Post, "/pools"))
            .await
            .expect_err("no answer");
    }
    client
        .execute(Call::new(Method::Post, "/pools"))
        .await
        .expect("pve2 answers");
}

#[tokio::test(start_paused = true)]
async fn calls_about_a_node_go_to_that_node_while_it_is_reachable() {
    let (fake, plan) = cluster(&[("pve1", Answer), ("pve2", Answer), ("10.0.0.9", Answer)]);
    let client = builder(&fake)
        .node_host("pve9", "10.0.0.9")
        .build()
        .expect("complete");
    let mut seen = 0;
    for path in [
        "/version",
        "/nodes/pve2/qemu",
        "/nodes/pve9",
        "/nodes/pve7/qemu",
        "/nodes",
        "/pools/nodes",
    ] {
        get(&client, path).await;
    }
    assert_eq!(
        new_hosts(&fake, &mut seen),
        ["pve1", "pve2", "10.0.0.9", "pve1", "pve1", "pve1"]
    );
    set(&plan, "pve2", Refuse);
    get(&client, "/nodes/pve2/qemu").await;
    get(&client, "/nodes/pve2/qemu").await;
    assert_eq!(new_hosts(&fake, &mut seen), ["pve2", "pve1", "pve1"]);
}

#[tokio::test]
async fn discovery_adds_the_other_nodes() {
    let fake = Fake::new(|request| match request.path.as_str() {
        "/api2/json/cluster/status" => ok(
            r#"{"data":[{"type":"cluster","name":"c","nodes":3,"quorate":1},
                {"type":"node","name":"pve1","ip":"10.0.0.1","local":1,"online":1},
                {"type":"node","name":"pve2","ip":"10.0.0.2","local":0,"online":1},
                {"type":"node","name":"pve3","ip":"fd00::3","local":0,"online":0},
                {"type":"node","name":"pve4","ip":"evil.example.org/","online":1},
                {"type":"node","name":"pve5"},7]}"#,
        ),
        _ => ok(r#"{"data":null}"#),
    });
    let client = Client::builder("pve1.example.org")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake.clone()))
        .build()
        .expect("complete");
    for _ in 0..2 {
        let hosts = client.discover_hosts().await.expect("answered");
        let urls_and_nodes: Vec<_> = (hosts.iter())
            .map(|host| (host.url.as_str(), host.node.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            urls_and_nodes,
            [
                ("https://pve1.example.org:8006", "pve1"),
                ("https://10.0.0.2:8006", "pve2"),
                ("https://[fd00::3]:8006", "pve3"),
            ]
        );
    }
    get(&client, "/nodes/pve3/qemu").await;
    let last = fake.requests().pop().expect("requests were sent");
    assert_eq!(last.origin, "https://[fd00::3]:8006");
}

#[tokio::test]
async fn discovery_refuses_more_nodes_than_any_cluster_has() {
    for (count, accepted) in [(1_000, true), (1_001, false), (50_000, false)] {
        let nodes: Vec<String> = (0..count)
            .map(|number| {
                format!(r#"{{"type":"node","name":"n{number}","ip":"fd00::{number:x}"}}"#)
            })
            .collect();
        let answer = format!(r#"{{"data":[{}]}}"#, nodes.join(","));
        let fake = Fake::new(move |_| ok(answer.clone()));
        let client = Client::builder("pve1")
            .api_token("root@pam!ci", "secret")
            .transport(Arc::new(fake))
            .build()
            .expect("complete");
        let found = client.discover_hosts().await;
        let known = client.hosts().len();
        match accepted {
            true => assert_eq!(
                (found.expect("a large cluster").len(), known),
                (1_001, 1_001)
            ),
            false => {
                let error = found.expect_err("no cluster");
                assert!(
                    error.to_string().contains("more than 1000 nodes"),
                    "{error}"
                );
                assert_eq!(known, 1);
            }
        }
    }
}

#[tokio::test]
async fn discovery_removes_nodes_that_left_but_not_configured_ones() {
    let nodes: Arc<Mutex<Vec<(&str, &str)>>> = Arc::default();
    let answer = Arc::clone(&nodes);
    let fake = Fake::new(move |_| {
        let nodes = answer.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = (nodes.iter())
            .map(|(name, ip)| serde_json::json!({"type": "node", "name": name, "ip": ip}))
            .collect();
        ok(serde_json::json!({ "data": entries }).to_string())
    });
    let client = Client::builder("pve1")
        .node_host("pve2", "10.0.0.2")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake))
        .build()
        .expect("complete");
    let all = [
        ("pve1", "10.0.0.1"),
        ("pve2", "10.0.0.2"),
        ("pve3", "10.0.0.3"),
        ("pve4", "10.0.0.4"),
    ];
    for (cluster, known) in [
        (&all[..], "pve1 10.0.0.2 10.0.0.3 10.0.0.4"),
        // An empty answer about nodes removes none.
        (&[], "pve1 10.0.0.2 10.0.0.3 10.0.0.4"),
        (
            &[all[0], ("pve3", "10.0.0.33"), all[3]],
            "pve1 10.0.0.2 10.0.0.4 10.0.0.33",
        ),
        // The answer has no address for it.
        (&[all[0], ("pve4", "")], "pve1 10.0.0.2 10.0.0.4"),
        (&[("pve9", "10.0.0.9")], "pve1 10.0.0.2 10.0.0.9"),
        (&all[..1], "pve1 10.0.0.2"),
    ] {
        *nodes.lock().unwrap_or_else(PoisonError::into_inner) = cluster.to_vec();
        let hosts = client.discover_hosts().await.expect("answered");
        let names: Vec<_> = (hosts.iter())
            .map(|host| {
                host.url
                    .trim_start_matches("https://")
                    .trim_end_matches(":8006")
            })
            .collect();
        assert_eq!(names.join(" "), known, "{cluster:?}");
    }
}

#[test]
fn nodes_behind_a_proxy_are_expected_on_their_own_port() {
    for (base, node) in [
        ("https://pve1:9006", "https://10.0.0.2:9006"),
        ("https://pve1:443", "https://10.0.0.2:8006"),
        ("https://pve1:9006/pve", "https://10.0.0.2:8006"),
    ] {
        let base = Base::parse(base, None).expect(base);
        assert_eq!(base.on("10.0.0.2").to_string(), node);
    }
}

#[tokio::test]
async fn each_host_has_its_own_prefix() {
    let (fake, _) = cluster(&[("pve2", Answer)]);
    let client = Client::builder("https://proxy.example.org/one")
        .host("https://pve2:8006/two")
        .api_token("root@pam!ci", "secret")
        .transport(Arc::new(fake.clone()))
        .build()
        .expect("complete");
    get(&client, "/version").await;
    assert_eq!(
        fake.lines(),
        ["GET /one/api2/json/version", "GET /two/api2/json/version"]
    );
}

#[test]
fn further_addresses_follow_the_rules_of_the_first() {
    let error = Client::builder("pve1")
        .host("http://pve2")
        .build()
        .expect_err("not encrypted");
    assert!(error.to_string().contains("http://pve2"), "{error}");
    Client::builder("pve1")
        .host("pve 2")
        .build()
        .expect_err("no address");
}

#[test]
fn refused_addresses_do_not_show_credentials() {
    for text in [
        "https://pve1/?token=hunter22",
        "https://root:hunter22@pve1",
        "https://pve1/#hunter22",
        "root:hunter22@pve1:x",
    ] {
        let error = Base::parse(text, None).expect_err(text).to_string();
        assert!(!error.contains("hunter22"), "{error}");
    }
}

#[tokio::test]
async fn discovered_addresses_follow_the_rules_of_the_first() {
    let status = r#"{"data":[
        {"type":"node","name":"pve1","ip":"10.9.8.7"},{"type":"node","name":"pve3","ip":"127.0.0.3"}
    ]}"#;
    for (url, allow, expected) in [
        ("http://127.0.0.1:8006", false, None),
        ("http://127.0.0.1:8006", true, Some("http://10.9.8.7:8006")),
        (
            "https://127.0.0.1:8006",
            false,
            Some("https://10.9.8.7:8006"),
        ),
    ] {
        let fake = Fake::new(move |_| ok(status));
        let client = Client::builder(url)
            .api_token("root@pam!ci", "secret")
            .danger_allow_http(allow)
            .transport(Arc::new(fake.clone()))
            .build()
            .expect("it may be used");
        let found = client.discover_hosts().await;
        let urls: Vec<_> = client.hosts().into_iter().map(|host| host.url).collect();
        match expected {
            Some(learned) => {
                found.expect("they may be used");
                assert!(urls.iter().any(|url| url == learned), "{urls:?}");
            }
            None => {
                let error = found.expect_err("it would be readable").to_string();
                assert!(error.contains("danger_allow_http"), "{error}");
                assert_eq!(urls, [url], "nothing is taken in");
                let call = Call::new(Method::Get, "/nodes/pve3/status");
                client.execute(call).await.expect("answered");
                let origins: Vec<_> = fake.requests().into_iter().map(|r| r.origin).collect();
                assert!(origins.iter().all(|origin| origin == url), "{origins:?}");
            }
        }
    }
}

#[tokio::test]
async fn files_are_fetched_from_the_clients_own_server_only() {
    let fake = Fake::new(|_| ok("x"));
    let client = Client::builder("pve1")
        .header("X-Gate", "hunter22")
        .transport(Arc::new(fake.clone()))
        .build()
        .expect("complete");
    for path in [
        "",
        "@evil.example.org/x",
        ":1@evil.example.org/x",
        ".evil.example.org/x",
        "x",
        "/../x",
        "/a/%2e%2e/x",
        "//evil.example.org/x",
        "/a b",
        "/a?b#c",
        "/a\r\nX: y",
    ] {
        let error = client.fetch(path).await.expect_err(path);
        assert!(matches!(error, Error::Request(_)), "{path}: {error}");
    }
    assert!(fake.requests().is_empty());
    for path in [
        "/",
        "/pve-docs/",
        "/pve-docs/api-viewer/apidoc.js",
        "/x?y=%20z/..",
    ] {
        client.fetch(path).await.expect(path);
    }
    assert!(
        fake.requests()
            .iter()
            .all(|request| request.origin == "https://pve1:8006")
    );
}

#[test]
fn unencrypted_requests_do_not_go_to_a_remote_proxy() {
    let build = |proxy: &str, allow| {
        Client::builder("http://127.0.0.1:8006")
            .proxy(proxy)
            .danger_allow_http(allow)
            .build()
    };
    let error = build("http://u:hunter22@proxy:3128", false).expect_err("it would be readable");
    let error = error.to_string();
    assert!(
        error.contains("danger_allow_http") && !error.contains("hunter22"),
        "{error}"
    );
    build("http://proxy:3128", true).expect("it is allowed");
    build("http://127.0.0.1:3128", false).expect("it stays here");
}
