//! Accepts connections of the gRPC services, with the same limits and timeouts as for HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
pub(super) struct Connection {
    stream: StartTimeout<Stream>,
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
                let connection = Connection {
                    stream: StartTimeout::new(stream, PREFACE),
                    info: TcpConnectInfo {
                        local_addr,
                        remote_addr: Some(peer),
                    },
                    _slot: slot,
                };
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
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
