//! High availability of guests, across groups and rules.

use std::collections::BTreeSet;

use proxmox_api::manage::ha::{HaView, HaWanted};
use proxmox_api::manage::work::{Ensured, Subject};
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{ha_settings_path, is_since, left, start, subjects};

fn cluster(release: &str) -> Builder {
    let mut builder = Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2");
    for vmid in [101, 102, 103] {
        builder = builder.qemu(vmid, "pve1", &[]);
    }
    builder.lxc(201, "pve1", &[("rootfs", "local-lvm:1")])
}

#[tokio::test]
async fn the_same_settings_work_on_every_release() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let wanted = HaWanted::of(101)
            .state("stopped")
            .nodes([("pve1", 2), ("pve2", 1)])
            .strict()
            .failback(false)
            .max_restart(3)
            .comment("db");
        let ensured = pve.carry_out(wanted.clone()).await;
        assert_eq!(
            ensured.unwrap_or_else(|e| panic!("{release}: {e}")),
            Ensured::Created
        );
        let view = HaView::fetch(&pve).await.unwrap();
        let guest = &view.guests[&101];
        assert_eq!(guest.state, "stopped", "{release}");
        let nodes = guest.nodes.as_ref().unwrap();
        assert!(nodes.strict && nodes.priorities["pve1"] == 2, "{release}");
        assert!(
            !guest.failback && guest.max_restart == 3,
            "{release}: {guest:?}"
        );
        assert!(view.allows(101, "pve2") && !view.allows(101, "pve3"));

        simulator.clear_requests();
        assert_eq!(
            pve.carry_out(wanted.clone()).await.unwrap(),
            Ensured::Found,
            "{release}"
        );
        assert!(
            simulator
                .requests()
                .iter()
                .all(|request| request.method == "GET")
        );
        let moved = wanted.clone().nodes([("pve2", 0)]);
        let Ensured::Changed(_) = pve.carry_out(moved).await.unwrap() else {
            panic!("{release}: other nodes");
        };
        let view = HaView::fetch(&pve).await.unwrap();
        assert!(!view.allows(101, "pve1"), "{release}");

        pve.carry_out(HaWanted::of(201).state("stopped"))
            .await
            .unwrap();
        pve.carry_out(HaWanted::none_of(101)).await.unwrap();
        assert_eq!(
            pve.carry_out(HaWanted::none_of(101)).await.unwrap(),
            Ensured::Found
        );
        let view = HaView::fetch(&pve).await.unwrap();
        assert_eq!(
            view.guests.keys().copied().collect::<Vec<_>>(),
            [201],
            "{release}"
        );
    }
}

#[tokio::test]
async fn guests_are_kept_together_and_apart_on_releases_with_rules() {
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release)).await;
        for vmid in [101, 102, 103] {
            pve.carry_out(HaWanted::of(vmid).state("stopped"))
                .await
                .unwrap();
        }
        let apart = HaWanted::of(101).apart_from([102, 103]);
        let ensured = pve.carry_out(apart).await;
        if !is_since(release, "9.0") {
            let (rest, cause) = left(ensured);
            assert!(rest.is_empty() && cause.never_sent(), "{cause}");
            assert!(cause.to_string().contains("need release 9.0"), "{cause}");
            continue;
        }
        ensured.unwrap();
        let view = HaView::fetch(&pve).await.unwrap();
        assert_eq!(view.guests[&101].apart, BTreeSet::from([102, 103]));
        assert_eq!(view.guests[&102].apart, BTreeSet::from([101, 103]));
        pve.carry_out(HaWanted::of(101).apart_from([102]))
            .await
            .unwrap();
        let view = HaView::fetch(&pve).await.unwrap();
        assert_eq!(view.guests[&101].apart, BTreeSet::from([102]));
        // The rule is removed with the guest.
        pve.carry_out(HaWanted::none_of(102)).await.unwrap();
        let view = HaView::fetch(&pve).await.unwrap();
        assert!(view.guests[&101].apart.is_empty());
    }
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let wanted = HaWanted::of(101).state("stopped").nodes([("pve1", 1)]);
        // The second of the two steps is refused.
        let path = ha_settings_path(release);
        let fault = Fault::Status(
            500,
            "cfs-lock 'domain-ha' error: got lock request timeout".into(),
        );
        simulator.faults().on("POST", path).times(1).respond(fault);
        let (rest, cause) = left(pve.carry_out(wanted.clone()).await);
        let subject = match is_since(release, "9.0") {
            true => Subject::Guest(101),
            false => Subject::Other("group nodes-of-101".into()),
        };
        assert_eq!(subjects(&rest), [subject], "{release}: {cause}");
        pve.carry_out(wanted).await.unwrap();
        let view = HaView::fetch(&pve).await.unwrap();
        assert!(view.guests[&101].nodes.is_some(), "{release}");
        let (rest, _) = left(pve.carry_out(HaWanted::of(999)).await);
        assert!(rest.is_empty());
    }
}
