//! An HTTP proxy on the way: a tunnel by `CONNECT`, with TLS to the server inside.

use std::error::Error as StdError;
use std::fmt;

use http::uri::Uri;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api_error::{OneLine, latin1_or_utf8};
use crate::error::Error;
use crate::secret::Secret;

/// A proxy's address, and who to be there.
#[derive(Clone)]
pub(crate) struct Proxy {
    uri: Uri,
    authorization: Option<Secret>,
}

type BoxError = Box<dyn StdError + Send + Sync>;

/// More is no answer to a `CONNECT`.
const LONGEST_ANSWER: usize = 8 * 1024;

impl Proxy {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let wrong = |what: &str| Error::config(format!("the proxy address {address:?} {what}"));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong("is not reached by http"));
        }
        let unusable = || wrong("is not usable");
        let uri: Uri = format!("http://{address}/")
            .parse()
            .map_err(|_| unusable())?;
        if uri.path() != "/" || uri.query().is_some() || uri.host().is_none_or(str::is_empty) {
            return Err(unusable());
        }
        let authorization = user.map(|user| {
            let plain: Vec<u8> = percent_decode_str(user).collect();
            Secret::new(format!("Basic {}", base64(&plain)))
        });
        Ok(Self { uri, authorization })
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Says of an error that it is the proxy that cannot be reached.
    pub(super) fn reached<T>(&self, result: Result<T, impl Into<BoxError>>) -> Result<T, BoxError> {
        result.map_err(|error| {
            let cause = super::root_cause(&*error.into());
            format!("{self} cannot be reached: {cause}").into()
        })
    }

    /// Has the proxy open a way to the server.
    pub(super) async fn open(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), BoxError> {
        let target = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization.expose());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let broke = |error| format!("{self} broke off: {error}");
        stream.write_all(request.as_bytes()).await.map_err(broke)?;

        let mut answer = Vec::new();
        // Byte by byte: what follows the answer belongs to the server.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= LONGEST_ANSWER {
                return Err(format!("{self} gives no usable answer").into());
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
            Some((_, status)) => Err(format!("{self} refuses: {}", OneLine(status)).into()),
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
        write!(f, "the proxy {address}")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.uri)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            text.push(if i <= chunk.len() {
                char::from(DIGITS[(bits >> (18 - 6 * i) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::Client;
    use crate::endpoint::Method;
    use crate::request::Call;
    use crate::retry::RetryPolicy;

    #[test]
    fn credentials_are_encoded() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("~~~???", "fn5+Pz8/"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn addresses_are_read_and_their_password_is_not_shown() {
        for (text, address) in [
            ("http://proxy:3128", "the proxy proxy:3128"),
            ("proxy:3128/", "the proxy proxy:3128"),
            ("http://bob:hunter22@[::1]:8080", "the proxy [::1]:8080"),
        ] {
            let proxy = Proxy::parse(text).expect(text);
            assert_eq!(proxy.to_string(), address);
            assert!(!format!("{proxy:?}").contains("hunter22"));
        }
        for text in [
            "",
            "https://bob:hunter22@proxy",
            "socks5://proxy",
            "http://bob:hunter22@pro xy",
            "http://proxy/path",
        ] {
            let error = Proxy::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter22"), "{error}");
        }
    }

    /// A proxy for one connection: answers the `CONNECT` so, and then plays the server itself.
    async fn proxy(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = Vec::new();
            for said in [
                answer,
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"data\":1}",
            ] {
                let start = seen.len();
                while !seen[start..].ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => seen.push(byte),
                        Err(_) => return latin1_or_utf8(&seen),
                    }
                }
                stream
                    .write_all(said.as_bytes())
                    .await
                    .expect("somebody reads");
            }
            latin1_or_utf8(&seen)
        });
        (format!("http://bob:p%40ss@{address}"), server)
    }

    async fn version_through(proxy: &str) -> Result<crate::client::Reply, Error> {
        Client::builder("http://pve1.invalid:8006")
            .danger_allow_http(true)
            .proxy(proxy)
            .retry(RetryPolicy::none())
            .build()
            .expect("complete")
            .execute(Call::new(Method::Get, "/version"))
            .await
    }

    #[tokio::test]
    async fn a_request_goes_through_the_tunnel() {
        let (url, server) = proxy("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await;
        let reply = version_through(&url).await.expect("answered");
        assert_eq!(reply.body, "{\"data\":1}");
        let seen = server.await.expect("no panic");
        let (connect, request) = seen.split_once("\r\n\r\n").expect("two requests");
        assert_eq!(
            connect,
            "CONNECT pve1.invalid:8006 HTTP/1.1\r\nHost: pve1.invalid:8006\r\n\
             Proxy-Authorization: Basic Ym9iOnBAc3M="
        );
        assert!(
            request.starts_with("GET /api2/json/version HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            !request.to_ascii_lowercase().contains("proxy-authorization"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named() {
        for (answer, text) in [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
                "refuses: 407 Proxy Authentication Required",
            ),
            ("SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        ] {
            let (url, server) = proxy(answer).await;
            let error = version_through(&url).await.expect_err("refused");
            assert!(error.never_sent());
            let shown = error.to_string();
            assert!(
                shown.contains("the proxy 127.0.0.1:") && shown.ends_with(text),
                "{shown}"
            );
            assert!(
                !shown.contains("p@ss") && !shown.contains("p%40ss"),
                "{shown}"
            );
            server.await.expect("no panic");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let error = version_through(&address.to_string())
            .await
            .expect_err("nobody listens");
        assert!(error.never_sent());
        assert!(
            error
                .to_string()
                .contains(&format!("the proxy {address} cannot be reached")),
            "{error}"
        );
    }
}
