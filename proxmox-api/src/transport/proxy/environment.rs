//! The proxies from environment variables, read as most programs do.

use std::net::IpAddr;

use super::{Proxies, Proxy, ProxyError};

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Proxies {
    /// Those of `HTTPS_PROXY`, `http_proxy`, `ALL_PROXY` and `NO_PROXY`.
    pub(crate) fn from_environment() -> Result<Self, ProxyError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    pub(in crate::transport::proxy) fn from_variables(
        read: Variables<'_>,
    ) -> Result<Self, ProxyError> {
        let text = |name: &&'static str| {
            let value = read(name)?.trim().to_owned();
            Some((*name, value)).filter(|(_, value)| !value.is_empty())
        };
        let proxy = |names: &[&'static str]| -> Result<Option<Proxy>, ProxyError> {
            let Some((variable, value)) = names.iter().find_map(text) else {
                return Ok(None);
            };
            let variable = Some(variable);
            let proxy = Proxy::parse(&value).map_err(|error| ProxyError { variable, ..error })?;
            Ok(Some(Proxy { variable, ..proxy }))
        };
        let no_proxy = ["no_proxy", "NO_PROXY"].iter().find_map(text);
        Ok(Self {
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            // A CGI program gets a header field of its caller in the upper-case variable.
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            no_proxy: Some(NoProxy::parse(
                &no_proxy.map(|(_, value)| value).unwrap_or_default(),
            )),
        })
    }
}

/// The servers that are reached without a proxy: those of `NO_PROXY`, and this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(Vec<Rule>);

#[derive(Clone, Debug)]
enum Rule {
    Everything,
    /// A domain and its subdomains.
    Domain(String),
    /// An address and the number of its significant bits.
    Net(IpAddr, u32),
}

impl NoProxy {
    pub(super) fn parse(text: &str) -> Self {
        let entries = text.split([',', ' ']).map(str::trim);
        Self(
            entries
                .filter(|entry| !entry.is_empty())
                .map(Rule::parse)
                .collect(),
        )
    }

    pub(super) fn has(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        address.is_some_and(|address| address.is_loopback())
            || host == "localhost"
            || self.0.iter().any(|rule| rule.fits(&host, address))
    }
}

impl Rule {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, bits.parse().ok()),
            None => (entry, Some(u32::MAX)),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if let (Ok(address), Some(bits)) = (address.parse(), bits) {
            return Self::Net(address, bits);
        }
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        Self::Domain(domain.trim_end_matches('.').to_ascii_lowercase())
    }

    fn fits(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(domain) => (host.strip_suffix(domain.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            Self::Net(net, bits) => address.is_some_and(|address| in_network(*net, address, *bits)),
        }
    }
}

/// Whether two addresses start with the same bits.
fn in_network(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    let (one, other, length) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let rest = length - bits.min(length);
    (one ^ other).checked_shr(rest).unwrap_or(0) == 0
}
