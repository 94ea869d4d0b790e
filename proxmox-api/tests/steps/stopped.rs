//! Each job on each release, cancelled at each of its writes, and with a lost answer to each of
//! them. Run again, the job continues with the existing state, and creates nothing twice.

use std::collections::BTreeSet;
use std::time::Duration;

use proxmox_api::manage::sdn::Unlock;
use proxmox_api::{Client, Error};
use proxmox_simulator::{Fault, Simulator, last_of_each_major};

use crate::cluster_state::ClusterState;
use crate::matrix::{Disruption, JOBS, Job, cluster};
use crate::support::{Steps, is_since, start};

struct Fixture {
    local: Simulator,
    pve: Client,
    remote_cluster: Option<Simulator>,
}

impl Fixture {
    async fn start(job: Job, release: &str) -> Self {
        let (local, pve) = start(cluster(release)).await;
        let remote_cluster = job.remote_cluster(release).await;
        let fixture = Self {
            local,
            pve,
            remote_cluster,
        };
        let ready = job.prepare(
            Disruption::FailsHalfway,
            &fixture.local,
            fixture.remote(),
            &fixture.pve,
        );
        ready.await.expect("prepared");
        // The login is not counted.
        fixture.pve.version().get().await.expect("an answer");
        fixture.local.clear_requests();
        fixture
    }

    fn remote(&self) -> &Simulator {
        self.remote_cluster.as_ref().unwrap_or(&self.local)
    }

    async fn run(&self, job: Job) -> Result<(), Error> {
        job.run(&self.pve, self.remote(), &Steps::default()).await
    }

    /// The final state.
    fn outline(&self, job: Job) -> BTreeSet<String> {
        // The nodes of the guests depend on free resources, and on their nodes before.
        let with_nodes = !matches!(job, Job::Drain | Job::Reboot);
        let mut all = ClusterState::of(&self.local).outline(with_nodes);
        all.extend(ClusterState::of(self.remote()).outline(with_nodes));
        all
    }

    /// Runs the job again, and compares the result with that of a run without faults.
    async fn problems_after_rerun(
        &self,
        job: Job,
        expected: &BTreeSet<String>,
        release: &str,
    ) -> Vec<String> {
        self.local.faults().clear();
        self.local.clock().advance(Duration::from_secs(60));
        if job == Job::Sdn && is_since(release, "9.0") {
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
        match job.again(&self.pve, self.remote(), true).await {
            Err(error) if !settled(&error) => vec![format!("again: {error}")],
            _ => {
                let state = self.outline(job);
                let differ = expected.symmetric_difference(&state);
                differ.map(|what| format!("differs: {what}")).collect()
            }
        }
    }
}

/// The positions of the writes among all requests, and the final state.
async fn run_without_faults(job: Job, release: &str) -> (Vec<u32>, BTreeSet<String>) {
    let fixture = Fixture::start(job, release).await;
    let ended = fixture.run(job).await;
    ended.unwrap_or_else(|error| panic!("{release} {job:?}: {error}"));
    let requests = fixture.local.requests();
    let positions = requests.iter().zip(0..);
    let writes = positions.filter(|(request, _)| request.method != "GET");
    (
        writes.map(|(_, position)| position).collect(),
        fixture.outline(job),
    )
}

#[tokio::test]
async fn a_cancelled_job_completes_when_run_again() {
    let mut failures = Vec::new();
    let mut cuts = 0;
    for (job, _, _) in JOBS {
        for release in last_of_each_major() {
            let (writes, expected) = run_without_faults(job, release).await;
            for position in writes {
                let fixture = Fixture::start(job, release).await;
                let fault = fixture.local.faults().on("*", "/**");
                let hung = fault.skip(position).times(1).respond(Fault::Hang);
                let reached = async {
                    while hung.hits() == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                // The caller drops the future there.
                tokio::select! {
                    ended = fixture.run(job) => panic!("{release} {job:?} {position}: {ended:?}"),
                    () = reached => {}
                }
                cuts += 1;
                let problems = fixture.problems_after_rerun(job, &expected, release).await;
                failures.extend(
                    problems
                        .iter()
                        .map(|problem| format!("{release} {job:?} {position}: {problem}")),
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cuts > 3 * JOBS.len(), "{cuts}");
}

#[tokio::test]
async fn a_job_with_a_lost_answer_reports_it_and_completes_when_run_again() {
    let mut failures = Vec::new();
    for (job, _, _) in JOBS {
        for release in last_of_each_major() {
            let (writes, expected) = run_without_faults(job, release).await;
            for position in writes {
                let fixture = Fixture::start(job, release).await;
                let before = ClusterState::of(&fixture.local);
                let fault = fixture.local.faults().on("*", "/**");
                let lost = fault.skip(position).times(1).respond(Fault::DropAnswer);
                let ended = fixture.run(job).await;
                assert_eq!(lost.hits(), 1, "{release} {job:?} {position}");
                let mut problems = Vec::new();
                if let Err(error) = ended {
                    let (left, cause) = match &error {
                        Error::Unfinished(error) => (error.left().to_vec(), error.cause().clone()),
                        error => (Vec::new(), error.clone()),
                    };
                    // The error of the request itself says that the server may have processed it.
                    let open = matches!(cause, Error::Interrupted(_) | Error::Timeout(_));
                    let named: BTreeSet<String> =
                        left.iter().map(|left| left.subject.to_string()).collect();
                    let changed = ClusterState::of(&fixture.local).changed_since(&before);
                    if !open && !changed.is_subset(&named) {
                        problems.push(format!("{error}: changed {changed:?}"));
                    }
                }
                problems.extend(fixture.problems_after_rerun(job, &expected, release).await);
                failures.extend(
                    problems
                        .iter()
                        .map(|problem| format!("{release} {job:?} {position}: {problem}")),
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
