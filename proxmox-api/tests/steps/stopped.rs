//! Each job on each release, cancelled at each of its writes, and with a lost answer to each of
//! them. Run again, the job continues with the existing state, and creates nothing twice.

use std::collections::BTreeSet;
use std::time::Duration;

use proxmox_api::manage::sdn::Unlock;
use proxmox_api::{Client, Error};
use proxmox_simulator::{Fault, Simulator};

use crate::matrix::{JOBS, Job, Trouble, cluster};
use crate::support::{RELEASES, Steps, start};
use crate::things::Things;

struct Scene {
    here: Simulator,
    pve: Client,
    far: Option<Simulator>,
}

impl Scene {
    async fn set(job: Job, release: &str) -> Self {
        let (here, pve) = start(cluster(release)).await;
        let far = job.far(release).await;
        let scene = Self { here, pve, far };
        let ready = job.prepare(Trouble::HalfWay, &scene.here, scene.there(), &scene.pve);
        ready.await.expect("prepared");
        // The login is not counted.
        scene.pve.version().get().await.expect("an answer");
        scene.here.clear_requests();
        scene
    }

    fn there(&self) -> &Simulator {
        self.far.as_ref().unwrap_or(&self.here)
    }

    async fn run(&self, job: Job) -> Result<(), Error> {
        job.run(&self.pve, self.there(), &Steps::default()).await
    }

    /// The final state.
    fn outline(&self, job: Job) -> BTreeSet<String> {
        // The nodes of the guests depend on free resources, and on their nodes before.
        let with_nodes = !matches!(job, Job::Drain | Job::Reboot);
        let mut all = Things::of(&self.here).outline(with_nodes);
        all.extend(Things::of(self.there()).outline(with_nodes));
        all
    }

    /// Runs the job again, and compares the result with that of a run without faults.
    async fn ends_as(&self, job: Job, wanted: &BTreeSet<String>, release: &str) -> Vec<String> {
        self.here.faults().clear();
        self.here.clock().advance(Duration::from_secs(60));
        if job == Job::Sdn && release == "9.2" {
            // The lock has no known owner, so it is released explicitly.
            self.pve.carry_out(Unlock::new()).await.expect("released");
        }
        // A guest that arrived in another cluster is not found from here: the server reports that
        // its number is taken. The server refuses to start a running guest.
        let settled = |error: &Error| match job {
            Job::OtherCluster => error.to_string().contains("already exists on remote"),
            Job::Locks => error.to_string().contains("already running"),
            _ => false,
        };
        match job.again(&self.pve, self.there(), true).await {
            Err(error) if !settled(&error) => vec![format!("again: {error}")],
            _ => {
                let there = self.outline(job);
                let differ = wanted.symmetric_difference(&there);
                differ.map(|what| format!("differs: {what}")).collect()
            }
        }
    }
}

/// The positions of the writes among all requests, and the final state.
async fn undisturbed(job: Job, release: &str) -> (Vec<u32>, BTreeSet<String>) {
    let scene = Scene::set(job, release).await;
    let ended = scene.run(job).await;
    ended.unwrap_or_else(|error| panic!("{release} {job:?}: {error}"));
    let requests = scene.here.requests();
    let places = requests.iter().zip(0..);
    let writes = places.filter(|(request, _)| request.method != "GET");
    (writes.map(|(_, place)| place).collect(), scene.outline(job))
}

#[tokio::test]
async fn a_cancelled_job_completes_when_run_again() {
    let mut wrong = Vec::new();
    let mut cuts = 0;
    for (job, _, _) in JOBS {
        for release in RELEASES {
            let (writes, wanted) = undisturbed(job, release).await;
            for place in writes {
                let scene = Scene::set(job, release).await;
                let fault = scene.here.faults().on("*", "/**");
                let hung = fault.skip(place).times(1).respond(Fault::Hang);
                let reached = async {
                    while hung.hits() == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                // The caller drops the future there.
                tokio::select! {
                    ended = scene.run(job) => panic!("{release} {job:?} {place}: {ended:?}"),
                    () = reached => {}
                }
                cuts += 1;
                let odd = scene.ends_as(job, &wanted, release).await;
                wrong.extend(
                    odd.iter()
                        .map(|odd| format!("{release} {job:?} {place}: {odd}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cuts > 3 * JOBS.len(), "{cuts}");
}

#[tokio::test]
async fn a_job_with_a_lost_answer_reports_it_and_completes_when_run_again() {
    let mut wrong = Vec::new();
    for (job, _, _) in JOBS {
        for release in RELEASES {
            let (writes, wanted) = undisturbed(job, release).await;
            for place in writes {
                let scene = Scene::set(job, release).await;
                let before = Things::of(&scene.here);
                let fault = scene.here.faults().on("*", "/**");
                let lost = fault.skip(place).times(1).respond(Fault::DropAnswer);
                let ended = scene.run(job).await;
                assert_eq!(lost.hits(), 1, "{release} {job:?} {place}");
                let mut odd = Vec::new();
                if let Err(error) = ended {
                    let (left, cause) = match &error {
                        Error::Unfinished(error) => (error.left().to_vec(), error.cause().clone()),
                        error => (Vec::new(), error.clone()),
                    };
                    // The error of the request itself says that the server may have processed it.
                    let open = matches!(cause, Error::Interrupted(_) | Error::Timeout(_));
                    let named: BTreeSet<String> =
                        left.iter().map(|left| left.subject.to_string()).collect();
                    let changed = Things::of(&scene.here).changed_since(&before);
                    if !open && !changed.is_subset(&named) {
                        odd.push(format!("{error}: changed {changed:?}"));
                    }
                }
                odd.extend(scene.ends_as(job, &wanted, release).await);
                wrong.extend(
                    odd.iter()
                        .map(|odd| format!("{release} {job:?} {place}: {odd}")),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
