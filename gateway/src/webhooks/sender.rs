//! Requests to receivers with addresses chosen by users.
//!
//! The name is resolved here, each address is checked, and the connection goes to a checked
//! address, so that no name can lead into the operator's own network. Redirections are not followed
//! and bodies are not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::{Scheme, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{ConfigError, WebhooksConfig};
use crate::trust::roots;

/// Timeout of an attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_URL: usize = 2_048;

/// Sends requests to receivers.
#[derive(Clone)]
pub(crate) struct HookSender {
    tls: TlsConnector,
    allow_internal: bool,
}

/// The parsed URL of a receiver.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Receiver {
    host: String,
    port: u16,
    is_tls: bool,
    path: String,
}

impl Receiver {
    pub(crate) fn parse(url: &str, allow_internal: bool) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the URL {what}"));
        if url.len() > MAX_URL {
            return wrong("is too long");
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return wrong("does not parse");
        };
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP && allow_internal => false,
            Some(scheme) if *scheme == Scheme::HTTP => return wrong("must start with https://"),
            _ => return wrong("must start with https://"),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return wrong("must not contain a user name");
        }
        let host = uri.host().unwrap_or_default();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return wrong("has no host");
        }
        if let Ok(address) = host.parse::<IpAddr>()
            && !allow_internal
            && is_internal(address)
        {
            return wrong("has an internal address");
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("contains characters that must be percent-encoded");
        }
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            path: path.to_owned(),
        })
    }

    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Whether an address is not part of the public internet.
fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_internal_v4(address),
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || (first & 0xfe00) == 0xfc00
                || (first & 0xffc0) == 0xfe80
                || (first & 0xffc0) == 0xfec0
                || embedded_v4(address).is_some_and(is_internal_v4)
                || matches!(
                    address.segments(),
                    // Local-use NAT64, the discard prefix, Teredo, ORCHID and documentation.
                    [0x0064, 0xff9b, 1, ..]
                        | [0x0100, 0, 0, 0, ..]
                        | [0x2001, 0, ..]
                        | [0x2001, 0x0010..=0x002f, ..]
                        | [0x2001, 0x0db8, ..]
                        | [0x3fff, 0..=0x0fff, ..]
                        | [0x5f00, ..]
                )
        }
    }
}

fn is_internal_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

/// The IPv4 address embedded in some IPv6 addresses: NAT64, 6to4, and the deprecated compatible
/// form.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let join = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        _ => None,
    }
}

impl HookSender {
    pub(crate) fn new(config: &WebhooksConfig) -> Result<Self, ConfigError> {
        let roots = roots("webhooks", config.ca.as_deref())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            allow_internal: config.allow_internal,
        })
    }

    /// Posts JSON; returns the status of the answer, or the error.
    pub(crate) async fn post(
        &self,
        receiver: &Receiver,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<u16, String> {
        let attempt = tokio::time::timeout(TIMEOUT, self.attempt(receiver, headers, body));
        let late = |_| format!("no answer within {} s", TIMEOUT.as_secs());
        attempt.await.map_err(late)?
    }

    async fn attempt(
        &self,
        receiver: &Receiver,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<u16, String> {
        let name = (receiver.host.as_str(), receiver.port);
        let found = tokio::net::lookup_host(name).await;
        let found =
            found.map_err(|error| format!("the receiver's name does not resolve: {error}"))?;
        let found: Vec<SocketAddr> = found.collect();
        if !self.allow_internal && found.iter().any(|address| is_internal(address.ip())) {
            return Err("the receiver's name has an internal address".to_owned());
        }
        let mut problem = "the receiver's name has no address".to_owned();
        for address in found {
            match TcpStream::connect(address).await {
                Ok(stream) => return self.on(stream, receiver, headers, body).await,
                Err(error) => problem = format!("no connection: {error}"),
            }
        }
        Err(problem)
    }

    async fn on(
        &self,
        stream: TcpStream,
        receiver: &Receiver,
        headers: &[(&'static str, String)],
        body: &str,
    ) -> Result<u16, String> {
        if !receiver.is_tls {
            return exchange(stream, receiver, headers, body).await;
        }
        let name = ServerName::try_from(receiver.host.clone());
        let name =
            name.map_err(|_| "the receiver's name is not valid in a certificate".to_owned())?;
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("no TLS connection: {error}"))?;
        exchange(stream, receiver, headers, body).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    receiver: &Receiver,
    headers: &[(&'static str, String)],
    body: &str,
) -> Result<u16, String> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let mut request = Request::post(receiver.path.as_str())
        .header(HOST, receiver.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(
            USER_AGENT,
            concat!("proxmox-gateway/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        sender
            .send_request(request)
            .await
            .map(|answer| answer.status().as_u16())
    };
    let mut answer = std::pin::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    let answer = tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection.as_mut() => answer.await,
    };
    answer.map_err(|error| format!("no answer: {error}"))
}

impl std::fmt::Debug for HookSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookSender")
            .field("allow_internal", &self.allow_internal)
            .finish_non_exhaustive()
    }
}

/// Prints no path: with some services it is a secret.
impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receiver").field(&self.authority()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_recognized_in_every_spelling() {
        for internal in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::7f00:1",
            "fec0::1",
            "64:ff9b:1::1",
            "2001:0:7f00:1::",
            "2001:db8::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(
                is_internal(internal.parse().expect("an address")),
                "{internal}"
            );
        }
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "172.32.0.1",
        ] {
            assert!(
                !is_internal(public.parse().expect("an address")),
                "{public}"
            );
        }
    }

    #[test]
    fn receivers_are_public_and_encrypted_unless_allowed_otherwise() {
        for refused in [
            "http://example.org/x",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://user@example.org/",
            "ftp://example.org/",
            "https:///x",
            "//example.org",
            "https://169.254.169.254/latest/meta-data",
            "https://example.org/a b",
        ] {
            assert!(Receiver::parse(refused, false).is_err(), "{refused}");
        }
        let good =
            Receiver::parse("https://hooks.example.org/services/xxx?a=b", false).expect("good");
        assert_eq!(
            (good.host.as_str(), good.port, good.path.as_str()),
            ("hooks.example.org", 443, "/services/xxx?a=b")
        );
        assert!(!format!("{good:?}").contains("xxx"));
        let inside = Receiver::parse("http://127.0.0.1:8080/x", true).expect("allowed");
        assert_eq!(inside.authority(), "127.0.0.1:8080");
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_an_internal_address_is_refused() {
        let sender = HookSender::new(&WebhooksConfig::default()).expect("works");
        let receiver = Receiver::parse("https://localhost/x", false).expect("only a name");
        let problem = sender
            .post(&receiver, &[], "{}")
            .await
            .expect_err("refused");
        assert!(problem.contains("internal"), "{problem}");
    }
}
