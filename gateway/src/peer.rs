//! Where a request comes from: the other end of its connection, or what a proxy that is trusted says.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderMap;
use http::header::HeaderName;

use crate::config::ConfigError;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that begin alike, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
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
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            "" if !text.contains('/') => most,
            digits => digits.parse().map_err(|_| ())?,
        };
        match length <= most {
            true => Ok(Self { address, length }),
            false => Err(()),
        }
    }
}

/// The proxies whose word is taken for where a request comes from. Without any, nobody's is.
#[derive(Clone, Default)]
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    pub(crate) fn parse(networks: &[String]) -> Result<Self, ConfigError> {
        let network = |text: &String| {
            text.parse().map_err(|()| {
                ConfigError::new(format!(
                    "trusted_proxies: {text:?} is no address and no network"
                ))
            })
        };
        let networks = networks.iter().map(network);
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is that of a proxy that is trusted.
    pub(crate) fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }

    /// Where a request comes from that came over a connection with `peer`. Each proxy adds whom it has the request from at
    /// the end, so the list is read from there for as long as those who wrote it are trusted.
    pub(crate) fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let lines = lines.map(|line| line.to_str().unwrap_or_default());
        for entry in lines.flat_map(|line| line.rsplit(',')) {
            if !self.hold(origin) {
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

/// The addresses that one customer of a network has: an IPv4 address, or the first half of an IPv6 address. What is counted
/// by address is counted by this.
pub(crate) fn home(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let first_half = u128::from(u64::MAX) << 64;
            IpAddr::V6((address.to_bits() & first_half).into())
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
    fn only_proxies_that_are_trusted_are_believed() {
        assert_eq!(origin(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(origin(&trusted, "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(origin(&trusted, "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(origin(&trusted, "::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        // What the caller itself wrote stands further to the left.
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
        for odd in ["", "unknown", "1.2.3.4, ,", "1.2.3.4, x"] {
            assert_eq!(origin(&trusted, "10.0.0.1", &[odd]), "10.0.0.1", "{odd}");
        }
        assert_eq!(origin(&trusted, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn nobody_has_more_homes_than_networks() {
        let home = |text: &str| super::home(text.parse().expect("an address"));
        assert_eq!(
            home("2001:db8:1:2::7"),
            home("2001:db8:1:2:ffff:ffff:ffff:1")
        );
        assert_ne!(home("2001:db8:1:2::7"), home("2001:db8:1:3::7"));
        assert_eq!(home("::ffff:10.0.0.1"), home("10.0.0.1"));
        assert_ne!(home("10.0.0.1"), home("10.0.0.2"));
    }

    #[test]
    fn networks_have_an_address_and_a_length() {
        for bad in ["x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Proxies::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let everything = Proxies::parse(&["0.0.0.0/0".to_owned()]).expect("a network");
        assert!(everything.hold(IpAddr::from([1, 2, 3, 4])));
        assert!(!everything.hold("::1".parse().expect("an address")));
        let one = Proxies::parse(&["10.0.0.1".to_owned()]).expect("an address");
        assert!(one.hold(IpAddr::from([10, 0, 0, 1])) && !one.hold(IpAddr::from([10, 0, 0, 2])));
    }
}
