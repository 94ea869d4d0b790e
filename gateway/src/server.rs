//! The listeners, and the processing before every request: limits, logs, audit.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeout;

use crate::app::{App, Parts, Readiness};
use crate::caller::Caller;
use crate::cluster::Cluster;
use crate::config::{Config, ConfigError};
use crate::connections::{Connections, Slot, Stream, TIMEOUT, accept_tls, acceptor};
use crate::counters::Counters;
use crate::documents::Documents;
use crate::events::{Hub, LEASE, Watcher};
use crate::limits::{Class, Limits, system_clock};
use crate::memory::MemoryBudget;
use crate::peer::Proxies;
use crate::permits::Permits;
use crate::random::random;
use crate::refusal::Refusal;
#[cfg(feature = "postgres")]
use crate::store::Postgres;
use crate::store::{Store, StoreError};
use crate::webhooks::Deliverer;
use crate::{docs, operation, proxy, v1};

/// Maximum bytes in memory for bodies and lists, in total and for one address.
const MAX_MEMORY: usize = 256 * 1024 * 1024;
const MAX_MEMORY_OF_ADDRESS: usize = 64 * 1024 * 1024;
/// Maximum listeners of events.
const MAX_LISTENERS: usize = 8_192;
/// Maximum bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// Maximum characters of a method or path in the log.
const MAX_LOGGED_CHARS: usize = 512;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A running gateway. It stops when dropped.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    grpc: Option<JoinHandle<()>>,
    grace: Duration,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    deliveries: JoinHandle<()>,
    /// Background tasks that do not end by themselves.
    background: JoinSet<()>,
    store: Store,
    /// This gateway's name in leases.
    instance: String,
}

impl Gateway {
    /// Starts a gateway.
    ///
    /// # Errors
    /// The settings contradict each other, a file cannot be read, or an address cannot be bound.
    pub async fn start(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let secure = |protocol| config.tls.as_ref().map(|tls| acceptor(tls, protocol));
        let acceptor = secure(b"http/1.1").transpose()?;
        let grpc_acceptor = secure(b"h2").transpose()?;
        let listener = listen(config.listen).await?;
        let address = listener.local_addr();
        let address = address.map_err(|error| ConfigError::new(error.to_string()))?;
        let (stop, stopped) = watch::channel(false);
        let grace = Duration::from_secs(config.grace_seconds);
        let cluster = Cluster::new(&config.cluster)?;
        let store = store(&config).await?;
        let hub = Hub::new(store.clone()).await?;
        let instance = instance_name()?;
        let deliverer = Deliverer::new(store.clone(), &config.webhooks, &instance)?;
        let mut background = JoinSet::new();
        background.spawn(hub.clone().follow());
        let delivering = deliverer.clone().run(stopped.clone());
        if let Some(background_config) = &config.background {
            let watcher = Watcher {
                client: cluster
                    .builder()
                    .api_token_text(background_config.secret()?)
                    .build()?,
                store: store.clone(),
                hub: hub.clone(),
                deliverer: deliverer.clone(),
                interval: Duration::from_millis(background_config.interval_milliseconds),
                instance: instance.clone(),
            };
            background.spawn(watcher.run());
        }
        let proxies = Proxies::parse(&config.trusted_proxies)?;
        let app = App::new(Parts {
            cluster,
            limits: Limits::new(config.limits, system_clock()),
            connections: Connections::new(config.limits.connections, proxies.clone()),
            memory: MemoryBudget::new(MAX_MEMORY, MAX_MEMORY_OF_ADDRESS),
            proxies,
            store: store.clone(),
            hub,
            deliverer,
            watches: config.background.is_some(),
            listeners: Permits::new(MAX_LISTENERS, config.limits.listeners),
            vclusters: config.vclusters.clone(),
            documents: Documents::default(),
            counters: Counters::default(),
            readiness: Readiness::default(),
            stop: stopped,
        });
        let mut grpc_address = None;
        let mut grpc = None;
        if let Some(address) = config.grpc {
            let listener = listen(address).await?;
            grpc_address = listener.local_addr().ok();
            let app = app.clone();
            grpc = Some(tokio::spawn(async move {
                if let Err(error) = crate::grpc::serve(listener, grpc_acceptor, app).await {
                    tracing::error!(%error);
                }
            }));
        }
        let body_timeout = Duration::from_secs(config.body_seconds);
        // Nothing fails from here on, and so leaves a task behind.
        let server = tokio::spawn(serve(listener, acceptor, app, grace, body_timeout));
        let deliveries = tokio::spawn(delivering);
        Ok(Self {
            address,
            grpc_address,
            grpc,
            grace,
            stop,
            server,
            deliveries,
            background,
            store,
            instance,
        })
    }

    /// The address of the HTTP listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the gRPC listener, if there is one.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// Accepts no further requests, and waits for running ones for the configured time.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + self.grace;
        let _ = (&mut self.server).await;
        for task in self.grpc.iter_mut().chain([&mut self.deliveries]) {
            if tokio::time::timeout_at(deadline, &mut *task).await.is_err() {
                tracing::warn!("gRPC calls or deliveries are aborted at the end of the grace time");
                task.abort();
            }
        }
        self.background.shutdown().await;
        // Lets another gateway take over at once.
        if let Err(error) = self.store.release(LEASE, &self.instance).await {
            tracing::warn!(%error);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
        self.deliveries.abort();
        if let Some(grpc) = &self.grpc {
            grpc.abort();
        }
    }
}

async fn store(config: &Config) -> Result<Store, ConfigError> {
    #[cfg(feature = "postgres")]
    if let Some(address) = &config.postgres {
        let database = Postgres::connect(address, config.postgres_ca.as_deref(), None).await?;
        return Ok(Store::open(std::sync::Arc::new(database)).await?);
    }
    #[cfg(not(feature = "postgres"))]
    if config.postgres.is_some() {
        return Err(ConfigError::new(
            "this program was built without the feature postgres",
        ));
    }
    Ok(Store::embedded(config.data.as_deref()).await?)
}

/// A name for this gateway in leases.
fn instance_name() -> Result<String, ConfigError> {
    let bytes: [u8; 8] = random().map_err(|refusal| ConfigError::new(refusal.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ConfigError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| ConfigError::new(format!("{address}: {error}")))
}

/// The address of a connection's client.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: App,
    grace: Duration,
    body_timeout: Duration,
) {
    let router = router(&app);
    let mut stopping = std::pin::pin!(app.stopping());
    loop {
        let (stream, peer, slot) = tokio::select! {
            accepted = app.connections.accept(&listener) => accepted,
            () = &mut stopping => break,
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        let stopping = app.stopping();
        tokio::spawn(async move {
            if let Some(stream) = accept_tls(stream, acceptor.as_ref()).await {
                connection(stream, peer, slot, router, body_timeout, stopping).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, app.connections.ended())
        .await
        .is_err()
    {
        tracing::warn!("requests were still running at the end of the shutdown time");
    }
}

async fn connection(
    stream: Stream,
    peer: SocketAddr,
    slot: Slot,
    router: Router,
    body_timeout: Duration,
    stopping: impl Future<Output = ()>,
) {
    let router = router
        .layer(axum::Extension(Peer(peer.ip().to_canonical())))
        .layer(axum::Extension(slot));
    let service = RequestBodyTimeout::new(router, body_timeout);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn router(app: &App) -> Router {
    let limited = Router::new()
        .route("/api2", any(proxy::pass))
        .route("/api2/", any(proxy::pass))
        .route("/api2/json/openapi.json", get(docs::openapi))
        .route("/api2/{*path}", any(proxy::pass))
        .nest("/v1", v1::router())
        .layer(middleware::from_fn_with_state(app.clone(), guard));
    let nosniff = SetResponseHeaderLayer::if_not_present(
        http::header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Router::new()
        .merge(limited)
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(operation::ready))
        .route("/metrics", get(operation::metrics))
        .route(
            "/api-explorer",
            get(async || Redirect::permanent("/api-explorer/")),
        )
        .route("/api-explorer/", get(docs::page))
        .route("/api-explorer/explorer.js", get(docs::script))
        .fallback(async || Refusal::not_found("no such path"))
        .layer(nosniff)
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
            },
        ))
        .with_state(app.clone())
}

/// The class of a request for limits. The path is normalized as the cluster does it, so another
/// spelling does not change the class.
fn class(method: &Method, path: &str) -> Class {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match (method, api_segments(&decoded).as_slice()) {
        (&Method::POST, ["access", "ticket"] | ["access", "openid", "login"]) => {
            Class::Authentication
        }
        (&Method::GET | &Method::HEAD | &Method::OPTIONS, _) => Class::Read,
        (_, ["v1", "batch", ..] | ["cluster", "bulk-action", ..]) => Class::Bulk,
        _ => Class::Write,
    }
}

/// The segments of a path below the root of the cluster's API, if it is one.
fn api_segments(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let ["api2", _, ..] = parts.as_slice() {
        parts.drain(..2);
    }
    parts
}

/// Whether an answer proves that the cluster authenticated the caller. Endpoints without
/// authentication prove nothing.
fn proves_authentication(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    match api_segments(&decoded).as_slice() {
        [] | ["openapi.json"] => false,
        [
            "access",
            "domains" | "openid" | "ticket" | "tfa" | "vncticket",
            ..,
        ] => false,
        [..] => true,
    }
}

/// Counts, limits and logs requests. Queries and bodies are not logged, because they contain
/// passwords.
async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |Peer(address)| address);
    let peer = app.proxies.origin(peer, request.headers());
    let caller = Caller::from_headers(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let class = class(&method, &path);
    let share = app.memory.share(peer);
    request.extensions_mut().insert(share);
    let mut quota = app.limits.take(caller.as_ref(), peer, class);
    let refusal = quota.as_ref().and_then(|quota| quota.refusal());
    let admitted = refusal.is_none();
    let mut response = match refusal {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let id = HeaderValue::from(number);
    response.headers_mut().insert(REQUEST_ID, id);
    let status = response.status().as_u16();
    if let Some(caller) = caller.as_ref().filter(|_| admitted) {
        match status {
            401 => app.limits.reject(caller, peer),
            200..=299 if proves_authentication(&path) => {
                quota = app.limits.accept(caller, class, quota);
            }
            _ => {}
        }
    }
    if let Some(quota) = quota {
        quota.write(response.headers_mut());
    }
    let user = caller.map(|caller| caller.claims()).unwrap_or_default();
    app.counters.count(class, status, started.elapsed());
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let path: String = path.chars().take(MAX_LOGGED_CHARS).collect();
    let method: String = method.as_str().chars().take(MAX_LOGGED_CHARS).collect();
    // Requests refused by the limits change nothing, and must not fill the log.
    if class == Class::Read || !admitted {
        tracing::debug!(target: "access", number, method, path, status, user, %peer, milliseconds);
    } else {
        tracing::info!(target: "audit", number, method, path, status, user, %peer, milliseconds);
    }
    response
}

impl From<StoreError> for ConfigError {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_request_does_not_depend_on_its_spelling() {
        for path in [
            "/api2/json/access/ticket",
            "/api2/extjs/access/ticket",
            "/api2/json//access/%74icket/",
            "/api2/json/access%2Fticket",
        ] {
            assert_eq!(class(&Method::POST, path), Class::Authentication, "{path}");
        }
        assert_eq!(class(&Method::GET, "/api2/json/access/ticket"), Class::Read);
        assert_eq!(class(&Method::POST, "/v1/batch/vms/action"), Class::Bulk);
        assert_eq!(class(&Method::PUT, "/api2/json/pools"), Class::Write);
        for open in [
            "/api2/json/access/domains",
            "/api2/json/access/%64omains/",
            "/api2/extjs//access/openid/auth-url",
            "/api2/json/openapi.json",
            "/api2/json",
        ] {
            assert!(!proves_authentication(open), "{open}");
        }
        assert!(proves_authentication("/api2/json/nodes") && proves_authentication("/v1/webhooks"));
    }
}
