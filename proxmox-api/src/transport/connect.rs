//! New connections: TCP, through a proxy if set, and TLS over it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Scheme, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::BoxError;
use super::line::{ReasonPhraseStream, Stream};
use super::proxy::{Proxies, bare_host};
use crate::bounds::Bounds;
use crate::tls::TlsSettings;

/// Makes connections: TCP, and TLS over it for https.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: TlsSettings,
    proxies: Arc<Proxies>,
    timeout: Duration,
    bounds: Bounds,
}

impl Connector {
    pub(super) fn new(
        tls: TlsSettings,
        proxies: Arc<Proxies>,
        timeout: Duration,
        bounds: Bounds,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self {
            tcp,
            tls,
            proxies,
            timeout,
            bounds,
        }
    }

    async fn reach(mut self, uri: Uri) -> Result<TcpStream, BoxError> {
        match self.proxies.of(&uri) {
            Some(proxy) => proxy.reach(self.tcp, uri).await,
            None => Ok(self.tcp.call(uri).await?.into_inner()),
        }
    }

    async fn connect(self, uri: Uri) -> Result<ReasonPhraseStream, BoxError> {
        let port = uri.port_u16().unwrap_or(443);
        let tls = TlsConnector::from(self.tls.for_port(port));
        let bounds = self.bounds;
        let host = bare_host(&uri).to_owned();
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let stream = self.reach(uri).await?;
        if !secure {
            return Ok(ReasonPhraseStream::over(Stream::Plain(stream), &bounds));
        }
        let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
        Ok(ReasonPhraseStream::over(
            Stream::Secure(Box::new(stream)),
            &bounds,
        ))
    }
}

impl Service<Uri> for Connector {
    type Response = ReasonPhraseStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ReasonPhraseStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connector, limit) = (self.clone(), self.timeout);
        Box::pin(async move {
            match tokio::time::timeout(limit, connector.connect(uri)).await {
                Ok(result) => result,
                Err(_) => Err(format!("no connection within {limit:?}").into()),
            }
        })
    }
}
