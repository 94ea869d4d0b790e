//! Addresses of servers: the one parser for everything that this crate connects to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::Authority;

use super::secret::Secret;

/// A parsed address. Its printed forms show neither name and password nor the query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// In lower case.
    scheme: String,
    /// `name:password`, as in the address.
    login: Option<Secret>,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

/// The problem with an address; completes "the address …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressError(&'static str);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Parses `scheme://[login@]host[:port][/path][?query]`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or(AddressError("has no scheme"))?;
        if text.contains('#') {
            return Err(AddressError("must not have a query or fragment"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (login, authority) = match authority.rsplit_once('@') {
            Some((login, authority)) => (Some(Secret::from(login)), authority),
            None => (None, authority),
        };
        let unusable = AddressError("is not usable");
        if authority.is_empty() || authority.starts_with(':') {
            return Err(AddressError("has no host"));
        }
        let authority: Authority = authority.parse().map_err(|_| unusable)?;
        let host = authority.host();
        let bare = match host.strip_prefix('[') {
            Some(rest) => {
                let bare = rest.strip_suffix(']').ok_or(unusable)?;
                bare.parse::<Ipv6Addr>().map_err(|_| unusable)?;
                bare
            }
            None if is_odd_number(host) => {
                return Err(AddressError(
                    "has a number as host that is not an IP address",
                ));
            }
            None => host,
        };
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => None,
            Some(_) => match authority.port_u16() {
                Some(port) if port != 0 => Some(port),
                _ => return Err(AddressError("has no usable port")),
            },
            None => return Err(unusable),
        };
        let path: Uri = match rest {
            "" => Uri::from_static("/"),
            _ if rest.starts_with('?') => format!("/{rest}").parse().map_err(|_| unusable)?,
            _ => rest.parse().map_err(|_| unusable)?,
        };
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            login,
            host: bare.to_owned(),
            port,
            path: path.path().to_owned(),
            query: path.query().map(str::to_owned),
        })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    pub(crate) fn login(&self) -> Option<&str> {
        self.login.as_ref().map(Secret::expose)
    }

    /// The host; an IPv6 address without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path, at least `/`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The same host with that port.
    pub(crate) fn origin(&self, port: u16) -> String {
        format!("{}://{}", self.scheme, with_port(&self.host, port))
    }
}

/// Whether resolvers read a host as an IP address although it is not written as one, such as
/// `2852039166`, `0xa9fea9fe` or `127.1`. Address checks would read it as a name.
fn is_odd_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next();
    let last = last.unwrap_or_default().to_ascii_lowercase();
    let number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    number && host.parse::<Ipv4Addr>().is_err()
}

/// `pve1:8006`, or `[::1]:8006`.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Whether a host, without brackets, is this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The part of an address without credentials, whether it parses or not.
pub(crate) fn printable(address: &str) -> &str {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    address.rsplit('@').next().unwrap_or_default()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match self.port {
            Some(port) => f.write_str(&with_port(&self.host, port))?,
            None if self.host.contains(':') => write!(f, "[{}]", self.host)?,
            None => f.write_str(&self.host)?,
        }
        match self.path.as_str() {
            "/" => Ok(()),
            path => f.write_str(path),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let address =
            Address::parse("HTTPS://u:hunter22@[::1]:8006/a/b?c=hunter22").expect("it is one");
        assert_eq!(
            (
                address.scheme(),
                address.host(),
                address.port(),
                address.path(),
                address.query()
            ),
            ("https", "::1", Some(8006), "/a/b", Some("c=hunter22"))
        );
        assert_eq!(address.login(), Some("u:hunter22"));
        assert_eq!(address.to_string(), "https://[::1]:8006/a/b");
        assert!(!format!("{address:?}").contains("hunter22"));
        let plain = Address::parse("http://pve1").expect("it is one");
        assert_eq!(
            (plain.port(), plain.path(), plain.origin(80)),
            (None, "/", "http://pve1:80".to_owned())
        );
    }

    #[test]
    fn unusable_addresses_are_refused() {
        for text in [
            "pve1:8006",
            "https://",
            "https:///path",
            "https://:8006",
            "http://[::1",
            "http://[pve1]:1",
            "http://pve1:99999",
            "http://pve1:0",
            "http://pve1:",
            "http://pve 1/",
            "http://pve1/a b",
            "http://pve1/#top",
            "https://2852039166/",
            "https://0xa9fea9fe:8006",
            "https://0251.0376.0251.0376/",
            "https://169.254.43518/",
            "https://169.254.169.254./",
            "https://127.1",
            "https://pve.1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_is_recognized_by_name_and_address() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "localhost.example.org",
            "10.0.0.1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic_or_shows_its_login(text in "(https?://)?\\PC{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                let printed = format!("{address} {address:?}");
                if let Some(login) = address.login().filter(|login| login.len() > 8) {
                    prop_assert!(!printed.contains(login));
                }
            }
        }
    }
}
