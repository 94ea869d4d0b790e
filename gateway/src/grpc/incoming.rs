//! The connections of the gRPC services. They are counted with those of HTTP, and begin within the same time.

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
use crate::connections::{Prompt, Stream, Ticket, secured};

/// What an HTTP/2 client has to send first.
const PREFACE: usize = 24;
/// Connections that are ready before they are asked for.
const READY: usize = 64;

/// A connection that is ready for HTTP/2.
pub(super) struct Connection {
    stream: Prompt<Stream>,
    info: TcpConnectInfo,
    _ticket: Ticket,
}

/// The connections that come in, until the gateway is to end.
pub(super) fn incoming(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: App,
) -> impl futures_core::Stream<Item = io::Result<Connection>> + Send {
    let (ready, mut next) = mpsc::channel(READY);
    tokio::spawn(async move {
        let mut stopping = std::pin::pin!(app.stopping());
        loop {
            let (stream, peer, ticket) = tokio::select! {
                accepted = app.connections.accept(&listener) => accepted,
                () = &mut stopping => break,
                () = ready.closed() => break,
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            let local_addr = listener.local_addr().ok();
            // One that takes its time keeps no other waiting.
            tokio::spawn(async move {
                let Some(stream) = secured(stream, acceptor.as_ref()).await else {
                    return;
                };
                let connection = Connection {
                    stream: Prompt::new(stream, PREFACE),
                    info: TcpConnectInfo {
                        local_addr,
                        remote_addr: Some(peer),
                    },
                    _ticket: ticket,
                };
                // The server may have ended meanwhile.
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
