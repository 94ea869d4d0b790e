//! Firewall rules, which have positions instead of ids.

use proxmox_codegen::facts::Method;
use serde_json::{Value, json};

use crate::api_error::{ApiError, ApiResult};
use crate::calls::call::{Call, Reply};
use crate::calls::records::rows::{Shape, check_digest, parameter_row, place};
use crate::formats::split_list;
use crate::state::records::{Row, digest};

pub(super) fn handle(call: &mut Call<'_>) -> ApiResult<Reply> {
    let schema = std::sync::Arc::clone(&call.cluster.schema);
    let list = call
        .path
        .strip_suffix("/{pos}")
        .unwrap_or(call.path)
        .to_owned();
    let one = list != call.path;
    let key = place(call, &list);
    if list == "/cluster/firewall/groups/{group}" {
        let group = call.owned("group");
        let known = call
            .cluster
            .entry("/cluster/firewall/groups", &group)
            .is_some();
        if !known {
            return Err(ApiError::die(format!("no such security group '{group}'")));
        }
    }
    let rows = call.cluster.rows(&key).to_vec();
    let stamp = digest(&rows);
    let pos = usize::try_from(call.number("pos").unwrap_or(0)).unwrap_or(usize::MAX);
    if one && pos >= rows.len() {
        return Err(ApiError::die(format!("no rule at position {pos}")));
    }
    if call.method == Method::Get {
        let shape = Shape::of(call, &schema, &list);
        let show = |at: usize, row: &Row| {
            let mut row = shape.show(row);
            // The position of a single rule is returned as it was in the path.
            row.insert(
                "pos".into(),
                if one {
                    json!(at.to_string())
                } else {
                    json!(at)
                },
            );
            row.insert("digest".into(), json!(stamp));
            if let Some(version) = address_version(&row) {
                row.insert("ipversion".into(), json!(version));
            }
            Value::Object(row)
        };
        return Ok(Reply::data(if one {
            show(pos, &rows[pos].1)
        } else {
            rows.iter()
                .enumerate()
                .map(|(at, (_, row))| show(at, row))
                .collect()
        }));
    }
    check_digest(call, &stamp)?;
    let mut rows = rows;
    let mut row = parameter_row(call, "pos");
    let delete = call.owned("delete");
    for name in split_list(&delete) {
        let problem = match name {
            "type" | "action" => format!("unable to delete required property '{name}'"),
            _ if call.endpoint.parameters.properties.contains_key(name) => continue,
            _ => format!("no such property ('{name}')"),
        };
        return Err(ApiError::parameter("delete", problem));
    }
    if call.method == Method::Post {
        row.entry("enable").or_insert_with(|| json!("0"));
        verify(call, &key, &row)?;
    } else if call.method == Method::Put && !call.params.contains_key("moveto") {
        let mut merged = rows[pos].1.clone();
        for name in split_list(&delete) {
            merged.remove(name);
        }
        merged.extend(row.clone());
        verify(call, &key, &merged)?;
    }
    match call.method {
        // A new rule is always inserted first.
        Method::Post => rows.insert(0, (String::new(), row)),
        Method::Delete => {
            rows.remove(pos);
        }
        _ => match call
            .number("moveto")
            .filter(|to| usize::try_from(*to) != Ok(pos))
        {
            Some(to) => {
                // It is inserted before the rule at that position.
                let to = usize::try_from(to).unwrap_or(usize::MAX);
                let moved = rows.remove(pos);
                let to = if to > pos { to - 1 } else { to };
                rows.insert(to.min(rows.len()), moved);
            }
            None => {
                for name in split_list(&delete) {
                    rows[pos].1.remove(name);
                }
                rows[pos].1.extend(row);
            }
        },
    }
    call.cluster.records.insert(key, rows);
    Ok(Reply::data(Value::Null))
}

/// The IP version of a rule's addresses.
fn address_version(row: &Row) -> Option<u8> {
    // Each IP version has its own ICMP protocol.
    match row.get("proto").and_then(Value::as_str) {
        Some("icmp") => return Some(4),
        Some("icmpv6" | "ipv6-icmp") => return Some(6),
        _ => {}
    }
    ["source", "dest"]
        .iter()
        .filter_map(|name| row.get(*name)?.as_str())
        .find_map(|text| crate::formats::network::addresses(text).ok().flatten())
}

/// The macros of the firewall.
pub(super) const MACROS: &str = "Amanda Auth BGP BitTorrent BitTorrent32 CVS Ceph Citrix DAAP DCC DHCPfwd DNS Distcc FTP \
    Finger GNUnet GRE Git HKP HTTP HTTPS ICPV2 ICQ IMAP IMAPS IPIP IPsec IPsecah IPsecnat IRC Jetdirect L2TP LDAP LDAPS \
    MDNS MSNP MSSQL Mail Munin MySQL NNTP NNTPS NTP OSPF OpenVPN PCA PMG POP3 POP3S PPtP Ping PostgreSQL Printer RDP RIP \
    RNDC Razor Rdate Rsync SANE SMB SMBswat SMTP SMTPS SNMP SPAMD SPICEproxy SSH SVN SixXS Squid Submission Syslog TFTP \
    Telnet Telnets Time Trcrt VNC VNCL Web Webcache Webmin Whois";

/// Protocols that have ports, by name and number.
const WITH_PORTS: [&str; 10] = [
    "udp", "17", "udplite", "136", "tcp", "6", "dccp", "33", "sctp", "132",
];

/// Refuses a rule that names missing objects, or that lacks a property that another one requires.
fn verify(call: &Call<'_>, key: &str, row: &Row) -> ApiResult<()> {
    let text = |name: &str| {
        row.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let fault = |name: &str, text: String| Err(ApiError::parameter(name, text));
    let needs = |name: &str, by: &str| {
        fault(
            name,
            format!("missing property - '{by}' requires this property"),
        )
    };
    let grouped = key.starts_with("/cluster/firewall/groups/");
    let action = text("action").unwrap_or("");
    match text("type").unwrap_or("") {
        "in" | "out" | "forward" => {
            if text("type") == Some("forward") && action == "REJECT" {
                let text = "cannot define REJECT rules on forward chain";
                return fault("action", text.into());
            }
            if !matches!(action, "ACCEPT" | "DROP" | "REJECT") {
                return fault("action", format!("unknown action '{action}'"));
            }
        }
        "group" if grouped => {
            let text = "invalid rule type 'group' for rule_env 'group'";
            return fault("type", text.into());
        }
        _ => {}
    }
    let guest = key.starts_with("/guests/");
    if let Some(iface) = text("iface").filter(|_| guest) {
        let number = iface.strip_prefix("net").unwrap_or("");
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            let text = r"value does not match the regex pattern 'net\d+'";
            return fault("iface", text.into());
        }
    }
    if let Some(name) = text("macro") {
        let mut known = MACROS.split_whitespace();
        if !known.any(|other| other.eq_ignore_ascii_case(name)) {
            return fault("macro", format!("unknown macro '{name}'"));
        }
    }
    let proto = text("proto");
    let icmp = matches!(proto, Some("icmp" | "icmpv6" | "ipv6-icmp" | "1" | "58"));
    if text("dport").is_some() {
        match proto {
            None => return needs("proto", "dport"),
            Some(proto) if !icmp && !WITH_PORTS.contains(&proto) => {
                return fault(
                    "dport",
                    format!("protocol '{proto}' does not support ports"),
                );
            }
            Some(_) => {}
        }
    }
    if text("icmp-type").is_some() {
        if !icmp {
            return needs("proto", "icmp-type");
        }
        if text("dport").is_some() {
            let text = "'icmp-type' cannot be specified together with 'dport'";
            return fault("icmp-type", text.into());
        }
    }
    if text("sport").is_some() {
        match proto {
            None => return needs("proto", "sport"),
            Some(proto) if !WITH_PORTS.contains(&proto) => {
                return fault(
                    "sport",
                    format!("protocol '{proto}' does not support ports"),
                );
            }
            Some(_) => {}
        }
    }
    let scope = key.strip_suffix("/rules").unwrap_or(key);
    let has = |list: &str, name: &str| {
        [scope, "/cluster/firewall"].iter().any(|place| {
            let mut rows = call.cluster.rows(&format!("{place}/{list}")).iter();
            rows.any(|(key, _)| key.eq_ignore_ascii_case(name))
        })
    };
    for name in ["source", "dest"] {
        let Some(value) = text(name) else { continue };
        let plain = value
            .strip_prefix('+')
            .unwrap_or(value)
            .trim_start_matches("guest/")
            .trim_start_matches("dc/");
        if value.starts_with('+') {
            // The software-defined network creates these sets.
            if !plain.starts_with("sdn/") && !has("ipset", plain) {
                return fault(name, format!("no such ipset '{plain}'"));
            }
        } else if value.starts_with(|c: char| c.is_ascii_alphabetic())
            && !value.contains(':')
            && !value.contains(',')
            && !has("aliases", plain)
        {
            return fault(name, format!("no such alias '{value}'"));
        }
    }
    let version = |name: &str| {
        text(name).and_then(|value| crate::formats::network::addresses(value).ok().flatten())
    };
    if let (Some(from), Some(to)) = (version("source"), version("dest"))
        && from != to
    {
        let text = "detected mixed ipv4/ipv6 addresses in rule";
        return fault("dest", text.into());
    }
    Ok(())
}
