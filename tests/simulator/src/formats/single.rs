//! Checks of single values of formats, with the server's texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::formats::network::{NONE, addresses, cidr, ports, protocol, vlans};
use crate::formats::patterns::{
    CONFIG_ID, CONTENT_TYPES, DNS, EMAIL, EMAIL_USER, IFACE, NODE, REALM, STORAGE_ID, VOLUME, is,
};
use crate::formats::split_list;
use crate::formats::values::{
    block_size, calendar_event, indexed, is_override, is_privilege, unknown_helper, verdict_of,
};

/// Checks a single value; the error is the server's text.
pub(crate) fn single(name: &str, v: &str) -> Option<(bool, String)> {
    let look = |what: &str| format!("value does not look like a valid {what}");
    let verdict = match name {
        "string" => (true, String::new()),
        "pve-fw-conntrack-helper" => match unknown_helper(v) {
            None => (true, String::new()),
            Some(error) => (false, error),
        },
        "pve-storage-content" => (
            CONTENT_TYPES.contains(&v),
            format!("invalid content type '{v}'"),
        ),
        "pve-vmid" => (is("[1-9][0-9]{2,8}", v), look("VM ID")),
        "pve-node" => (is(NODE, v), look("node name")),
        "pve-configid" => (is(CONFIG_ID, v), format!("invalid configuration ID '{v}'")),
        "pve-storage-id" if v.chars().count() < 2 => (
            false,
            format!("storage ID '{v}' cannot be shorter than 2 characters"),
        ),
        "pve-storage-id" => (
            is(STORAGE_ID, v),
            format!("storage ID '{v}' contains illegal characters"),
        ),
        "pve-bridge-id" => (
            is(r"(?^i:[-_.\w\d]+)", v),
            format!("invalid bridge ID '{v}'"),
        ),
        "pve-iface" => (
            is(IFACE, v),
            format!("invalid network interface name '{v}'"),
        ),
        "pve-userid" => match v.chars().count() {
            0..3 => (false, format!("user name '{v}' is too short")),
            length @ 65.. => (
                false,
                format!("user name '{v}' is too long ({length} > 64)"),
            ),
            _ => (
                is(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", v),
                format!("value '{v}' does not look like a valid user name"),
            ),
        },
        "pve-tokenid" => (
            is(
                r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+",
                v,
            ),
            format!("value '{v}' does not look like a valid token ID"),
        ),
        "pve-realm" => (is(REALM, v), look("realm")),
        "pve-groupid" => (
            is(r"[A-Za-z0-9.\-_]+", v),
            format!("group name '{v}' contains invalid characters"),
        ),
        "pve-roleid" => (
            is(r"[A-Za-z0-9.\-_]+", v),
            format!("role name '{v}' contains invalid characters"),
        ),
        "pve-priv" => (
            is_privilege(v),
            format!("invalid privilege '{v}'"),
        ),
        "pve-poolid" if v.split('/').count() > 3 => (
            false,
            format!("pool name '{v}' nested too deeply (max levels = 3)"),
        ),
        "pve-poolid" => (
            is(r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", v),
            format!("pool name '{v}' contains invalid characters"),
        ),
        "pve-tag" => (
            is(r"(?^i:[a-z0-9_][a-z0-9_\-+.]*)", v),
            "invalid characters in tag".into(),
        ),
        "pve-volume-id" => (is(VOLUME, v), format!("unable to parse volume ID '{v}'")),
        "pve-volume-id-or-qm-path" => (
            matches!(v, "none" | "cdrom") || v.starts_with('/') || is(VOLUME, v),
            format!("unable to parse volume ID '{v}'"),
        ),
        "pve-volume-id-or-absolute-path" => (
            v.starts_with('/') || is(VOLUME, v),
            format!("unable to parse volume ID '{v}'"),
        ),
        "pve-lxc-mp-string" => (
            !v.starts_with("../") && !dots(v),
            format!("{v} contains illegal character sequences"),
        ),
        "pve-lxc-dev-string" => (
            v.starts_with("/dev/") && !dots(v),
            format!("{v} is not a valid device path"),
        ),
        // The server checks only the beginning of a path.
        "pve-storage-path" => (is("(?s:/[^;()].*)", v), look("absolute path")),
        "pve-storage-path-in-property-string" => (
            is("(?s:/[^;,=()].*)", v),
            "Value does not look like a valid absolute path. These symbols are currently not allowed in path: ;,=()"
                .into(),
        ),
        "disk-size" => (
            is(r"\d+(\.\d+)?([KMGT](iB)?)?", v),
            format!("value does not look like a valid disk size: {v}"),
        ),
        "mac-addr" => (
            is(r"(?^i:[a-f0-9][02468ace](?::[a-f0-9]{2}){5})", v),
            "value does not look like a valid unicast MAC address".into(),
        ),
        "mac-prefix" => (
            is(
                r"(?^i:[a-f0-9][02468ace](?::[a-f0-9]{2}){0,2}(?::[a-f0-9]?)?)",
                v,
            ),
            "value is not a valid unicast MAC address prefix".into(),
        ),
        "ipv4" => (v.parse::<Ipv4Addr>().is_ok(), look("IPv4 address")),
        "ipv6" => (v.parse::<Ipv6Addr>().is_ok(), look("IPv6 address")),
        "ip" => (v.parse::<IpAddr>().is_ok(), look("IP address")),
        // Only a link-local address may name the interface.
        "lxc-ip-with-ll-iface" => (
            match v.split_once('%').filter(|_| v.starts_with("fe80:")) {
                Some((ip, iface)) => ip.parse::<IpAddr>().is_ok() && is(IFACE, iface),
                None => v.parse::<IpAddr>().is_ok(),
            },
            look("IP address"),
        ),
        "ipv4mask" => (
            v.parse::<Ipv4Addr>()
                .is_ok_and(|mask| mask.to_bits().leading_ones() == mask.to_bits().count_ones()),
            look("IP netmask"),
        ),
        "CIDRv4" => (cidr(v, 8, NONE), look("IPv4 CIDR network")),
        "CIDRv6" => (cidr(v, NONE, 8), look("IPv6 CIDR network")),
        "CIDR" => (cidr(v, 8, 8), look("CIDR network")),
        "FullRangeCIDR" => (cidr(v, 0, 0), look("CIDR network")),
        "IPorCIDR" => (
            v.parse::<IpAddr>().is_ok() || cidr(v, 0, 0),
            look("IP address or CIDR network"),
        ),
        "IPorCIDRorAlias" => (
            v.parse::<IpAddr>().is_ok()
                || cidr(v, 0, 0)
                || is(r"(?^i:(?:(?:dc|guest)/)?[a-z][a-z0-9\-_]+)", v),
            look("IP address or CIDR network"),
        ),
        "pve-ipv4-config" => (
            matches!(v, "dhcp" | "manual") || cidr(v, 8, NONE),
            look("ipv4 network configuration"),
        ),
        "pve-ipv6-config" => (
            matches!(v, "auto" | "dhcp" | "manual") || cidr(v, NONE, 8),
            look("ipv6 network configuration"),
        ),
        "dns-name" => (is(DNS, v), look("DNS name")),
        "address" => (
            v.parse::<IpAddr>().is_ok() || is(DNS, v),
            format!("value does not look like a valid address: {v}"),
        ),
        "pve-storage-server" => (
            v.parse::<IpAddr>().is_ok() || is(DNS, v),
            look("server name or IP address"),
        ),
        "pve-storage-portal-dns" => (
            is(r"(?:\[[0-9a-zA-Z:.-]+\]|[0-9a-zA-Z.-]+)(?::\d+)?", v)
                || v.parse::<IpAddr>().is_ok(),
            look("portal address"),
        ),
        "email" => (is(EMAIL, v), look("email address")),
        // A local user has no realm.
        "email-or-username" => (
            is(EMAIL, v) || is(EMAIL_USER, v),
            look("email address or user name"),
        ),
        "urlencoded" => (
            is(r"[-%a-zA-Z0-9_.!~*'()]*", v),
            format!("invalid urlencoded string: {v}"),
        ),
        "pve-cpuset" => (
            is(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*", v)
                && v.split(',').all(|part| match part.split_once('-') {
                    Some((from, to)) => from.parse::<u64>().ok() <= to.parse::<u64>().ok(),
                    None => true,
                }),
            "unable to parse cpuset option".into(),
        ),
        "pve-phys-bits" => (
            v == "host" || v.parse::<u8>().is_ok_and(|bits| (8..=64).contains(&bits)),
            "value must be an integer between 8 and 64 or 'host'".into(),
        ),
        "pve-qm-bootdisk" => (
            indexed(v, &["ide", "sata", "scsi", "virtio"])
                || matches!(v, "efidisk0" | "tpmstate0"),
            format!("invalid boot disk '{v}'"),
        ),
        "pve-qm-bootdev" => (
            indexed(
                v,
                &["ide", "sata", "scsi", "virtio", "net", "usb", "hostpci"],
            ),
            format!("invalid boot device '{v}'"),
        ),
        "pve-hotplug-features" => {
            let known = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
            let unknown = split_list(v).find(|feature| !known.contains(feature));
            match unknown.filter(|_| !matches!(v, "0" | "1")) {
                None => (true, String::new()),
                Some(feature) => (false, format!("invalid hotplug feature '{feature}'")),
            }
        }
        "pve-replication-job-id" => match v.split_once('-') {
            Some((guest, job)) if is(r"\d+", guest) && is(r"\d+", job) => (
                guest.parse::<u64>().is_ok_and(|guest| guest >= 100),
                format!("invalid replication job id '{v}' (guest IDs < 100 are reserved)"),
            ),
            _ => (false, format!("invalid replication job id '{v}'")),
        },
        "pve-calendar-event" => (
            calendar_event(v),
            format!("invalid calendar event '{v}'"),
        ),
        "pve-day-of-week" => (
            matches!(v, "mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun"),
            format!("invalid day '{v}'"),
        ),
        "pve-task-status-type" => (
            is("(?^i:ok|error|warning|unknown)", v),
            format!("invalid status '{v}'"),
        ),
        "pve-ha-resource-id" => (is(r"[a-z]+:\S+", v), look("ha resource id")),
        "pve-ha-resource-or-vm-id" => (is(r"(?:[a-z]+:\S+|\d+)", v), look("ha resource id")),
        "pve-ha-node" | "pve-ha-group-node" => (
            is(r"(?^i:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?::\d+)?", v),
            look("ha node"),
        ),
        "storage-pair" => return Some(pair("pve-storage-id", v)),
        "bridge-pair" => return Some(pair("pve-bridge-id", v)),
        "pve-startup-order" => (
            !matches!(v, "" | "0")
                && v.split(',')
                    .filter(|part| !part.trim().is_empty())
                    .all(|part| is(r"(?:(?:order|up|down)=)?\d+", part)),
            "unable to parse startup options".into(),
        ),
        "pve-sdn-isis-net" => (
            is(r"[a-fA-F0-9]{2}(\.[a-fA-F0-9]{4}){3,9}\.[a-fA-F0-9]{2}", v),
            "value does not look like a valid isis net".into(),
        ),
        "pve-sdn-bgp-rt" => (
            v.split_once(':').is_some_and(|(asn, id)| {
                [asn, id].iter().all(|part| part.parse::<u32>().is_ok())
            }),
            look("bgp route-target"),
        ),
        "pve-storage-vgname" => (
            is(r"(?^i:[a-z0-9][a-z0-9\-_.]*[a-z0-9])", v),
            format!("lvm name '{v}' contains illegal characters"),
        ),
        "pve-storage-options" => (is(r"\S+", v), format!("invalid options '{v}'")),
        "pve-storage-zfs-blocksize" => return Some(block_size(v)),
        "pve-dir-override" => (
            is_override(v),
            format!("invalid override '{v}'"),
        ),
        "pve-vlan-id-or-range" => return Some(vlans(v)),
        "pve-fw-sport-spec" | "pve-fw-dport-spec" => return Some(verdict_of(ports(v))),
        "pve-fw-protocol-spec" => (
            v.is_empty() || protocol(v),
            format!("unknown protocol '{v}'"),
        ),
        "pve-fw-icmp-type-spec" => (
            is(r"[A-Za-z0-9/\-]*", v),
            format!("invalid icmp-type value '{v}'"),
        ),
        "pve-fw-addr-spec" => match addresses(v) {
            Ok(_) => (true, String::new()),
            Err(error) => (false, error),
        },
        "pve-acme-domain" => (
            is(r"(?^i:[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)+)", v),
            format!("value '{v}' does not look like a valid domain name!"),
        ),
        "pve-acme-alias" => (
            is(
                r"(?^i:[a-z0-9_][a-z0-9_-]*(?:\.[a-z0-9_][a-z0-9_-]*)+)",
                v,
            ),
            format!("value '{v}' does not look like a valid alias name!"),
        ),
        "graphite-path" => (is(DNS, v), look("graphite path")),
        "pem-string" | "pem-certificate" | "pem-certificate-chain" => (
            v.contains("-----BEGIN ") && v.contains("-----END "),
            "not a valid PEM-formatted string.".into(),
        ),
        "pve-command-batch" => match serde_json::from_str::<serde_json::Value>(v) {
            Ok(json) => (
                json.is_array(),
                "commands is not a valid array of commands: Parameter verification failed.".into(),
            ),
            Err(error) => (
                false,
                format!("commands param did not contain valid JSON: {error}"),
            ),
        },
        "pve-ct-timezone" => (
            v == "host" || is(r"[A-Za-z0-9_+\-/]+", v),
            format!("invalid time zone '{v}'"),
        ),
        "ldap-simple-attr" => (
            is(r"[a-zA-Z0-9]+", v),
            format!("value '{v}' does not look like a simple ldap attribute name"),
        ),
        "pve-sdn-zone-id" | "pve-sdn-vnet-id" => (
            is("(?^i:[a-z][a-z0-9]*)", v),
            format!("SDN object ID '{v}' contains illegal characters"),
        ),
        "pve-sdn-controller-id"
        | "pve-sdn-dns-id"
        | "pve-sdn-ipam-id"
        | "pve-sdn-prefix-list-id"
        | "pve-sdn-route-map-id" => (
            is("(?^i:[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)", v),
            format!("SDN object ID '{v}' contains illegal characters"),
        ),
        "pve-sdn-fabric-id" => (
            is("[a-zA-Z0-9][a-zA-Z0-9-]{0,6}[a-zA-Z0-9]?", v),
            format!("Fabric ID '{v}' contains illegal characters"),
        ),
        "pve-storage-format" => (
            matches!(v, "raw" | "qcow2" | "vmdk" | "subvol"),
            format!("invalid format '{v}'"),
        ),
        "pve-qm-usb-device" => (
            v == "spice"
                || is(
                    r"(?^i:(?:0x)?[0-9a-f]{4}:(?:0x)?[0-9a-f]{4}|\d+-\d+(?:\.\d+)*)",
                    v,
                ),
            "unable to parse usb device".into(),
        ),
        // The name of a subnet is its zone and its network, with hyphens.
        "pve-sdn-subnet-id" => {
            let network = match v.splitn(3, '-').collect::<Vec<_>>()[..] {
                _ if v.contains('/') => v.to_owned(),
                [_, address, mask] => format!("{address}/{mask}"),
                _ => String::new(),
            };
            (cidr(&network, 8, 8), look("CIDR network"))
        }
        _ => return None,
    };
    Some(verdict)
}

/// Whether a part of a path behind its first slash is `.` or `..`.
fn dots(path: &str) -> bool {
    path.split('/')
        .skip(1)
        .any(|part| matches!(part, "." | ".."))
}

/// An entry of a mapping between ids: `1`, one id, or two.
fn pair(format: &str, entry: &str) -> (bool, String) {
    let ids = match entry.split_once(':') {
        _ if entry == "1" => Vec::new(),
        Some((from, to)) if !to.contains(':') => vec![from, to],
        _ => vec![entry],
    };
    let refused = ids
        .into_iter()
        .filter_map(|id| single(format, id))
        .find(|(fine, _)| !fine);
    match refused {
        None => (true, String::new()),
        Some((_, error)) => (
            false,
            format!("entry '{entry}' contains invalid ID - {error}\n\n"),
        ),
    }
}
