//! The cluster behind the gateway: the addresses of its nodes, and the transport that all requests
//! share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proxmox_api::client::limit::RateLimit;
use proxmox_api::transport::{
    BodyStream, OpenResponse, Transport, TransportError, Upgraded, WireRequest, WireResponse,
};
use proxmox_api::{Client, ClientBuilder};

use crate::caller::Caller;
use crate::config::{ClusterConfig, ConfigError};
use crate::refusal::Refusal;

/// The cluster. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origins: Vec<String>,
    /// Index of the address that answered last.
    current: AtomicUsize,
    transport: Arc<dyn Transport>,
    config: ClusterConfig,
}

impl Cluster {
    pub(crate) fn new(config: &ClusterConfig) -> Result<Self, ConfigError> {
        let first = config.urls.first();
        let first = first.ok_or_else(|| ConfigError::new("no cluster is configured"))?;
        let mut builder = Client::builder(first.as_str()).timeout(config.timeout());
        for fingerprint in &config.fingerprints {
            let parsed = fingerprint.parse();
            builder = builder.fingerprint(parsed.map_err(|_| {
                ConfigError::new(format!(
                    "cluster: {fingerprint:?} is not a SHA-256 fingerprint"
                ))
            })?);
        }
        if let Some(path) = &config.ca {
            builder = builder.ca_file(path);
        }
        let transport = builder.build_transport()?;
        let mut origins = Vec::new();
        for url in &config.urls {
            let client = Client::builder(url.as_str()).transport(Arc::clone(&transport));
            origins.push(client.build()?.url().to_owned());
        }
        Ok(Self(Arc::new(Inner {
            origins,
            current: AtomicUsize::new(0),
            transport,
            config: config.clone(),
        })))
    }

    /// A client without credentials on the shared connections.
    pub(crate) fn builder(&self) -> ClientBuilder {
        let origins = &self.0.origins;
        let mut builder = Client::builder(origins.first().map_or("", String::as_str));
        for origin in origins.iter().skip(1) {
            builder = builder.host(origin.as_str());
        }
        builder
            .transport(Arc::clone(&self.0.transport))
            .timeout(self.0.config.timeout())
            // The gateway limits requests by caller.
            .rate_limit(RateLimit::none())
    }

    /// A client with the credentials of a caller.
    pub(crate) fn client(&self, caller: &Caller) -> Result<Client, Refusal> {
        // Malformed credentials are refused here; the cluster would refuse them, too.
        caller
            .sign_in(self.builder())
            .build()
            .map_err(|_| Refusal::unauthorized())
    }

    /// Sends a request to the first reachable address, beginning with the one that answered last.
    async fn on_any_address<T, F>(
        &self,
        request: WireRequest,
        send: impl Fn(WireRequest) -> F,
    ) -> Result<T, TransportError>
    where
        F: Future<Output = Result<T, TransportError>>,
    {
        let origins = &self.0.origins;
        let start = self.0.current.load(Ordering::Relaxed);
        let mut last = TransportError::never_sent("no address is known");
        for step in 0..origins.len() {
            let at = (start + step) % origins.len();
            let mut request = request.clone();
            request.origin.clone_from(&origins[at]);
            match send(request).await {
                Ok(answer) => {
                    self.0.current.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if error.is_never_sent() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    pub(crate) async fn open(&self, request: WireRequest) -> Result<OpenResponse, TransportError> {
        let transport = &self.0.transport;
        self.on_any_address(request, |request| transport.open(request))
            .await
    }

    pub(crate) async fn upgrade(&self, request: WireRequest) -> Result<Upgraded, TransportError> {
        let transport = &self.0.transport;
        self.on_any_address(request, |request| transport.upgrade(request))
            .await
    }

    /// Sends a request with a streaming body. It goes to one address only, because the body cannot
    /// be sent twice.
    pub(crate) async fn send_stream(
        &self,
        mut request: WireRequest,
        body: BodyStream,
    ) -> Result<WireResponse, TransportError> {
        let origins = &self.0.origins;
        let at = self.0.current.load(Ordering::Relaxed) % origins.len().max(1);
        request.origin = origins.get(at).cloned().unwrap_or_default();
        self.0.transport.send_stream(request, body).await
    }
}

/// The refusal for a request that the cluster did not answer.
pub(crate) fn unanswered(error: &TransportError) -> Refusal {
    use http::StatusCode;
    tracing::warn!(error = error.text(), "no answer from the cluster");
    match error.timed_out_after() {
        Some(after) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the cluster did not answer within {} s", after.as_secs()),
        ),
        None if error.is_never_sent() => {
            Refusal::new(StatusCode::BAD_GATEWAY, "the cluster cannot be reached")
        }
        None => Refusal::new(
            StatusCode::BAD_GATEWAY,
            "the cluster's answer ended early; the request may have been processed",
        ),
    }
}
