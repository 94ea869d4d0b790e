//! Guests against scripted answers, for what a simulated server does not do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{GuestErrorKind, Kind};
use crate::error::Error;
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
async fn high_availability_is_followed_to_the_guests_state() {
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
            // Two looks at the old node, one while the guest is on its way, then it runs elsewhere.
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
    let started = guest.start().await.expect("the order is taken");
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
        let started = guest.start().await.expect("the order is taken");
        let moved = guest.migrate("pve2").await.expect("the order is taken");
        for order in [started, moved] {
            let waiting = order.wait().timeout(Duration::from_secs(60));
            let error = waiting.await.expect_err("it is never done").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[tokio::test]
async fn a_call_that_may_have_arrived_is_not_sent_elsewhere() {
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
async fn a_wrong_guess_of_the_kind_is_looked_up() {
    let fake = Fake::new(|request| {
        if request.path == RESOURCES {
            ok(on("pve1"))
        } else {
            ok(r#"{"data":{"digest":"00","cores":2}}"#)
        }
    });
    let guest = fake.token_client().guest_at(101, "pve9", Kind::Lxc);
    let config = guest.qemu_config().await.expect("it is a machine");
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
}
