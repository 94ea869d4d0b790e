//! The software-defined network as a unit.

use std::time::Duration;

use proxmox_api::Client;
use proxmox_api::manage::sdn::{Network, Unlock};
use proxmox_api::value::endpoint::Method;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major, newest_release};

use crate::support::{left, start};

fn cluster(release: &str) -> Builder {
    Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2")
}

fn lab() -> Network {
    Network::new()
        .zone("lab", "simple", [])
        .vnet("labnet", "lab", [("alias", "the lab")])
        .subnet("labnet", "10.20.0.0/24", [("gateway", "10.20.0.1")])
}

async fn rows(pve: &Client, path: &str, how: &str) -> Vec<String> {
    let rows = pve
        .request::<proxmox_api::Value>(Method::Get, path)
        .param(how.to_owned(), true)
        .await
        .expect("it is there");
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| {
        format!(
            "{}{}",
            row["zone"].as_str().unwrap_or("?"),
            row["state"].as_str().unwrap_or("")
        )
    })
    .collect()
}

#[tokio::test]
async fn wanted_changes_are_applied_and_found_again() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let changes = pve.carry_out(lab()).await;
        assert_eq!(
            changes.unwrap_or_else(|error| panic!("{release}: {error}")),
            3
        );
        assert_eq!(
            rows(&pve, "/cluster/sdn/zones", "running").await,
            ["lab"],
            "{release}"
        );
        assert_eq!(
            rows(&pve, "/cluster/sdn/vnets", "pending").await,
            ["lab"],
            "{release}"
        );
        simulator.clear_requests();
        assert_eq!(pve.carry_out(lab()).await.unwrap(), 0, "{release}");
        let applied = simulator.requests().into_iter();
        let applied = applied.filter(|request| request.method == "PUT");
        assert_eq!(applied.count(), 0, "{release}");
        let other = Network::new().vnet("labnet", "lab", [("alias", "other")]);
        assert_eq!(pve.carry_out(other).await.unwrap(), 1, "{release}");
        let gone = Network::new()
            .no_subnet("labnet", "10.20.0.0/24")
            .no_vnet("labnet")
            .no_zone("lab");
        assert_eq!(pve.carry_out(gone).await.unwrap(), 3, "{release}");
        assert!(rows(&pve, "/cluster/sdn/zones", "running").await.is_empty());
    }
}

#[tokio::test]
async fn a_failed_change_is_rolled_back() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        pve.carry_out(lab()).await.unwrap();
        let more = || {
            Network::new()
                .zone("z2", "simple", [])
                .vnet("labnet", "lab", [("alias", "x")])
                .subnet("labnet", "10.21.0.0/24", [])
                .vnet("n2", "z2", [])
        };
        let refused = || Fault::Status(500, "no".into());
        simulator
            .faults()
            .on("POST", "/cluster/sdn/vnets")
            .times(1)
            .respond(refused());
        let (rest, cause) = left(pve.carry_out(more()).await);
        assert!(rest.is_empty(), "{release}: {cause} {rest:?}");
        assert_eq!(
            rows(&pve, "/cluster/sdn/zones", "pending").await,
            ["lab"],
            "{release}"
        );
        let vnets = pve
            .request::<proxmox_api::Value>(Method::Get, "/cluster/sdn/vnets")
            .param("pending", true)
            .await
            .unwrap();
        assert_eq!(vnets[0]["alias"], "the lab", "{release}");
        assert!(vnets[0].get("state").is_none(), "{release}: {vnets}");
        let subnets =
            pve.request::<proxmox_api::Value>(Method::Get, "/cluster/sdn/vnets/labnet/subnets");
        let subnets = subnets.await.unwrap();
        assert_eq!(subnets[0]["cidr"], "10.20.0.0/24", "{release}");
        assert!(subnets.get(1).is_none(), "{release}: {subnets}");

        // Applying fails: the plan stays, and the error says so.
        let fault = Fault::TaskFails("reload failed".into());
        simulator
            .faults()
            .on("PUT", "/cluster/sdn")
            .times(1)
            .respond(fault);
        let (rest, _) = left(pve.carry_out(more()).await);
        assert!(
            rest.iter().any(|left| left.state.contains("planned")),
            "{release}: {rest:?}"
        );
        // Planned changes count as those of others, unless a setting allows them.
        let (rest, cause) = left(pve.carry_out(more()).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("pending changes of others"),
            "{release}: {cause}"
        );
        let change = Network::new()
            .vnet("labnet", "lab", [("alias", "y")])
            .with_others();
        pve.carry_out(change)
            .await
            .unwrap_or_else(|error| panic!("{release}: {error}"));
        assert_eq!(
            rows(&pve, "/cluster/sdn/zones", "running").await,
            ["lab", "z2"],
            "{release}"
        );
    }
}

#[tokio::test]
async fn waiting_for_a_lock_on_releases_that_have_one() {
    let (simulator, pve) = start(cluster(newest_release())).await;
    pve.cluster().sdn().lock().post().await.unwrap();
    let (rest, cause) = left(pve.carry_out(lab()).await);
    assert!(
        rest.is_empty() && cause.to_string().contains("lock"),
        "{cause}"
    );
    let patient = pve.carry_out(lab()).wait_for_locks(Duration::from_secs(30));
    let other = pve.clone();
    let unlock = async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        other.carry_out(Unlock::new()).await.unwrap();
    };
    let (changes, ()) = tokio::join!(patient, unlock);
    assert_eq!(changes.unwrap(), 3);
    // The lock is released.
    pve.carry_out(Network::new().zone("z2", "simple", []))
        .await
        .unwrap();
    simulator.set_online("pve1", true);
}

#[tokio::test]
async fn waiting_for_a_lock_does_not_wait_for_pending_changes() {
    let (_simulator, pve) = start(cluster(newest_release())).await;
    let request = pve.request::<proxmox_api::Value>(Method::Post, "/cluster/sdn/controllers");
    let controller = request
        .param("type", "evpn")
        .param("controller", "shop1")
        .param("asn", 65_001)
        .param("peers", "192.0.2.7");
    controller.await.unwrap();
    let waiting = pve
        .carry_out(lab())
        .wait_for_locks(Duration::from_secs(1_000_000));
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting.into_future()).await;
    let (rest, cause) = left(ended.expect("it does not wait"));
    assert!(rest.is_empty(), "{rest:?}");
    assert!(cause.to_string().contains("pending changes"), "{cause}");
}
