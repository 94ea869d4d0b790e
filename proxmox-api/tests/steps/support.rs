//! Shared parts of these tests.

use std::sync::{Arc, Mutex};

use proxmox_api::client::limit::RateLimit;
use proxmox_api::manage::work::{Left, Step, Subject};
use proxmox_api::value::endpoint::Release;
use proxmox_api::{Client, Error};
use proxmox_simulator::{Builder, ROOT_PASSWORD, Simulator};

pub(crate) const GIB: u64 = 1 << 30;

/// Whether a release is `first` or newer.
pub(crate) fn is_since(release: &str, first: &str) -> bool {
    let parse = |text: &str| -> Release { text.parse().expect("a release") };
    parse(release) >= parse(first)
}

/// Where the nodes of a guest are set: in a rule, or before 9.0 in a group that its resource names.
pub(crate) fn ha_settings_path(release: &str) -> &'static str {
    match is_since(release, "9.0") {
        true => "/cluster/ha/rules",
        false => "/cluster/ha/resources",
    }
}

/// A server with tasks that take no time, and `root@pam` as user.
pub(crate) async fn start(builder: Builder) -> (Simulator, Client) {
    start_slowly(builder, 0.0).await
}

/// The same with tasks of this share of their real duration.
pub(crate) async fn start_slowly(builder: Builder, factor: f64) -> (Simulator, Client) {
    let simulator = builder
        .time_factor(factor)
        .start()
        .await
        .expect("it starts");
    let client = Client::builder(simulator.url())
        .password("root@pam", ROOT_PASSWORD)
        .fingerprint(simulator.fingerprint().parse().expect("a fingerprint"))
        .rate_limit(RateLimit::none())
        .task_poll(std::time::Duration::from_millis(5))
        .build()
        .expect("complete settings");
    (simulator, client)
}

/// The steps as texts, without lines of logs.
#[derive(Clone, Default)]
pub(crate) struct Steps(Arc<Mutex<Vec<String>>>);

impl Steps {
    pub(crate) fn listener(&self) -> impl FnMut(&Step) + Send + 'static {
        let steps = Arc::clone(&self.0);
        move |step: &Step| {
            use proxmox_api::manage::work::State;
            if !matches!(step.state, State::Line(_)) {
                steps.lock().expect("not poisoned").push(step.to_string());
            }
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

/// What failed work left behind; empty for a plain error.
pub(crate) fn left<T>(ended: Result<T, Error>) -> (Vec<Left>, Error) {
    match ended {
        Ok(_) => panic!("it worked"),
        Err(Error::Unfinished(error)) => (error.left().to_vec(), error.cause().clone()),
        Err(error) => (Vec::new(), error),
    }
}

pub(crate) fn subjects(left: &[Left]) -> Vec<Subject> {
    left.iter().map(|left| left.subject.clone()).collect()
}
