//! Proxies: a tunnel by `CONNECT` or by SOCKS, with TLS to the server inside.

use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::uri::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{BoxError, root_cause};
use crate::value::Secret;
use crate::value::address::{Address, is_this_machine, printable, with_port};
use crate::value::secret::Scrubber;
use crate::value::text::{OneLine, latin1_or_utf8};

mod environment;

/// The host of an address; an IPv6 address without its brackets.
pub(super) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// An invalid address of a proxy.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}the proxy address {address:?} {problem}", .variable.map(|name| format!("{name}: ")).unwrap_or_default())]
pub(crate) struct ProxyError {
    /// The environment variable of the address.
    variable: Option<&'static str>,
    address: String,
    problem: String,
}

/// A proxy's address and credentials.
#[derive(Clone)]
pub(crate) struct Proxy {
    uri: Uri,
    kind: Kind,
    /// The environment variable of the address.
    variable: Option<&'static str>,
}

#[derive(Clone)]
enum Kind {
    /// With name and password, in the base64 form of `Proxy-Authorization`.
    Http(Option<Secret>),
    /// With user and password.
    Socks(Option<(String, Secret)>),
}

/// The limit on the answer to a `CONNECT`.
const MAX_ANSWER: usize = 8 * 1024;
const SOCKS_PORT: u16 = 1080;
const MAX_LOGIN: usize = 255;

/// The proxies for servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    /// Servers that the environment exempts.
    no_proxy: Option<environment::NoProxy>,
}

impl Proxies {
    /// One proxy for all servers.
    pub(crate) fn one(proxy: Proxy) -> Self {
        Self {
            https: Some(proxy.clone()),
            http: Some(proxy),
            no_proxy: None,
        }
    }

    pub(super) fn of(&self, uri: &Uri) -> Option<Proxy> {
        let proxy = match uri.scheme_str() {
            Some("https") => &self.https,
            _ => &self.http,
        };
        let no_proxy = self.no_proxy.as_ref();
        let direct = no_proxy.is_some_and(|no_proxy| no_proxy.has(bare_host(uri)));
        proxy.clone().filter(|_| !direct)
    }
}

impl Proxy {
    pub(crate) fn parse(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let full = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let wrong = |what: &dyn fmt::Display| {
            let address = printable(text);
            let address = address.split_once("://").map_or(address, |(_, rest)| rest);
            ProxyError {
                variable: None,
                address: address.to_owned(),
                problem: what.to_string(),
            }
        };
        let address = Address::parse(&full).map_err(|error| wrong(&error))?;
        let login = address.login();
        let (kind, usual) = match address.scheme() {
            "http" => {
                let login = login.map(|login| {
                    let plain: Vec<u8> = percent_decode_str(login).collect();
                    Secret::new(STANDARD.encode(&plain))
                });
                (Kind::Http(login), 80)
            }
            "socks5" | "socks5h" => {
                let login = login.map(|login| {
                    let (name, password) = login.split_once(':').unwrap_or((login, ""));
                    let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
                    (plain(name), Secret::new(plain(password)))
                });
                (Kind::Socks(login), SOCKS_PORT)
            }
            _ => return Err(wrong(&"must start with http:// or socks5://")),
        };
        if let Kind::Socks(Some((name, password))) = &kind
            && name.len().max(password.expose().len()) > MAX_LOGIN
        {
            return Err(wrong(&"has a name or password that is too long for SOCKS"));
        }
        if address.path() != "/" || address.query().is_some() {
            return Err(wrong(&"must not have a path"));
        }
        let port = address.port().unwrap_or(usual);
        let uri: Uri = format!("http://{}/", with_port(address.host(), port))
            .parse()
            .map_err(|_| wrong(&"is not usable"))?;
        Ok(Self {
            uri,
            kind,
            variable: None,
        })
    }

    /// Whether the proxy is on this machine.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        is_this_machine(bare_host(&self.uri))
    }

    /// A connection to the server, through the proxy.
    pub(super) async fn reach(
        self,
        mut tcp: HttpConnector,
        uri: Uri,
    ) -> Result<TcpStream, BoxError> {
        let connected = tcp.call(self.uri.clone()).await;
        let stream = connected.map_err(|error| {
            let cause = root_cause(&error);
            format!("{self} cannot be reached: {cause}")
        })?;
        match &self.kind {
            Kind::Http(authorization) => {
                let mut stream = stream.into_inner();
                self.open(&mut stream, authorization.as_ref(), &uri).await?;
                Ok(stream)
            }
            Kind::Socks(login) => {
                let mut socks = SocksV5::new(self.uri.clone(), Connected(Some(stream)));
                if let Some((user, password)) = login {
                    socks = socks.with_auth(user.clone(), password.expose().to_owned());
                }
                match socks.call(uri).await {
                    Ok(stream) => Ok(stream.into_inner()),
                    Err(error) => Err(format!("{self} refused the tunnel: {error}").into()),
                }
            }
        }
    }

    /// Asks the proxy for a tunnel to the server.
    async fn open(
        &self,
        stream: &mut TcpStream,
        authorization: Option<&Secret>,
        uri: &Uri,
    ) -> Result<(), BoxError> {
        let target = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = authorization {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(authorization.expose());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let broke = |error| format!("the connection to {self} broke: {error}");
        stream.write_all(request.as_bytes()).await.map_err(broke)?;

        let mut answer = Vec::new();
        // Byte by byte: the bytes after the answer belong to the server.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MAX_ANSWER {
                return Err(format!("{self} sent an invalid answer").into());
            }
            answer.push(stream.read_u8().await.map_err(broke)?);
        }
        let line = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = latin1_or_utf8(line);
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split_once(' '));
        match status {
            Some((_, status)) if status.starts_with('2') => Ok(()),
            Some((_, status)) => {
                let encoded = authorization.map_or("", Secret::expose);
                let login = STANDARD.decode(encoded).unwrap_or_default();
                let login = latin1_or_utf8(&login);
                let password = login.split_once(':').map_or("", |(_, password)| password);
                let status = Scrubber::new([encoded, password]).text(status).into_owned();
                Err(format!("{self} refuses: {}", OneLine(&status)).into())
            }
            None => Err(format!("{self} does not speak HTTP").into()),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "the proxy {address}")?;
        match self.variable {
            Some(variable) => write!(f, " of {variable}"),
            None => Ok(()),
        }
    }
}

/// Hands over an existing connection.
struct Connected(Option<TokioIo<TcpStream>>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or("it is in use"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.uri)
    }
}

#[cfg(test)]
mod tests;
