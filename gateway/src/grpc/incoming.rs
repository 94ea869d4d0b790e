//! Accepts connections of the gRPC services, with the same limits and timeouts as for HTTP.

use std::io;

use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::app::App;
use crate::connections::{Slot, StartTimeout, Stream, accept_tls};

/// Bytes that an HTTP/2 client has to send first.
const PREFACE: usize = 24;
/// Maximum connections that wait for the server.
const READY: usize = 64;

/// A connection after the TLS handshake.
type Connection = StartTimeout<Stream, Attached>;

/// What a connection holds until it is closed.
pub(super) struct Attached {
    info: TcpConnectInfo,
    _slot: Slot,
}

/// The accepted connections, until the gateway shuts down.
pub(super) fn incoming(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: App,
) -> impl futures_core::Stream<Item = io::Result<Connection>> + Send {
    let (ready, mut next) = mpsc::channel(READY);
    tokio::spawn(async move {
        let mut stopping = std::pin::pin!(app.stopping());
        loop {
            let (stream, peer, slot) = tokio::select! {
                accepted = app.connections.accept(&listener) => accepted,
                () = &mut stopping => break,
                () = ready.closed() => break,
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            let local_addr = listener.local_addr().ok();
            // A slow handshake must not delay other connections.
            tokio::spawn(async move {
                let Some(stream) = accept_tls(stream, acceptor.as_ref()).await else {
                    return;
                };
                let attached = Attached {
                    info: TcpConnectInfo {
                        local_addr,
                        remote_addr: Some(peer),
                    },
                    _slot: slot,
                };
                let connection = StartTimeout::new(stream, PREFACE, attached);
                // Fails if the server has stopped.
                let _ = ready.send(Ok(connection)).await;
            });
        }
    });
    stream::poll_fn(move |context| next.poll_recv(context))
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.attached.info.clone()
    }
}
