//! Containers from templates and OCI images.

use proxmox_api::manage::container::{Container, Template, oci_tags};
use proxmox_api::manage::guest::PowerState;
use proxmox_api::manage::work::Subject;
use proxmox_simulator::{Builder, Fault, Simulator, last_of_each_major};

use crate::support::{is_since, left, start, subjects};

const IMAGE: &str = "docker.io/library/nginx:1.29";

fn cluster(release: &str) -> Builder {
    let builder = Simulator::builder()
        .release(release)
        .node("pve1")
        .node("pve2");
    builder
        .oci_image(IMAGE)
        .oci_image("docker.io/library/nginx:1.28")
}

#[tokio::test]
async fn the_newest_template_becomes_a_container() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let web = Container::new("web", Template::named("debian-13-standard")).node("pve1");
        let web = web.ids(6000..=6009).disk("local-lvm", 2);
        let created = pve.carry_out(web.clone()).await;
        let created = created.unwrap_or_else(|error| panic!("{release}: {error}"));
        assert!(created.new && created.guest.vmid() == 6000);
        assert_eq!(
            created.guest.status().await.unwrap().state,
            PowerState::Running
        );
        assert_eq!(created.guest.disks().await.unwrap()[0].size, Some(2 << 30));
        assert_eq!(simulator.count_requests("POST", "/nodes/pve1/aplinfo"), 1);

        let again = pve.carry_out(web.clone()).await.unwrap();
        assert!(!again.new);
        let second = Container::new("web2", Template::named("debian-13-standard")).node("pve1");
        pve.carry_out(second.disk("local-lvm", 2)).await.unwrap();
        assert_eq!(
            simulator.count_requests("POST", "/nodes/pve1/aplinfo"),
            1,
            "it is there"
        );
        for template in [
            Template::named("debian-99"),
            Template::version("debian-13-standard", "1"),
        ] {
            let (rest, cause) = left(pve.carry_out(template.on("pve1")).await);
            assert!(rest.is_empty() && cause.never_sent(), "{release}: {cause}");
        }
    }
}

#[tokio::test]
async fn an_oci_image_becomes_a_container_on_releases_that_support_it() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let web = Container::new("nginx", Template::oci(IMAGE)).node("pve2");
        let web = web.environment([("TZ", "UTC"), ("A", "b c")]);
        let created = pve.carry_out(web.clone()).await;
        if !is_since(release, "9.1") {
            let (rest, cause) = left(created);
            assert!(rest.is_empty() && cause.never_sent(), "{cause}");
            assert!(cause.to_string().contains("since release 9.1"), "{cause}");
            continue;
        }
        let created = created.unwrap_or_else(|error| panic!("{release}: {error}"));
        assert_eq!(
            created.guest.status().await.unwrap().state,
            PowerState::Running
        );
        let requests = simulator.requests();
        let create = requests
            .iter()
            .find(|request| request.method == "POST" && request.path == "/nodes/pve2/lxc");
        let create = create.unwrap();
        assert_eq!(create.params["env"], "TZ=UTC\0A=b c");
        assert_eq!(create.params["ostemplate"], "local:vztmpl/nginx_1.29.tar");
        let mut tags = oci_tags(&pve, "pve1", "docker.io/library/nginx")
            .await
            .unwrap();
        tags.sort();
        assert_eq!(tags, ["1.28", "1.29"]);
        pve.carry_out(web).await.unwrap();
        let pull = "/nodes/pve2/storage/local/oci-registry-pull";
        assert_eq!(simulator.count_requests("POST", pull), 1);
        let unknown = Template::oci("docker.io/library/nginx:9").on("pve2");
        let (rest, cause) = left(pve.carry_out(unknown).await);
        assert!(
            rest.is_empty() && cause.to_string().contains("manifest unknown"),
            "{cause}"
        );
    }
}

#[tokio::test]
async fn a_failure_names_what_is_left_and_can_be_continued() {
    for release in last_of_each_major() {
        let (simulator, pve) = start(cluster(release)).await;
        let web = Container::new("web", Template::named("debian-13-standard")).node("pve1");
        let web = web.ids(6000..=6009);
        let fault = || Fault::TaskFails("no space left".into());
        simulator
            .faults()
            .on("POST", "/nodes/*/aplinfo")
            .times(1)
            .respond(fault());
        let (rest, _) = left(pve.carry_out(web.clone()).await);
        assert!(rest.is_empty(), "{release}: {rest:?}");
        simulator
            .faults()
            .on("POST", "/nodes/*/lxc")
            .times(1)
            .respond(fault());
        let (rest, _) = left(pve.carry_out(web.clone()).await);
        assert!(
            matches!(&subjects(&rest)[..], [Subject::Volume(_)]),
            "{release}: {rest:?}"
        );
        simulator
            .faults()
            .on("POST", "/nodes/*/lxc/*/status/start")
            .times(1)
            .respond(fault());
        let (rest, _) = left(pve.carry_out(web.clone()).await);
        assert_eq!(
            subjects(&rest),
            [Subject::Guest(6000)],
            "{release}: {rest:?}"
        );
        simulator.set_lock(6000, Some("backup"));
        let (_, cause) = left(pve.carry_out(web.clone()).await);
        assert!(cause.to_string().contains("locked"), "{release}: {cause}");
        simulator.set_lock(6000, None);
        let created = pve.carry_out(web.clone()).await.unwrap();
        assert!(!created.new);
        simulator.set_online("pve1", false);
        let (rest, _) = left(pve.carry_out(web.ids(6001..=6009)).await);
        assert!(rest.is_empty(), "{release}: {rest:?}");
    }
}
