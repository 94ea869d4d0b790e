//! The network of a running guest, as seen in its system.

use serde_json::{Value, json};

use crate::indexed::split_index;
use crate::propstring;
use crate::sample::mix;
use crate::state::guest::{Guest, Kind};

/// An interface inside a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// In lower case.
    pub(crate) mac: String,
    /// Addresses with prefix lengths.
    pub(crate) addresses: Vec<(String, u8)>,
}

/// The interfaces of a guest, the loopback first.
pub(crate) fn interfaces(vmid: u32, guest: &Guest) -> Vec<Interface> {
    let mut found = vec![Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        addresses: vec![("127.0.0.1".into(), 8), ("::1".into(), 128)],
    }];
    for (key, value) in &guest.config {
        let Some((_, index)) = split_index(key).filter(|(prefix, _)| *prefix == "net") else {
            continue;
        };
        let part = |name: &str| propstring::value(value, name);
        let mac = value
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(_, mac)| mac)
            .find(|mac| mac.matches(':').count() == 5)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let (name, ip, ip6) = match guest.kind {
            Kind::Lxc => (
                part("name").unwrap_or("eth0").to_owned(),
                part("ip"),
                part("ip6"),
            ),
            Kind::Qemu => {
                let ipconfig = guest.config.get(&format!("ipconfig{index}"));
                let part = |name: &str| propstring::value(ipconfig?, name);
                let fallback = part("ip").or(Some("dhcp"));
                (format!("eth{index}"), fallback, part("ip6"))
            }
        };
        let mut addresses = Vec::new();
        match ip {
            Some("dhcp") => addresses.push((leased(vmid, index), 24)),
            Some(ip) => addresses.extend(fixed(ip)),
            None => {}
        }
        addresses.extend(ip6.and_then(fixed));
        addresses.extend(link_local(&mac).map(|ip| (ip, 64)));
        found.push(Interface {
            name,
            mac,
            addresses,
        });
    }
    found
}

fn fixed(text: &str) -> Option<(String, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    Some((ip.to_owned(), prefix.parse().ok()?))
}

/// Addresses from the network's DHCP server.
fn leased(vmid: u32, index: u32) -> String {
    let bits = mix(&format!("{vmid} {index}"), 11) % (200 * 200);
    format!("10.0.{}.{}", bits / 200, 20 + bits % 200)
}

/// The link-local address derived from the MAC address.
fn link_local(mac: &str) -> Option<String> {
    let bytes: Vec<u16> = mac
        .split(':')
        .map(|part| u16::from_str_radix(part, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    let [a, b, c, d, e, f] = bytes.as_slice() else {
        return None;
    };
    let address = std::net::Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        (a ^ 2) << 8 | b,
        c << 8 | 0xff,
        0xfe00 | d,
        e << 8 | f,
    );
    Some(address.to_string())
}

/// In the format of the guest agent, which nodes also use for containers.
pub(crate) fn addresses(interface: &Interface) -> Value {
    interface
        .addresses
        .iter()
        .map(|(ip, prefix)| {
            let family = if ip.contains(':') { "ipv6" } else { "ipv4" };
            json!({ "ip-address": ip, "ip-address-type": family, "prefix": prefix })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::Config;

    fn guest(kind: Kind, config: &[(&str, &str)]) -> Guest {
        let config: Config = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Guest::new(kind, "pve1", config)
    }

    #[test]
    fn a_virtual_machine_has_its_configured_addresses() {
        let machine = guest(
            Kind::Qemu,
            &[
                ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
                (
                    "ipconfig0",
                    "ip=192.0.2.7/24,gw=192.0.2.1,ip6=2001:db8::7/64",
                ),
                ("net1", "e1000=BC:24:11:00:00:02,bridge=vmbr0"),
            ],
        );
        let found = interfaces(100, &machine);
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["lo", "eth0", "eth1"]);
        assert_eq!(found[1].mac, "bc:24:11:00:00:01");
        let expected = [
            ("192.0.2.7".to_owned(), 24),
            ("2001:db8::7".to_owned(), 64),
            ("fe80::be24:11ff:fe00:1".to_owned(), 64),
        ];
        assert_eq!(found[1].addresses, expected);
        assert!(found[2].addresses[0].0.starts_with("10.0."));
    }

    #[test]
    fn a_container_has_its_configured_interface_names() {
        let container = guest(
            Kind::Lxc,
            &[(
                "net0",
                "name=wan,bridge=vmbr0,hwaddr=BC:24:11:00:00:03,ip=192.0.2.9/28,type=veth",
            )],
        );
        let found = interfaces(101, &container);
        assert_eq!(found[1].name, "wan");
        assert_eq!(found[1].addresses[0], ("192.0.2.9".to_owned(), 28));
        assert_eq!(found[1].addresses.len(), 2);
    }
}
