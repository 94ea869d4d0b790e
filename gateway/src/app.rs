//! State that all requests share.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::config::VclustersConfig;
use crate::connections::Connections;
use crate::counters::Counters;
use crate::documents::Documents;
use crate::events::Hub;
use crate::limits::Limits;
use crate::memory::MemoryBudget;
use crate::peer::Proxies;
use crate::permits::Permits;
use crate::store::Store;
use crate::webhooks::Deliverer;

/// The parts of a running gateway. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) cluster: Cluster,
    pub(crate) limits: Limits,
    pub(crate) proxies: Proxies,
    pub(crate) connections: Connections,
    /// Memory for bodies and lists.
    pub(crate) memory: MemoryBudget,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) deliverer: Deliverer,
    /// Whether the cluster is watched.
    pub(crate) watches: bool,
    /// Limits the listeners of events.
    pub(crate) listeners: Permits,
    pub(crate) vclusters: Option<VclustersConfig>,
    pub(crate) documents: Documents,
    pub(crate) counters: Counters,
    pub(crate) readiness: Readiness,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The last result of the readiness check with its time. Requests hold the lock while checking.
pub(crate) type Readiness = Mutex<Option<(Instant, Result<(), &'static str>)>>;

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Resolves when the gateway shuts down.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.0.stop.clone();
        async move {
            // An error means that the gateway is gone, which is a shutdown, too.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
