//! What every request can use.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::limits::Limits;

/// The parts of a running gateway. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) cluster: Cluster,
    pub(crate) limits: Limits,
    pub(crate) stop: watch::Receiver<bool>,
}

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
