//! What cloud-init is told about a machine's network.

use std::fmt::Write;

use proxmox_codegen::facts::Method;

use super::{Call, Reply};
use crate::error::ApiResult;
use crate::guest::{Guest, Kind};

pub(super) fn handle(call: &Call<'_>) -> Option<ApiResult<Reply>> {
    let dump = "/nodes/{node}/qemu/{vmid}/cloudinit/dump";
    (call.method == Method::Get && call.path == dump && call.text("type") == Some("network")).then(
        || {
            let guest = (call.world).guest(Kind::Qemu, &call.owned("node"), call.vmid("vmid"))?;
            Ok(Reply::data(network(guest)))
        },
    )
}

/// The value of a key of a property string.
fn key<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = text.split(',').filter_map(|part| part.split_once('='));
    parts.find_map(|(key, value)| (key == name).then_some(value))
}

fn network(guest: &Guest) -> String {
    let config = |key: &str| guest.config.get(key).map_or("", String::as_str);
    // Here only white space separates, whatever the check of the parameter took.
    let list = |key| config(key).split_ascii_whitespace();
    let windows = config("ostype").starts_with('w') && config("ostype") != "wvista";
    let mut out = String::new();
    let cards = (0..32).filter_map(|number| {
        let card = guest.config.get(&format!("net{number}"))?;
        Some((
            number,
            card,
            guest.config.get(&format!("ipconfig{number}"))?,
        ))
    });
    if windows {
        out.push_str("auto lo\niface lo inet loopback\n\n");
        for (key, word) in [
            ("nameserver", "dns_nameservers"),
            ("searchdomain", "dns_search"),
        ] {
            let all: Vec<&str> = list(key).collect();
            if !all.is_empty() {
                let _ = writeln!(out, "        {word} {}", all.join(" "));
            }
        }
        for (number, _, addresses) in cards {
            let _ = writeln!(out, "auto eth{number}");
            if key(addresses, "ip") == Some("dhcp") {
                let _ = writeln!(out, "iface eth{number} inet dhcp");
            } else if let Some((address, _)) =
                key(addresses, "ip").and_then(|ip| ip.split_once('/'))
            {
                let _ = writeln!(
                    out,
                    "iface eth{number} inet static\n        address {address}"
                );
            }
        }
        return out;
    }
    out.push_str("version: 1\nconfig:\n");
    for (number, card, addresses) in cards {
        let mac = card
            .split(',')
            .filter_map(|part| part.split_once('='))
            .find_map(|(_, value)| (value.matches(':').count() == 5).then_some(value))
            .unwrap_or("")
            .to_ascii_lowercase();
        let _ = writeln!(
            out,
            "    - type: physical\n      name: eth{number}\n      mac_address: '{mac}'\n      subnets:"
        );
        match key(addresses, "ip") {
            Some("dhcp") => out.push_str("      - type: dhcp4\n"),
            Some(ip) => {
                let (address, mask) = ip.split_once('/').unwrap_or((ip, "32"));
                let bits = mask.parse::<u32>().unwrap_or(32).min(32);
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let mask = std::net::Ipv4Addr::from_bits(mask);
                let _ = writeln!(
                    out,
                    "      - type: static\n        address: '{address}'\n        netmask: '{mask}'"
                );
                if let Some(gateway) = key(addresses, "gw") {
                    let _ = writeln!(out, "        gateway: '{gateway}'");
                }
            }
            None => {}
        }
        match key(addresses, "ip6") {
            Some("dhcp") => out.push_str("      - type: dhcp6\n"),
            Some("auto") => out.push_str("      - type: ipv6_slaac\n"),
            Some(ip) => {
                let _ = writeln!(out, "      - type: static6\n        address: '{ip}'");
                if let Some(gateway) = key(addresses, "gw6") {
                    let _ = writeln!(out, "        gateway: '{gateway}'");
                }
            }
            None => {}
        }
    }
    out.push_str("    - type: nameserver\n");
    for (key, word) in [("nameserver", "address"), ("searchdomain", "search")] {
        let all: Vec<&str> = list(key).collect();
        if !all.is_empty() {
            let _ = writeln!(out, "      {word}:");
            for one in all {
                let _ = writeln!(out, "      - '{one}'");
            }
        }
    }
    out
}
