//! Guests with scripted answers, for cases that the simulator does not have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{CloudInit, Guest, GuestErrorKind, Kind, Size};
use crate::error::Error;
use crate::error::ErrorKind;
use crate::pve::qemu::QemuNet;
use crate::task::AndWait;
use crate::testing::{Fake, json, ok};
use crate::transport::WireResponse;

const RESOURCES: &str = "/api2/json/cluster/resources?type=vm";

fn on(node: &str) -> String {
    format!(
        r#"{{"data":[{{"id":"qemu/101","type":"qemu","vmid":101,"node":"{node}","status":"stopped"}}]}}"#
    )
}

fn refuse(
    status: u16,
    reason: &'static str,
) -> Result<WireResponse, crate::transport::TransportError> {
    Ok(json(status, reason, ""))
}

const HA_START: &str = "UPID:pve1:00001234:0002DDA4:6B01F6EE:hastart:101:root@pam!ci:";

#[tokio::test(start_paused = true)]
async fn operations_wait_for_high_availability() {
    let looks = AtomicUsize::new(0);
    let fake = Fake::new(move |request| {
        let path = request.path.as_str();
        if path == RESOURCES {
            ok(on("pve1"))
        } else if path.ends_with("/status/start") {
            ok(format!(r#"{{"data":"{HA_START}"}}"#))
        } else if path.contains("/tasks/") {
            ok(r#"{"data":{"status":"stopped","exitstatus":"OK"}}"#)
        } else {
            // Two polls of the old node, one during the move; then it runs elsewhere.
            match looks.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => ok(r#"{"data":{"status":"stopped","vmid":101,"ha":{"managed":1}}}"#),
                2 => refuse(599, "Too many redirections"),
                _ => ok(
                    r#"{"data":{"status":"running","vmid":101,"ha":{"managed":1,"state":"started"}}}"#,
                ),
            }
        }
    });
    let guest = fake.token_client().guest(101);
    let started = guest.start().await.expect("accepted");
    assert_eq!(started.upid().map(|upid| upid.task_type()), Some("hastart"));
    started.wait().await.expect("the guest runs in the end");
    let looks = (fake.lines().iter())
        .filter(|line| line.ends_with("/status/current"))
        .count();
    assert_eq!(looks, 4);
}

#[tokio::test(start_paused = true)]
async fn high_availability_can_fail_or_take_too_long() {
    for (ha, expected) in [("error", "error"), ("queued", "within 60s")] {
        let fake = Fake::new(move |request| {
            let path = request.path.as_str();
            if path == RESOURCES {
                ok(on("pve1"))
            } else if path.ends_with("/status/start") {
                ok(format!(r#"{{"data":"{HA_START}"}}"#))
            } else if path.ends_with("/migrate") {
                let upid = HA_START.replace("hastart", "hamigrate");
                ok(format!(r#"{{"data":"{upid}"}}"#))
            } else if path.contains("/tasks/") {
                ok(r#"{"data":{"status":"stopped","exitstatus":"OK"}}"#)
            } else {
                ok(format!(
                    r#"{{"data":{{"status":"stopped","vmid":101,"ha":{{"managed":1,"state":"{ha}"}}}}}}"#
                ))
            }
        });
        let guest = fake.token_client().guest(101);
        let started = guest.start().await.expect("accepted");
        let moved = guest.migrate("pve2").await.expect("accepted");
        for order in [started, moved] {
            let waiting = order.wait().timeout(Duration::from_secs(60));
            let error = waiting.await.expect_err("it is never done").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[tokio::test]
async fn a_call_that_may_have_arrived_is_not_sent_to_another_node() {
    for (status, reason, sent) in [
        (595, "Connection refused", 2),
        (596, "Connection timed out", 1),
        (
            500,
            "hostname lookup 'pve1' failed - failed to get address info for: pve1",
            2,
        ),
        (
            500,
            "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist",
            2,
        ),
        (403, "Permission check failed (/vms/101, VM.PowerMgmt)", 1),
    ] {
        let lookups = AtomicUsize::new(0);
        let fake = Fake::new(move |request| {
            if request.path == RESOURCES {
                let first = lookups.fetch_add(1, Ordering::SeqCst) == 0;
                ok(on(if first { "pve1" } else { "pve2" }))
            } else if request.path.contains("/pve1/") {
                refuse(status, reason)
            } else {
                ok(r#"{"data":"UPID:pve2:00001234:0002DDA4:6B01F6EE:qmstart:101:root@pam!ci:"}"#)
            }
        });
        let outcome = fake.token_client().guest(101).start().await;
        assert_eq!(outcome.is_ok(), sent == 2, "{status} {reason}: {outcome:?}");
        let starts = (fake.lines().iter())
            .filter(|line| line.starts_with("POST"))
            .count();
        assert_eq!(starts, sent, "{status} {reason}");
    }
}

#[tokio::test]
async fn a_known_node_may_be_outdated_but_not_a_kind() {
    let fake = Fake::new(|request| {
        if request.path == RESOURCES {
            ok(on("pve1"))
        } else if request.path.contains("/pve1/") {
            ok(r#"{"data":{"digest":"00","cores":2}}"#)
        } else {
            refuse(
                500,
                "Configuration file 'nodes/pve9/qemu-server/101.conf' does not exist",
            )
        }
    });
    let client = fake.token_client();
    let guest = client.guest_at(101, "pve9", Kind::Qemu);
    let config = guest.qemu_config().await.expect("it is found");
    assert_eq!(config.cores, Some(2));
    let refused = guest.lxc_config().await;
    let Err(Error::Guest(refused)) = refused else {
        panic!("{refused:?}");
    };
    let wrong = GuestErrorKind::WrongKind {
        vmid: 101,
        is: Kind::Qemu,
        needed: Kind::Lxc,
    };
    assert_eq!(*refused.reason(), wrong);
    assert!(Error::Guest(refused).never_sent());
    let guess = client.guest_at(101, "pve9", Kind::Lxc);
    another(guess.status().await, true);
}

/// The number belongs to another guest, certainly or possibly.
fn another<T: std::fmt::Debug>(result: Result<T, Error>, expected: bool) {
    match result {
        Err(Error::Guest(error)) => match error.reason() {
            GuestErrorKind::AnotherGuest { certain, .. } if *certain == expected => {}
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A cluster with a guest 100 of some kind on some node with some configuration, or without it.
#[derive(Clone, Default)]
struct FakeGuest(Arc<Mutex<Option<GuestConfig>>>);

type GuestConfig = (&'static str, Kind, String);

impl FakeGuest {
    fn set(&self, node: &'static str, kind: Kind, config: &str) {
        *self.0.lock().expect("no test panics with it") = Some((node, kind, config.to_owned()));
    }

    fn remove(&self) {
        *self.0.lock().expect("no test panics with it") = None;
    }

    fn server(&self) -> Fake {
        let one = self.clone();
        Fake::new(move |request| {
            let guest = one.0.lock().expect("no test panics with it").clone();
            let answer = |body: String| {
                let mut answer = json(200, "OK", body);
                let date = "Fri, 27 Nov 2026 12:00:00 GMT".to_owned();
                answer.headers.push(("Date".to_owned(), date));
                Ok(answer)
            };
            let path = request.path.as_str();
            if path == RESOURCES {
                let rows = guest.map(|(node, kind, _)| {
                    format!(r#"{{"id":"x","vmid":100,"type":"{kind}","node":"{node}"}}"#)
                });
                return answer(format!(r#"{{"data":[{}]}}"#, rows.unwrap_or_default()));
            }
            let Some((node, kind, config)) = guest else {
                return refuse(500, "Configuration file 'x' does not exist");
            };
            if path.starts_with(&format!("/api2/json/nodes/{node}/tasks?")) {
                answer(r#"{"data":[]}"#.to_owned())
            } else if !path.starts_with(&format!("/api2/json/nodes/{node}/{kind}/100")) {
                refuse(500, "Configuration file 'x' does not exist")
            } else if path.ends_with("/config") {
                answer(format!(r#"{{"data":{config}}}"#))
            } else if path.ends_with("/current") {
                answer(r#"{"data":{"status":"stopped","vmid":100}}"#.to_owned())
            } else {
                answer(format!(
                    r#"{{"data":"UPID:{node}:00001234:0002DDA4:6B01F6EE:any:100:root@pam!ci:"}}"#
                ))
            }
        })
    }
}

/// Everything that changes a virtual machine.
async fn touch(guest: &Guest, which: usize) -> Option<Result<(), Error>> {
    touch_with(guest, which, "scsi0").await
}

/// Everything that changes a guest which has such a disk.
async fn touch_with(guest: &Guest, which: usize, disk: &str) -> Option<Result<(), Error>> {
    Some(match which {
        0 => guest.destroy().purge().await.map(drop),
        1 => guest.start().await.map(drop),
        2 => guest.shutdown().await.map(drop),
        3 => guest.make_template().await.map(drop),
        4 => guest.rollback("s").await.map(drop),
        5 => guest.delete_snapshot("s").await.map(drop),
        6 => guest.snapshot("snap").await.map(drop),
        7 => guest.resize_disk(disk, Size::By(1 << 30)).await.map(drop),
        8 => guest
            .move_disk(disk, "local")
            .delete_source()
            .await
            .map(drop),
        9 => guest.migrate("c").live(false).await.map(drop),
        10 => guest.clone_to(200).await.map(drop),
        11 => guest.add_tags(["x"]).await,
        12 => guest.destroy_disk("scsi1").await,
        13 => guest.detach("net0").await,
        14 => guest.destroy().stop_first().await.map(drop),
        15 => guest.check_migration("c").await.map(drop),
        16 => guest.agent().ping().await,
        17 => guest.interfaces().await.map(drop),
        18 => guest.set_cloud_init(CloudInit::new().user("x")).await,
        19 => guest.status().await.map(drop),
        20 => guest.stop().await.map(drop),
        21 => guest.reboot().await.map(drop),
        22 => guest.remove_tags(["x"]).await,
        23 => guest.backup("local").await.map(drop),
        24 => guest.pending().await.map(drop),
        25 => guest.snapshots().await.map(drop),
        26 => guest.disks().await.map(drop),
        27 => guest.qemu_config().await.map(drop),
        28 => guest.edit_qemu(|_, put| put.cores(2)).await,
        29 => guest.edit_qemu_by_task(|_, post| post.cores(2)).await,
        30 => guest
            .attach_net(QemuNet::from("virtio,bridge=vmbr0"))
            .await
            .map(drop),
        31 => guest.edit_net(0, |_| {}).await,
        32 => guest.regenerate_cloud_init().await,
        33 => guest.agent().write_file("/x", b"x").await,
        34 => guest.agent().exec(["true"]).await.map(drop),
        35 => guest.agent().read_file("/x").await.map(drop),
        36 => guest.suspend().await.map(drop),
        37 => guest.reset().await.map(drop),
        38 => guest.resume().await.map(drop),
        39 => guest.hibernate().await.map(drop),
        40 => guest
            .history(crate::manage::metrics::Timeframe::Hour)
            .await
            .map(drop),
        _ => return None,
    })
}

const BEFORE: &str =
    r#"{"meta":"creation-qemu=10.1.2,ctime=1000","smbios1":"uuid=aa","digest":"00"}"#;
/// Made a minute after the answers of [`One`].
const SINCE: &str =
    r#"{"meta":"creation-qemu=10.1.2,ctime=1795780860","smbios1":"uuid=bb","digest":"01"}"#;

#[tokio::test]
async fn a_reused_number_is_not_followed() {
    for which in 0.. {
        // A container instead, a machine made since, and both after the first was found missing.
        for (kind, config) in [(Kind::Lxc, r#"{"digest":"02"}"#), (Kind::Qemu, SINCE)] {
            for noticed in [false, true] {
                let cluster = FakeGuest::default();
                let fake = cluster.server();
                cluster.set("a", Kind::Qemu, BEFORE);
                let guest = fake.token_client().guest(100);
                guest.location().await.expect("it is there");
                cluster.remove();
                if noticed {
                    guest.status().await.expect_err("it is gone");
                }
                cluster.set("b", kind, config);
                let Some(outcome) = touch(&guest, which).await else {
                    return;
                };
                another(outcome, true);
                let touched =
                    |line: &String| line.contains("/nodes/b/") && !line.starts_with("GET");
                let lines = fake.lines();
                assert!(!lines.iter().any(touched), "{which}: {lines:?}");
                // `locate` accepts that guest.
                assert_eq!(guest.locate().await.expect("it is there").kind, kind);
                guest.status().await.expect("this one is meant now");
            }
        }
    }
}

#[tokio::test]
async fn every_operation_follows_a_moved_guest() {
    // Containers do not have these, and this cluster makes no backups.
    let of_machines = [12, 16, 18, 23, 27, 28, 29, 30, 31, 32, 33, 34, 35, 37, 39];
    for which in (0..).filter(|which| !of_machines.contains(which)) {
        let cluster = FakeGuest::default();
        let fake = cluster.server();
        let config = r#"{"net0":"name=eth0,hwaddr=BC:24:11:00:00:01","digest":"00"}"#;
        cluster.set("a", Kind::Lxc, config);
        let guest = fake.token_client().guest(100);
        guest.lxc_config().await.expect("it is there");
        cluster.set("b", Kind::Lxc, &config.replace("00\"", "01\""));
        match touch_with(&guest, which, "rootfs").await {
            Some(Ok(())) => {}
            // Calls that this cluster does not answer.
            Some(Err(Error::Decode(_))) => {}
            Some(Err(error)) => panic!("{which}: {error}"),
            None => return,
        }
        assert!(
            fake.lines()
                .iter()
                .any(|line| line.contains("/nodes/b/lxc/100")),
            "{which}"
        );
    }
}

#[tokio::test]
async fn irreversible_operations_require_proof_of_identity() {
    let cluster = FakeGuest::default();
    let fake = cluster.server();
    let bare = r#"{"hostname":"x","digest":"00"}"#;
    cluster.set("a", Kind::Lxc, bare);
    let client = fake.token_client();
    let guest = client.guest(100);
    guest.status().await.expect("it is there");
    cluster.set("b", Kind::Lxc, bare);
    // Nothing was read that distinguishes the containers, so harmless calls continue.
    another(guest.destroy().await, false);
    guest.start().await.expect("it is followed").detach();

    // A guest that was made again on the same node.
    cluster.set("a", Kind::Qemu, BEFORE);
    let guest = client.guest(100);
    guest.locate().await.expect("it is there");
    cluster.set("a", Kind::Qemu, SINCE);
    another(guest.destroy().await, true);
    another(guest.edit_qemu(|_, request| request.cores(2)).await, true);
    cluster.set("a", Kind::Qemu, BEFORE);
    let guest = client.guest(100);
    guest.qemu_config().await.expect("it is there");
    cluster.set("a", Kind::Qemu, &BEFORE.replace("1000", "900"));
    another(guest.add_tags(["x"]).await, true);
    assert!(
        !fake
            .lines()
            .iter()
            .any(|line| line.starts_with("DELETE") || line.starts_with("PUT"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_is_a_template_when_the_task_has_ended_that_no_answer_names() {
    const TASK: &str = "UPID:n1:00001234:0002DDA4:6B01F6EE:vztemplate:101:root@pam!ci:";
    for end in ["OK", "Template feature is not available for '/srv'"] {
        let fake = Fake::new(move |request| match request.path.as_str() {
            path if path.ends_with("/template") => ok(r#"{"data":null}"#),
            path if path.contains("/tasks?") => ok(format!(
                r#"{{"data":[{{"upid":"{TASK}","node":"n1","pid":4660,"pstart":187812,
                "starttime":1795290862,"type":"vztemplate","id":"101","user":"root@pam!ci"}}]}}"#
            )),
            path if path.contains("/log") => ok(r#"{"data":[]}"#),
            path if path.contains("/tasks/") => ok(format!(
                r#"{{"data":{{"status":"stopped","exitstatus":"{end}"}}}}"#
            )),
            _ => ok(r#"{"data":{"digest":"00"}}"#),
        });
        let guest = fake.token_client().guest_at(101, "n1", Kind::Lxc);
        let started = guest.make_template().await.expect("accepted");
        assert_eq!(
            started.upid().map(ToString::to_string).as_deref(),
            Some(TASK)
        );
        let list = fake
            .lines()
            .into_iter()
            .find(|line| line.contains("/tasks?"));
        let list = list.expect("tasks are asked for");
        for part in ["vmid=101", "typefilter=vztemplate", "source=all", "limit=1"] {
            assert!(list.contains(part), "{list}");
        }
        let ended = started.wait().await;
        assert_eq!(ended.is_ok(), end == "OK", "{ended:?}");
    }
}

/// A machine with these tags in a cluster with this `tag-style`.
fn tagged(tags: &'static str, style: &'static str) -> Fake {
    Fake::new(move |request| {
        let path = request.path.as_str();
        if path.ends_with("/cluster/options") {
            ok(format!(
                r#"{{"data":{{"tag-style":{style},"allowed-tags":[]}}}}"#
            ))
        } else if path.ends_with("/config") && request.body.is_empty() {
            ok(format!(r#"{{"data":{{"digest":"0","tags":"{tags}"}}}}"#))
        } else {
            ok(r#"{"data":null}"#)
        }
    })
}

#[tokio::test]
async fn the_clusters_rule_decides_which_tags_are_equal() {
    const SENSITIVE: &str = r#"{"case-sensitive":1}"#;
    const ORDERED: &str = r#"{"ordering":"config"}"#;
    for (tags, style, add, remove, sent, reads_style) in [
        ("prod", SENSITIVE, "Prod", "", Some("prod;Prod"), 1),
        ("prod", ORDERED, "Prod", "", None, 1),
        ("prod", "null", "Prod", "", None, 1),
        ("prod", SENSITIVE, "web", "", Some("prod;web"), 0),
        ("Prod;prod", SENSITIVE, "", "prod", Some("Prod"), 1),
        ("Prod", SENSITIVE, "", "prod", None, 1),
        ("prod;web", ORDERED, "", "PROD", Some("web"), 1),
        ("prod;web", ORDERED, "", "web", Some("prod"), 0),
    ] {
        let fake = tagged(tags, style);
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        if add.is_empty() {
            guest.remove_tags([remove]).await.expect("accepted");
        } else {
            guest.add_tags([add]).await.expect("accepted");
        }
        let requests = fake.requests();
        let puts = requests.iter().filter(|request| !request.body.is_empty());
        let puts: Vec<String> = puts
            .map(|request| {
                String::from_utf8_lossy(&request.body)
                    .replace("%3B", ";")
                    .replace("%2C", ";")
            })
            .collect();
        let case = format!("{tags} {style} {add}{remove}: {puts:?}");
        assert_eq!(puts.len(), usize::from(sent.is_some()), "{case}");
        if let Some(sent) = sent {
            assert!(
                puts[0].contains(&format!("tags={sent}&"))
                    || puts[0].ends_with(&format!("tags={sent}")),
                "{case}"
            );
        }
        let options = |line: &String| line.contains("/cluster/options");
        assert_eq!(
            fake.lines().iter().filter(|line| options(line)).count(),
            reads_style,
            "{case}"
        );
    }
}

#[tokio::test]
async fn invalid_tags_are_not_sent() {
    let fake = tagged("", "null");
    let guest = fake.token_client().guest_at(101, "n1", Kind::Lxc);
    for invalid in ["with space", "a;b", "a,b", "", "-x", "ü", "a\nb", "a b"] {
        let refused = guest.add_tags(["fits", invalid]).await.expect_err(invalid);
        assert!(
            refused.never_sent() && refused.to_string().contains("a tag"),
            "{refused}"
        );
    }
    assert!(fake.requests().is_empty());
    guest.add_tags(["_a.b+c-D9"]).await.expect("that is one");
}

#[tokio::test]
async fn a_clone_with_a_storage_is_a_full_clone() {
    for kind in [Kind::Qemu, Kind::Lxc] {
        let fake = Fake::new(|_| {
            ok(r#"{"data":"UPID:n1:00001234:0002DDA4:6B01F6EE:qmclone:9000:root@pam!ci:"}"#)
        });
        let guest = fake.token_client().guest_at(9000, "n1", kind);
        guest
            .clone_to(200)
            .storage("local-lvm")
            .await
            .expect("accepted")
            .detach();
        guest.clone_to(201).await.expect("accepted").detach();
        let linked = guest.clone_to(202).full(false).storage("local-lvm");
        let refused = linked.await.expect_err("there is no such thing");
        assert!(
            refused.never_sent() && refused.to_string().contains("linked clone"),
            "{refused}"
        );
        let bodies: Vec<String> = (fake.requests().iter())
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .collect();
        assert_eq!(bodies.len(), 2);
        assert!(
            bodies[0].contains("full=1") && !bodies[1].contains("full"),
            "{bodies:?}"
        );
    }
}

const LOCK_FILE: &str = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout";
const STORAGE: &str = "clone failed: cfs-lock 'storage-nfs' error: got lock request timeout";

/// A machine whose calls are refused a number of times with a reason, and whose tasks then fail as
/// often.
fn busy(refusals: usize, reason: &'static str, failures: usize, end: &'static str) -> Fake {
    let (mut orders, mut looks) = (0, 0);
    Fake::new(move |request| {
        let path = request.path.as_str();
        if path.contains("/tasks/") && path.contains("/log") {
            return ok(r#"{"data":[]}"#);
        }
        if path.contains("/tasks/") {
            looks += 1;
            let end = if looks > failures { "OK" } else { end };
            return ok(format!(
                r#"{{"data":{{"status":"stopped","exitstatus":"{end}"}}}}"#
            ));
        }
        if request.method == crate::value::endpoint::Method::Get {
            return ok(r#"{"data":{"status":"stopped","digest":"0"}}"#);
        }
        orders += 1;
        if orders <= refusals {
            return refuse(500, reason);
        }
        ok(r#"{"data":"UPID:n1:00001234:0002DDA4:6B01F6EE:any:101:root@pam!ci:"}"#)
    })
}

#[tokio::test(start_paused = true)]
async fn operations_that_wait_for_locks_succeed() {
    let hour = Duration::from_secs(3_600);
    for (refusals, reason, failures, end) in [
        (0, "", 0, ""),
        (3, LOCK_FILE, 0, ""),
        (3, "VM is locked (backup)", 0, ""),
        (0, "", 3, STORAGE),
        (2, "CT is locked (snapshot)", 2, LOCK_FILE),
    ] {
        let fake = busy(refusals, reason, failures, end);
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let patient = guest.wait_for_locks(hour);
        let posts = |fake: &Fake| {
            let lines = fake.lines();
            lines.iter().filter(|line| !line.starts_with("GET")).count()
        };
        patient.start().and_wait().await.expect("it comes through");
        assert_eq!(posts(&fake), 1 + refusals + failures, "{reason} {end}");

        // All other changes, too.
        for which in (0..16).filter(|which| *which != 15) {
            let fake = busy(refusals, reason, 0, "");
            let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
            let done = touch(&guest.wait_for_locks(hour), which).await;
            let done = done.expect("there are as many");
            done.unwrap_or_else(|error| panic!("{which}: {error}"));
            assert!(posts(&fake) > refusals, "{which}");
        }
        let fake = busy(refusals, reason, failures, end);
        let patient = fake
            .token_client()
            .guest_at(101, "n1", Kind::Qemu)
            .wait_for_locks(hour);
        let clone = patient
            .clone_to(200)
            .and_wait()
            .await
            .expect("it comes through");
        assert_eq!(clone.vmid(), 200);
        assert_eq!(posts(&fake), 1 + refusals + failures);
    }
}

#[tokio::test(start_paused = true)]
async fn locks_are_errors_at_once_or_after_the_time_limit() {
    for (refusals, reason, failures, end, kind) in [
        (99, LOCK_FILE, 0, "", ErrorKind::LockTimeout),
        (99, "VM is locked (backup)", 0, "", ErrorKind::Locked),
        (0, "", 99, STORAGE, ErrorKind::LockTimeout),
    ] {
        let fake = busy(refusals, reason, failures, end);
        let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
        let error = guest.start().and_wait().await.expect_err("it is locked");
        assert_eq!(error.kind(), Some(kind), "{error}");
        let posts = fake
            .lines()
            .iter()
            .filter(|line| line.starts_with("POST"))
            .count();
        assert_eq!(posts, 1);
        let patient = guest.wait_for_locks(Duration::from_secs(30));
        let error = patient.start().and_wait().await.expect_err("it is locked");
        assert_eq!(error.kind(), Some(kind), "{error}");
        let posts = fake
            .lines()
            .iter()
            .filter(|line| line.starts_with("POST"))
            .count();
        assert!((4..30).contains(&posts), "{posts}");
    }
    // Other refusals are not waited for.
    let fake = busy(99, "Permission check failed", 0, "");
    let guest = fake.token_client().guest_at(101, "n1", Kind::Qemu);
    let patient = guest.wait_for_locks(Duration::from_secs(30));
    patient.start().await.expect_err("it is refused");
    assert_eq!(fake.requests().len(), 1);
}
