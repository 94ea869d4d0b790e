//! gRPC: the same functions as services and streams.

mod admission;
mod cluster;
mod guests;
mod incoming;
mod operations;
mod vclusters;

use std::time::Duration;

use axum::middleware;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::app::App;
use crate::config::ConfigError;
use crate::gpve::DESCRIPTORS;
use crate::gpve::v1::cluster_service_server::ClusterServiceServer;
use crate::gpve::v1::guest_service_server::GuestServiceServer;
use crate::gpve::v1::operation_service_server::OperationServiceServer;
use crate::gpve::v1::v_cluster_service_server::VClusterServiceServer;
use admission::Admission;

/// Concurrent calls of one connection.
const AT_ONCE: usize = 128;
const MESSAGE: usize = 512 * 1024;
/// Bytes that a caller may send before they are read, of a call and of a connection.
const AHEAD: u32 = 64 * 1024;
const AHEAD_IN_ALL: u32 = 256 * 1024;
const PING: Duration = Duration::from_secs(30);
/// Maximum bytes of a call's metadata.
const HEAD: u32 = 64 * 1024;
/// Reset streams that are still open; a connection with more is closed.
const RESET: usize = 64;

/// Serves until the gateway shuts down.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: App,
) -> Result<(), ConfigError> {
    let wrong = |error: &dyn std::fmt::Display| ConfigError::new(format!("gRPC: {error}"));
    let mut server = Server::builder()
        .concurrency_limit_per_connection(AT_ONCE)
        .max_concurrent_streams(u32::try_from(AT_ONCE).ok())
        .initial_stream_window_size(AHEAD)
        .initial_connection_window_size(AHEAD_IN_ALL)
        .http2_max_header_list_size(HEAD)
        .http2_max_pending_accept_reset_streams(Some(RESET))
        .http2_max_local_error_reset_streams(Some(RESET))
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .map_err(|error| wrong(&error))?;
    let admission = Admission::new(&app);
    let guests = GuestServiceServer::new(guests::Guests(admission.clone()));
    let vclusters = VClusterServiceServer::new(vclusters::Vclusters(admission.clone()));
    let cluster = ClusterServiceServer::new(cluster::Cluster(admission.clone()));
    let operations = OperationServiceServer::new(operations::Operations(admission));
    health
        .set_serving::<GuestServiceServer<guests::Guests>>()
        .await;
    health
        .set_serving::<VClusterServiceServer<vclusters::Vclusters>>()
        .await;
    health
        .set_serving::<ClusterServiceServer<cluster::Cluster>>()
        .await;
    health
        .set_serving::<OperationServiceServer<operations::Operations>>()
        .await;
    let routes = Routes::new(health_service)
        .add_service(reflection)
        .add_service(guests.max_decoding_message_size(MESSAGE))
        .add_service(vclusters.max_decoding_message_size(MESSAGE))
        .add_service(cluster.max_decoding_message_size(MESSAGE))
        .add_service(operations.max_decoding_message_size(MESSAGE));
    let log_layer = middleware::from_fn_with_state(app.clone(), admission::log_calls);
    let routes = routes.into_axum_router().layer(log_layer);
    server
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(
            incoming::incoming(listener, acceptor, app.clone()),
            app.stopping(),
        )
        .await
        .map_err(|error| wrong(&error))
}
