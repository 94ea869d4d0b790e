//! What every request can use.

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
use crate::peer::Proxies;
use crate::places::Places;
use crate::room::Room;
use crate::store::Store;
use crate::webhooks::Postman;

/// The parts of a running gateway. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) cluster: Cluster,
    pub(crate) limits: Limits,
    pub(crate) proxies: Proxies,
    pub(crate) connections: Connections,
    /// Memory for bodies and lists.
    pub(crate) room: Room,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) postman: Postman,
    /// Whether the cluster is watched.
    pub(crate) watches: bool,
    /// Places for those who listen to events.
    pub(crate) listeners: Places,
    pub(crate) vclusters: Option<VclustersConfig>,
    pub(crate) documents: Documents,
    pub(crate) counters: Counters,
    pub(crate) readiness: Readiness,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What is known of whether requests can be served, and since when. Whoever asks holds the lock.
pub(crate) type Readiness = Mutex<Option<(Instant, Result<(), &'static str>)>>;

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Ends when the gateway is to end.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.0.stop.clone();
        async move {
            // An error means that the gateway is gone.
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
