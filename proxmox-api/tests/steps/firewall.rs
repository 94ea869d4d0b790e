//! Firewall rules by content.

use proxmox_api::Client;
use proxmox_api::manage::firewall::{Alias, IpSet, Rule, RuleChange, Rules, Scope};
use proxmox_api::manage::sdn::Network;
use proxmox_api::manage::work::Ensured;
use proxmox_api::value::endpoint::Method;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{left, start};

fn cluster(release: &str) -> Builder {
    let builder = Simulator::builder().release(release).node("pve1");
    builder
        .qemu(101, "pve1", &[])
        .lxc(201, "pve1", &[("rootfs", "local-lvm:1")])
}

fn ports(ports: impl IntoIterator<Item = u16>) -> Vec<Rule> {
    ports
        .into_iter()
        .map(|port| Rule::accept_in().port("tcp", port))
        .collect()
}

/// The ports of the rules, in their order.
async fn listed(pve: &Client, path: &str) -> Vec<String> {
    let rules = pve
        .request::<proxmox_api::Value>(Method::Get, path)
        .await
        .expect("it is there");
    let rows = rules.as_array().expect("a list").iter();
    rows.map(|row| row["dport"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[tokio::test]
async fn every_scope_has_exactly_the_rules_that_are_wanted() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let mut scopes = vec![
            (Scope::Cluster, "/cluster/firewall/rules"),
            (Scope::Node("pve1".into()), "/nodes/pve1/firewall/rules"),
            (Scope::Group("web".into()), "/cluster/firewall/groups/web"),
            (Scope::Guest(101), "/nodes/pve1/qemu/101/firewall/rules"),
            (Scope::Guest(201), "/nodes/pve1/lxc/201/firewall/rules"),
        ];
        if release != "7.4" {
            let net = Network::new().zone("zz", "simple", []).vnet("nn", "zz", []);
            pve.carry_out(net).await.unwrap();
            scopes.push((
                Scope::Vnet("nn".into()),
                "/cluster/sdn/vnets/nn/firewall/rules",
            ));
        }
        for (scope, path) in scopes {
            let make = |list: &[u16]| match scope {
                Scope::Vnet(_) => (list.iter())
                    .map(|port| Rule::forward("ACCEPT").port("tcp", port))
                    .collect(),
                _ => ports(list.iter().copied()),
            };
            let first = Rules::exactly(scope.clone(), make(&[22, 80, 443, 25]));
            let planned = first.plan(&pve).await.unwrap();
            assert_eq!(planned.len(), 4, "{release} {scope}");
            pve.carry_out(first.clone())
                .await
                .unwrap_or_else(|e| panic!("{release} {scope}: {e}"));
            assert_eq!(
                listed(&pve, path).await,
                ["22", "80", "443", "25"],
                "{release} {scope}"
            );
            let rows = pve
                .request::<proxmox_api::Value>(Method::Get, path)
                .await
                .unwrap();
            assert_eq!(rows[0]["enable"].to_string().trim_matches('"'), "1");
            simulator.clear_requests();
            assert_eq!(pve.carry_out(first).await.unwrap(), 0);
            assert!(
                simulator
                    .requests()
                    .iter()
                    .all(|request| request.method == "GET")
            );
            let other = Rules::exactly(scope.clone(), make(&[443, 22, 53]));
            pve.carry_out(other).await.unwrap();
            assert_eq!(
                listed(&pve, path).await,
                ["443", "22", "53"],
                "{release} {scope}"
            );
        }
    }
}

#[tokio::test]
async fn single_rules_are_found_at_any_position() {
    for release in last_of_each_major() {
        let (_simulator, pve) = start(cluster(release)).await;
        let path = "/cluster/firewall/rules";
        let of = || Rules::of(Scope::Cluster);
        pve.carry_out(Rules::exactly(Scope::Cluster, ports([1, 2, 3, 4])))
            .await
            .unwrap();
        let [two, nine, four] = [2, 9, 4].map(|port| ports([port]).remove(0));
        let change = of()
            .without(two.clone())
            .first(nine.clone())
            .with(four.clone());
        let plan = change.plan(&pve).await.unwrap();
        assert_eq!(
            plan,
            [RuleChange::Remove(two), RuleChange::Add(0, nine)],
            "{release}"
        );
        pve.carry_out(change.clone()).await.unwrap();
        assert_eq!(listed(&pve, path).await, ["9", "1", "3", "4"]);
        assert_eq!(pve.carry_out(change).await.unwrap(), 0);
        pve.carry_out(of().last(ports([1]).remove(0)))
            .await
            .unwrap();
        assert_eq!(listed(&pve, path).await, ["9", "3", "4", "1"], "{release}");
    }
}

#[tokio::test]
async fn sets_and_aliases_reach_the_wanted_state() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        for scope in [Scope::Cluster, Scope::Guest(101)] {
            let alias = Alias::of(scope.clone(), "office", "192.0.2.0/24");
            assert_eq!(
                pve.carry_out(alias.clone()).await.unwrap(),
                Ensured::Created
            );
            assert_eq!(
                pve.carry_out(alias).await.unwrap(),
                Ensured::Found,
                "{release}"
            );
            let alias = Alias::of(scope.clone(), "office", "192.0.2.0/25");
            let changed = pve.carry_out(alias).await.unwrap();
            assert_eq!(changed, Ensured::Changed(vec!["cidr".into()]));

            let set = IpSet::of(scope.clone(), "admins").member("192.0.2.7");
            let both = set.clone().member_for("192.0.2.8", "second");
            assert_eq!(pve.carry_out(both.clone()).await.unwrap(), Ensured::Created);
            assert_eq!(
                pve.carry_out(both.clone()).await.unwrap(),
                Ensured::Found,
                "{release}"
            );
            let less = pve.carry_out(set.clone()).await.unwrap();
            assert_eq!(less, Ensured::Changed(vec!["192.0.2.8".into()]));
            // The third member is refused: the two before exist, and the error says so.
            let fault = Fault::Status(500, "can't lock file".into());
            let path = "/**/ipset/admins";
            let all = both.member("192.0.2.9");
            let hit = simulator
                .faults()
                .on("POST", path)
                .skip(1)
                .times(1)
                .respond(fault);
            let (rest, _) = left(pve.carry_out(all.clone()).await);
            assert_eq!((hit.hits(), rest.len()), (1, 1), "{release} {scope}");
            pve.carry_out(all).await.unwrap();
        }
        let none = IpSet::of(Scope::Node("pve1".into()), "x");
        let (_, cause) = left(pve.carry_out(none).await);
        assert!(cause.never_sent(), "{cause}");
    }
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let path = "/cluster/firewall/rules";
        let rules = Rules::exactly(Scope::Cluster, ports([22, 80, 443]));
        let fault = Fault::Status(
            500,
            "can't lock file '/var/lock/pve-firewall.lck' - got timeout".into(),
        );
        simulator
            .faults()
            .on("POST", path)
            .skip(2)
            .times(1)
            .respond(fault);
        let (rest, cause) = left(pve.carry_out(rules.clone()).await);
        assert_eq!(rest.len(), 1, "{release}: {cause}");
        assert_eq!(
            rest[0].to_string(),
            "rules of the cluster had 2 changes; more are needed"
        );
        assert_eq!(listed(&pve, path).await.len(), 2);
        // Another client was faster once.
        let stale = Fault::Status(
            500,
            "detected modified configuration - file changed by other user? Try again.".into(),
        );
        simulator.faults().on("POST", path).times(1).respond(stale);
        pve.carry_out(rules).await.unwrap();
        assert_eq!(listed(&pve, path).await, ["22", "80", "443"], "{release}");
        // Every change except the first of an empty list has a digest.
        let requests = simulator.requests();
        let writes = (requests.iter()).filter(|request| {
            request.method != "GET" && request.status == 200 && request.path == path
        });
        let bare = writes.filter(|request| request.params.get("digest").is_none());
        assert_eq!(bare.count(), 1, "{release}");
        // The rules are the cluster's, so an offline node does not matter.
        simulator.set_online("pve1", false);
        let guest = Rules::exactly(Scope::Guest(101), ports([1]));
        assert_eq!(pve.carry_out(guest).await.unwrap(), 1, "{release}");
    }
}
