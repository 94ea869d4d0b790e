//! The cloud-init data of a machine (qemu-server `QemuServer/Cloudinit.pm`).

use std::fmt::Write;

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::ApiResult;
use crate::calls::call::{Call, Reply};
use crate::propstring;
use crate::state::guest::{Guest, Kind};
use crate::state::records::digest;

pub(super) fn handle(call: &Call<'_>) -> Option<ApiResult<Reply>> {
    let place = call
        .path
        .strip_prefix("/nodes/{node}/qemu/{vmid}/cloudinit")?;
    if call.method != Method::Get {
        return None;
    }
    let vmid = call.vmid("vmid");
    let guest = match (call.cluster).guest(Kind::Qemu, &call.owned("node"), vmid) {
        Ok(guest) => guest,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(match (place, call.text("type")) {
        ("", _) => Reply::data(settings(guest)),
        ("/dump", Some("user")) => Reply::data(user(guest, vmid)),
        ("/dump", Some("network")) => Reply::data(network(guest)),
        ("/dump", _) => {
            let hash = digest(&format!("{}{}", user(guest, vmid), network(guest)));
            Reply::data(format!("instance-id: {hash}\n"))
        }
        _ => return None,
    }))
}

fn is_setting(key: &str) -> bool {
    matches!(
        key,
        "cicustom"
            | "cipassword"
            | "citype"
            | "ciuser"
            | "ciupgrade"
            | "nameserver"
            | "searchdomain"
            | "sshkeys"
    )
}

/// The current and the pending settings.
fn settings(guest: &Guest) -> Vec<Value> {
    let printed = |key: &str, value: &str| match key {
        "cipassword" => json!("**********"),
        "ciupgrade" => json!(value.parse::<u8>().unwrap_or(1)),
        _ => json!(value),
    };
    let planned = guest
        .pending
        .iter()
        .filter(|(key, _)| !guest.config.contains_key(*key));
    let mut rows: Vec<Value> = (guest.config.iter())
        .filter(|(key, _)| is_setting(key))
        .map(|(key, value)| {
            let mut row = json!({ "key": key, "value": printed(key, value) });
            match guest.pending.get(key) {
                Some(Some(new)) => row["pending"] = printed(key, new),
                Some(None) => row["delete"] = json!(1),
                None => {}
            }
            row
        })
        .collect();
    rows.extend(
        planned
            .filter(|(key, _)| is_setting(key))
            .filter_map(|(key, value)| {
                Some(json!({ "key": key, "pending": printed(key, value.as_deref()?) }))
            }),
    );
    rows
}

/// The cloud-init data about names and users.
fn user(guest: &Guest, vmid: u32) -> String {
    let config = |key: &str| guest.config.get(key).map(String::as_str);
    let name = config("name").map_or_else(|| format!("VM{vmid}"), str::to_owned);
    let (host, full) = match (name.split_once('.'), config("searchdomain")) {
        (Some((host, _)), _) => (host.to_owned(), name.clone()),
        (None, Some(domain)) => (name.clone(), format!("{name}.{domain}")),
        (None, None) => (name.clone(), name.clone()),
    };
    let mut out =
        format!("#cloud-config\nhostname: {host}\nmanage_etc_hosts: true\nfqdn: {full}\n");
    let root = config("ciuser") == Some("root");
    if let Some(user) = config("ciuser") {
        let _ = writeln!(out, "user: {user}");
    }
    if root {
        out.push_str("disable_root: False\n");
    }
    if config("cipassword").is_some() {
        out.push_str("password: **********\n");
    }
    if let Some(keys) = config("sshkeys") {
        out.push_str("ssh_authorized_keys:\n");
        let keys = percent_encoding::percent_decode_str(keys).decode_utf8_lossy();
        for key in keys.lines().filter(|key| !key.trim().is_empty()) {
            let _ = writeln!(out, "  - {key}");
        }
    }
    out.push_str("chpasswd:\n  expire: False\n");
    if !root {
        out.push_str("users:\n  - default\n");
    }
    if config("ciupgrade").is_none_or(|upgrade| upgrade != "0") {
        out.push_str("package_upgrade: true\n");
    }
    out
}

fn network(guest: &Guest) -> String {
    let config = |key: &str| guest.config.get(key).map_or("", String::as_str);
    // The code that reads the value splits at white space only, although the parameter's check
    // accepts more. Missing values come from the node.
    let list = |key: &str| {
        let node = match key {
            "nameserver" => "192.0.2.53",
            _ => "example.org",
        };
        let set = guest.config.get(key).map_or(node, String::as_str);
        set.split_ascii_whitespace()
    };
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
            if propstring::value(addresses, "ip") == Some("dhcp") {
                let _ = writeln!(out, "iface eth{number} inet dhcp");
            } else if let Some((address, _)) =
                propstring::value(addresses, "ip").and_then(|ip| ip.split_once('/'))
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
        match propstring::value(addresses, "ip") {
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
                if let Some(gateway) = propstring::value(addresses, "gw") {
                    let _ = writeln!(out, "        gateway: '{gateway}'");
                }
            }
            None => {}
        }
        match propstring::value(addresses, "ip6") {
            Some("dhcp") => out.push_str("      - type: dhcp6\n"),
            Some("auto") => out.push_str("      - type: ipv6_slaac\n"),
            Some(ip) => {
                let _ = writeln!(out, "      - type: static6\n        address: '{ip}'");
                if let Some(gateway) = propstring::value(addresses, "gw6") {
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
