//! The address of a request's client: the peer of the connection, or the address that a trusted
//! proxy reports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderMap;
use http::header::HeaderName;

use crate::config::ConfigError;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A network in CIDR notation, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((own, kind), (other, other_kind)) = (bits(self.address), bits(address));
        let differ = (own ^ other).checked_shr(128 - self.length).unwrap_or(0);
        kind == other_kind && differ == 0
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            "" if !text.contains('/') => max,
            digits => digits.parse().map_err(|_| ())?,
        };
        match length <= max {
            true => Ok(Self { address, length }),
            false => Err(()),
        }
    }
}

/// The proxies whose `X-Forwarded-For` is trusted; by default none.
#[derive(Clone, Default)]
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    pub(crate) fn parse(networks: &[String]) -> Result<Self, ConfigError> {
        let network = |text: &String| {
            text.parse().map_err(|()| {
                ConfigError::new(format!(
                    "trusted_proxies: {text:?} must be an address or a network"
                ))
            })
        };
        let networks = networks.iter().map(network);
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address belongs to a trusted proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client's address of a request that came from `peer`. Each proxy appends the address of
    /// its client, so the list is read from its end for as long as the writers are trusted.
    pub(crate) fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let lines = lines.map(|line| line.to_str().unwrap_or_default());
        for entry in lines.flat_map(|line| line.rsplit(',')) {
            if !self.contains(origin) {
                break;
            }
            let Some(before) = address(entry.trim()) else {
                break;
            };
            origin = before;
        }
        origin
    }
}

/// The address for limits: an IPv4 address, or the first 64 bits of an IPv6 address, because one
/// client usually has all addresses of such a prefix.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::from(u64::MAX) << 64;
            IpAddr::V6((address.to_bits() & mask).into())
        }
        plain => plain,
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    let found = plain.parse::<IpAddr>().ok();
    let found = found.or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    found.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let trusted: Vec<String> = trusted.iter().map(|&text| text.to_owned()).collect();
        let proxies = Proxies::parse(&trusted).expect("networks");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().expect("a value"));
        }
        let peer = peer.parse().expect("an address");
        proxies.origin(peer, &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_report_addresses() {
        assert_eq!(origin(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(origin(&trusted, "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(origin(&trusted, "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(origin(&trusted, "::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        // The client's own claim is further to the left.
        assert_eq!(
            origin(&trusted, "10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"]),
            "1.2.3.4"
        );
        assert_eq!(
            origin(&trusted, "10.0.0.1", &["6.6.6.6", "1.2.3.4:555"]),
            "1.2.3.4"
        );
        assert_eq!(
            origin(&trusted, "fd00::1", &["[2001:db8::7]:443"]),
            "2001:db8::7"
        );
        for invalid in ["", "unknown", "1.2.3.4, ,", "1.2.3.4, x"] {
            assert_eq!(
                origin(&trusted, "10.0.0.1", &[invalid]),
                "10.0.0.1",
                "{invalid}"
            );
        }
        assert_eq!(origin(&trusted, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn addresses_of_one_ipv6_prefix_count_as_one() {
        let prefix = |text: &str| super::prefix(text.parse().expect("an address"));
        assert_eq!(
            prefix("2001:db8:1:2::7"),
            prefix("2001:db8:1:2:ffff:ffff:ffff:1")
        );
        assert_ne!(prefix("2001:db8:1:2::7"), prefix("2001:db8:1:3::7"));
        assert_eq!(prefix("::ffff:10.0.0.1"), prefix("10.0.0.1"));
        assert_ne!(prefix("10.0.0.1"), prefix("10.0.0.2"));
    }

    #[test]
    fn networks_need_an_address_and_a_prefix_length() {
        for bad in ["x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Proxies::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let everything = Proxies::parse(&["0.0.0.0/0".to_owned()]).expect("a network");
        assert!(everything.contains(IpAddr::from([1, 2, 3, 4])));
        assert!(!everything.contains("::1".parse().expect("an address")));
        let one = Proxies::parse(&["10.0.0.1".to_owned()]).expect("an address");
        assert!(
            one.contains(IpAddr::from([10, 0, 0, 1])) && !one.contains(IpAddr::from([10, 0, 0, 2]))
        );
    }
}
