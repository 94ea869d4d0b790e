//! From a request to its answer: routing, authentication, checks, formatting.

pub(crate) mod answer;
pub(crate) mod head;
pub(crate) mod pages;
pub(crate) mod wire_compat;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::app::wire_compat::WireCompat;
use crate::clock::Clock;
use crate::console::Console;
use crate::faults::Faults;
use crate::recorded::RecordedRequest;
use crate::schema::ApiSchema;
use crate::state::cluster::Cluster;
use crate::state::cluster::remote::Peer;
use crate::tunnel::TunnelEnd;
use crate::upload::{Refusal, Upload};

/// Maximum number of recorded requests, so that a long-running server does not fill its memory.
const MAX_RECORDED: usize = 20_000;

pub(crate) struct App {
    pub(crate) schema: Arc<ApiSchema>,
    pub(crate) cluster: Mutex<Cluster>,
    pub(crate) clock: Clock,
    pub(crate) factor: f64,
    pub(crate) idle: Duration,
    pub(crate) recorded: Mutex<VecDeque<RecordedRequest>>,
    pub(crate) faults: Faults,
    pub(crate) compat: WireCompat,
}

/// The bytes after the headers.
pub(crate) enum Body {
    Bytes(Vec<u8>),
    Upload(Result<Upload, Refusal>),
}

impl App {
    pub(crate) fn new(
        schema: Arc<ApiSchema>,
        cluster: Cluster,
        clock: Clock,
        idle: Duration,
    ) -> Self {
        Self {
            compat: WireCompat::of(schema.release()),
            schema,
            factor: cluster.factor,
            cluster: Mutex::new(cluster),
            clock,
            idle,
            recorded: Mutex::default(),
            faults: Faults::default(),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.idle
    }

    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.factor)
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn recorded(&self) -> MutexGuard<'_, VecDeque<RecordedRequest>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current state of the cluster.
    pub(crate) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.advance_to(self.clock.now());
        cluster
    }

    pub(crate) fn restore(&self, state: &str) -> Result<(), String> {
        let mut cluster = self.cluster();
        // The state is loaded into a scratch cluster first, so that an error changes nothing.
        let mut trial = Cluster::new(Arc::clone(&self.schema), cluster.now, self.factor, 0);
        crate::snapshot::restore(&mut trial, state)?;
        cluster.interrupt_all();
        crate::snapshot::restore(&mut cluster, state)
    }

    pub(crate) fn record(
        &self,
        method: &str,
        path: &str,
        user: Option<String>,
        params: Value,
        status: u16,
    ) {
        let mut recorded = self.recorded();
        if recorded.len() >= MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(RecordedRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            user,
            params,
            status,
        });
    }

    /// Counts an opened or closed connection to a console.
    pub(crate) fn link_console(&self, console: &Console, leaves: Option<TunnelEnd>) {
        self.cluster().link_console(&console.upid, leaves);
    }

    /// Whether a viewer may connect to this host, which is a ticket and a port.
    pub(crate) fn takes_spice_ticket(&self, host: &str) -> bool {
        let cluster = self.cluster();
        cluster.access.takes_spice_ticket(host, cluster.now)
    }
}

impl Peer for App {
    fn try_cluster(&self) -> Option<MutexGuard<'_, Cluster>> {
        let mut cluster = self.cluster.try_lock().ok()?;
        cluster.advance_to(self.clock.now());
        Some(cluster)
    }
}
