//! Accepts the connections of both listeners, with limits on their number, in total and for each
//! address, and on the time of their start.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::config::{ConfigError, Tls};
use crate::peer::{Proxies, prefix};
use crate::permits::{Permit, Permits};
use crate::write_timeout::WriteTimeout;

/// Maximum connections; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// Timeout for a TLS handshake, and for the first bytes after it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for writing an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The limits. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    permits: Arc<Semaphore>,
    by_address: Permits,
    proxies: Proxies,
}

/// Counts as a connection until the last clone is dropped. Whatever outlives the HTTP exchange, such
/// as a WebSocket, has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    _permit: Arc<OwnedSemaphorePermit>,
    _address_permit: Option<Arc<Permit>>,
}

/// A connection with or without TLS.
pub(crate) type Stream = Either<WriteTimeout<TcpStream>, TlsStream<WriteTimeout<TcpStream>>>;

impl Connections {
    /// `max_per_address` is the limit for one address, except for trusted proxies; 0 is no limit.
    pub(crate) fn new(max_per_address: u32, proxies: Proxies) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            by_address: Permits::new(MAX_CONNECTIONS, max_per_address),
            proxies,
        }
    }

    /// The next connection. Connections above the limit of their address are closed.
    pub(crate) async fn accept(
        &self,
        listener: &TcpListener,
    ) -> (WriteTimeout<TcpStream>, SocketAddr, Slot) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                // The semaphore is never closed.
                return std::future::pending().await;
            };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely no file descriptors are left; wait for connections to close.
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let address = peer.ip().to_canonical();
            let mut address_permit = None;
            if !self.proxies.contains(address) {
                let Ok(taken) = self.by_address.take(&prefix(address).to_string()) else {
                    tracing::debug!(%address, "the address has too many connections");
                    continue;
                };
                address_permit = Some(Arc::new(taken));
            }
            // Small answers must not wait for a full segment.
            let _ = stream.set_nodelay(true);
            let slot = Slot {
                _permit: Arc::new(permit),
                _address_permit: address_permit,
            };
            return (WriteTimeout::new(stream, WRITE_TIMEOUT), peer, slot);
        }
    }

    /// Waits until all connections are closed.
    pub(crate) async fn ended(&self) {
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = self.permits.acquire_many(all).await;
    }
}

/// TLS 1.2 and 1.3 with a certificate.
pub(crate) fn acceptor(tls: &Tls, protocol: &[u8]) -> Result<TlsAcceptor, ConfigError> {
    let named = |path: &std::path::Path, problem: String| {
        ConfigError::new(format!("{}: {problem}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| named(&tls.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key);
    let key = key.map_err(|error| named(&tls.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| named(&tls.certificate, error.to_string()))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Performs the TLS handshake, if TLS is configured; `None` if it fails.
pub(crate) async fn accept_tls(
    stream: WriteTimeout<TcpStream>,
    acceptor: Option<&TlsAcceptor>,
) -> Option<Stream> {
    let Some(acceptor) = acceptor else {
        return Some(Either::Left(stream));
    };
    let handshake = tokio::time::timeout(TIMEOUT, acceptor.accept(stream));
    Some(Either::Right(handshake.await.ok()?.ok()?))
}

/// A stream with a timeout for its first bytes, and something that lives as long as the stream.
pub(crate) struct StartTimeout<S, T> {
    stream: S,
    pub(crate) attached: T,
    /// The number of first bytes that are not received yet.
    missing: usize,
    timeout: Pin<Box<Sleep>>,
}

impl<S, T> StartTimeout<S, T> {
    pub(crate) fn new(stream: S, first: usize, attached: T) -> Self {
        Self {
            stream,
            attached,
            missing: first,
            timeout: Box::pin(tokio::time::sleep(TIMEOUT)),
        }
    }
}

impl<S: AsyncRead + Unpin, T: Unpin> AsyncRead for StartTimeout<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = buffer.filled().len().saturating_sub(before);
        self.missing = self.missing.saturating_sub(received);
        if read.is_pending() && self.missing > 0 {
            let timeout = self.timeout.as_mut().poll(context);
            return timeout.map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, T: Unpin> AsyncWrite for StartTimeout<S, T> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_first_bytes_have_a_timeout() {
        let hour = Duration::from_secs(3_600);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = StartTimeout::new(ours, 4, ());
        theirs.write_all(b"abc").await.expect("it fits");
        ours.read_exact(&mut [0; 3]).await.expect("it is there");
        let start = tokio::time::Instant::now();
        let error = ours.read_u8().await.expect_err("the fourth is late");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), TIMEOUT);

        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = StartTimeout::new(ours, 4, ());
        theirs.write_all(b"abcd").await.expect("it fits");
        ours.read_exact(&mut [0; 4]).await.expect("it is there");
        let more = tokio::spawn(async move {
            tokio::time::sleep(hour).await;
            theirs.write_all(b"e").await
        });
        assert_eq!(ours.read_u8().await.expect("it arrives"), b'e');
        more.await.expect("no panic").expect("written");
    }

    #[tokio::test]
    async fn one_address_has_a_limit_and_a_trusted_proxy_has_none() {
        for (proxies, stay) in [(vec![], 2), (vec!["127.0.0.1".to_owned()], 4)] {
            let connections = Connections::new(2, Proxies::parse(&proxies).expect("addresses"));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = listener.local_addr().expect("it is bound");
            let mut clients = Vec::new();
            for _ in 0..4 {
                clients.push(TcpStream::connect(address).await.expect("connected"));
            }
            let mut accepted = Vec::new();
            for _ in 0..stay {
                accepted.push(connections.accept(&listener).await);
            }
            if proxies.is_empty() {
                // Further connections are closed while waiting for the next one.
                let mut nothing = [0];
                let next = tokio::select! {
                    biased;
                    one = connections.accept(&listener) => Some(one),
                    end = clients[3].read(&mut nothing) => {
                        assert!(end.is_err() || matches!(end, Ok(0)));
                        None
                    }
                };
                assert!(next.is_none());
                drop(accepted.pop());
                clients.push(TcpStream::connect(address).await.expect("connected"));
                accepted.push(connections.accept(&listener).await);
            }
            drop(accepted);
            connections.ended().await;
        }
    }
}
