//! The named string formats: what they accept, what they say when they do not, and an example of each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::access::all_privileges;
use crate::pattern;
use crate::schema::split_index;

/// Checks a value against a named format that is not a property string.
///
/// `None`: the format is not known here, every text passes.
pub(crate) fn check(name: &str, value: &str) -> Option<Result<(), String>> {
    if let Some(base) = name.strip_suffix("-list") {
        single(base, "")?;
        for item in split_list(value) {
            if let Some(Err(error)) = check(base, item) {
                return Some(Err(error));
            }
        }
        return Some(Ok(()));
    }
    if let Some(base) = name.strip_suffix("-opt") {
        if value.is_empty() {
            return Some(Ok(()));
        }
        return check(base, value);
    }
    let (ok, error) = single(name, value)?;
    Some(if ok {
        Ok(())
    } else {
        Err(format!("{error}\n"))
    })
}

/// The items of a list: separated by commas, semicolons, white space or NUL.
pub(crate) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(|c: char| matches!(c, ',' | ';' | '\0') || c.is_whitespace())
        .filter(|item| !item.is_empty())
}

fn is(pattern: &str, value: &str) -> bool {
    pattern::matches(pattern, value).unwrap_or(true)
}

const NODE: &str = "(?^i:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)";
const CONFIG_ID: &str = "(?^i:[a-z][a-z0-9_-]+)";
const STORAGE_ID: &str = r"(?^i:[a-z][a-z0-9\-_.]*[a-z0-9])";
const IFACE: &str = r"(?^i:[a-z][a-z0-9_]{1,20}(?:[:.]\d+)?)";
const REALM: &str = r"[A-Za-z][A-Za-z0-9.\-_]+";
const DNS: &str = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*";
const EMAIL: &str = r"[\w+\-~]+(?:\.[\w+\-~]+)*@[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*";
const EMAIL_USER: &str = r"[\w+\-~]+(?:\.[\w+\-~]+)*";
const CONTENT_TYPES: [&str; 8] = [
    "images", "rootdir", "vztmpl", "iso", "backup", "snippets", "none", "import",
];
const VOLUME: &str = r"(?^i:[a-z][a-z0-9\-_.]*[a-z0-9]):.+";

/// Whether a single value is fine, and the text if it is not.
fn single(name: &str, v: &str) -> Option<(bool, String)> {
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
            !v.split('/').any(|part| matches!(part, "." | "..")),
            format!("{v} is not a normalized path"),
        ),
        "pve-lxc-dev-string" => (
            v.starts_with("/dev/") && !v.split('/').any(|part| matches!(part, "." | "..")),
            format!("{v} is not a valid device path"),
        ),
        // Only the beginning of a path is looked at.
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
        "ip" | "lxc-ip-with-ll-iface" => (
            v.split('%').next().unwrap_or(v).parse::<IpAddr>().is_ok(),
            look("IP address"),
        ),
        "ipv4mask" => (
            v.parse::<Ipv4Addr>()
                .is_ok_and(|mask| mask.to_bits().leading_ones() == mask.to_bits().count_ones()),
            look("IP netmask"),
        ),
        "CIDRv4" => (cidr(v, 8, 0), look("IPv4 CIDR network")),
        "CIDRv6" => (cidr(v, 0, 8), look("IPv6 CIDR network")),
        "CIDR" => (cidr(v, 8, 8), look("CIDR network")),
        "FullRangeCIDR" => (cidr(v, 1, 1), look("CIDR network")),
        "IPorCIDR" => (
            v.parse::<IpAddr>().is_ok() || cidr(v, 1, 1),
            look("IP address or CIDR network"),
        ),
        "IPorCIDRorAlias" => (
            v.parse::<IpAddr>().is_ok()
                || cidr(v, 1, 1)
                || is(r"(?^i:(?:(?:dc|guest)/)?[a-z][a-z0-9\-_]+)", v),
            look("IP address or CIDR network"),
        ),
        "pve-ipv4-config" => (
            matches!(v, "dhcp" | "manual") || cidr(v, 8, 0),
            look("ipv4 network configuration"),
        ),
        "pve-ipv6-config" => (
            matches!(v, "auto" | "dhcp" | "manual") || cidr(v, 0, 8),
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
            is(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:]+)(?::\d+)?", v) || v.parse::<IpAddr>().is_ok(),
            look("portal address"),
        ),
        "email" => (is(EMAIL, v), look("email address")),
        // A user of this machine has no realm.
        "email-or-username" => (
            is(EMAIL, v) || is(EMAIL_USER, v),
            look("email address or user name"),
        ),
        "urlencoded" => (
            is(r"[-%a-zA-Z0-9_.!~*'()]*", v),
            format!("invalid urlencoded string: {v}"),
        ),
        "pve-cpuset" => (
            is(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*", v),
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
        "pve-ha-resource-or-vm-id" => (is(r"[a-z]+:\S+|\d+", v), look("ha resource id")),
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

/// Whether a text is a calendar event: days of the week, a date and a time, each of which may be left out, or a word for
/// a common one.
fn calendar_event(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "minutely",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "annually",
        "quarterly",
        "semiannually",
        "semi-annually",
    ];
    const DAYS: [&str; 7] = [
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
    ];
    let parts: Vec<&str> = text.split_whitespace().collect();
    if let [word] = parts.as_slice()
        && WORDS.iter().any(|own| own.eq_ignore_ascii_case(word))
    {
        return true;
    }
    let day = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.len() >= 3 && DAYS.iter().any(|day| text == *day || text == day[..3])
    };
    let days = |text: &&&str| {
        text.split(',')
            .all(|part| part.split("..").all(day) && part.split("..").count() <= 2)
    };
    // A value, a range or all of them, perhaps repeated by a step.
    let unit = |text: &str| {
        text.split(',').all(|part| {
            let (value, step) = part.split_once('/').unwrap_or((part, "1"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits(step)
                && (value == "*" || value.split("..").count() <= 2 && value.split("..").all(digits))
        })
    };
    let mut rest = parts.as_slice();
    if let Some(first) = rest.first()
        && days(&first)
    {
        rest = &rest[1..];
    }
    let date = |text: &str| (2..=3).contains(&text.split('-').count()) && text.split('-').all(unit);
    let time = |text: &str| text.split(':').count() <= 3 && text.split(':').all(unit);
    match rest {
        [] => !parts.is_empty(),
        [one] => date(one) || time(one),
        [first, second] => date(first) && time(second),
        _ => false,
    }
}

/// When a calendar event comes next after a time, both in seconds since 1970, for events that name no dates.
pub(crate) fn next_run(event: &str, after: u64) -> Option<u64> {
    if !calendar_event(event) {
        return None;
    }
    let event = event.to_ascii_lowercase();
    let event = match event.as_str() {
        "minutely" => "*:*",
        "hourly" => "*:00",
        "daily" => "00:00",
        "weekly" => "mon 00:00",
        other => other,
    };
    let (days, time) = match event.split_whitespace().collect::<Vec<_>>().as_slice() {
        [one] if one.starts_with(|c: char| c.is_ascii_alphabetic()) => (Some(*one), "00:00"),
        [one] => (None, *one),
        [days, time] if days.starts_with(|c: char| c.is_ascii_alphabetic()) => (Some(*days), *time),
        _ => return None,
    };
    if time.contains('-') {
        return None;
    }
    let day = |text: &str| {
        let names = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
        // The first day of 1970 was a Thursday.
        names.iter().position(|name| text.starts_with(name))
    };
    let on = |weekday: usize| {
        days.is_none_or(|days| {
            days.split(',').any(|part| match part.split_once("..") {
                None => day(part) == Some(weekday),
                Some((from, to)) => day(from)
                    .zip(day(to))
                    .is_some_and(|(from, to)| (weekday + 7 - from) % 7 <= (to + 7 - from) % 7),
            })
        })
    };
    let fits = |unit: &str, n: u64| {
        unit.split(',').any(|part| {
            let (value, step) = part.split_once('/').unwrap_or((part, ""));
            let step: Option<u64> = step.parse().ok().filter(|step| *step > 0);
            let (from, to) = match value.split_once("..") {
                Some((from, to)) => (from.parse().ok(), to.parse().ok()),
                None if value == "*" => (Some(0), Some(u64::MAX)),
                None => (
                    value.parse().ok(),
                    step.map(|_| u64::MAX).or(value.parse().ok()),
                ),
            };
            from.zip(to).is_some_and(|(from, to)| {
                (from..=to).contains(&n) && (n - from).is_multiple_of(step.unwrap_or(1))
            })
        })
    };
    let (hours, minutes) = match time.split(':').collect::<Vec<_>>().as_slice() {
        [minutes] => ("*", *minutes),
        [hours, minutes, ..] => (*hours, *minutes),
        [] => return None,
    };
    let first = after / 60 + 1;
    (first..first + 8 * 1_440)
        .find(|minute| {
            let weekday = usize::try_from(minute / 1_440 % 7).unwrap_or(0);
            on(weekday) && fits(hours, minute / 60 % 24) && fits(minutes, minute % 60)
        })
        .map(|minute| minute * 60)
}

/// Which version of IP the addresses of a firewall rule are of, if they are addresses rather than a name; or why they
/// are refused.
pub(crate) fn addresses(text: &str) -> Result<Option<u8>, String> {
    if text.starts_with('+') && is(r"\+\S+", text) {
        return match text.len() > 65 {
            true => Err("ipset name too long".into()),
            false => Ok(None),
        };
    }
    if is(r"(?:dc/|guest/)?[A-Za-z][A-Za-z0-9\-_]+", text) {
        return match text.len() > 64 {
            true => Err("alias name too long".into()),
            false => Ok(None),
        };
    }
    if text.ends_with(',') {
        return Err("extraneous commas in list".into());
    }
    let (mut version, mut ranged) = (None, false);
    for item in text.split(',') {
        let own = address(item).map_err(|error| format!("invalid IP address: {error}"))?;
        ranged |= item.contains('-');
        if version.is_some_and(|version| version != own) {
            return Err(format!(
                "detected mixed ipv4/ipv6 addresses in address list '{text}'"
            ));
        }
        version = Some(own);
    }
    if ranged && text.contains(',') {
        return Err("you can't use a range in a list".into());
    }
    Ok(version)
}

/// The version of one address, of a network, or of a range of them.
fn address(text: &str) -> Result<u8, String> {
    if let Some((from, to)) = text.split_once('-') {
        let (first, last) = (single_address(from)?, single_address(to)?);
        return match first > last {
            true => Err(format!(
                "Begin address is greater than End address {from} - {to}"
            )),
            false => Ok(version_of(first)),
        };
    }
    let Some((ip, length)) = text.split_once('/') else {
        return single_address(text).map(version_of);
    };
    let ip = single_address(ip)?;
    let (bits, wide) = match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let Some(length) = length.parse::<u32>().ok() else {
        return Err(format!("Invalid prefix {length}"));
    };
    if length > wide {
        return Err(format!(
            "Prefix length {length} is longer than IP address ({wide})"
        ));
    }
    let host = wide - length;
    if host > 0 && bits << (128 - host) != 0 {
        let width = if wide == 32 { 32 } else { 128 };
        return Err(format!("Invalid prefix {bits:0width$b}/{length}"));
    }
    Ok(version_of(ip))
}

fn version_of(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

fn single_address(text: &str) -> Result<IpAddr, String> {
    if text.contains(':') {
        if text.matches("::").count() > 1 {
            return Err(format!("Invalid address {text} (More than one :: pattern)"));
        }
        return text
            .parse()
            .map_err(|_| format!("Invalid IP address {text}"));
    }
    if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("Invalid chars in IP {text}"));
    }
    let quads: Vec<&str> = text.split('.').collect();
    if let Some(quad) = quads
        .iter()
        .find(|quad| quad.parse::<u32>().is_ok_and(|n| n > 255))
    {
        return Err(format!("Invalid quad in IP address {text} - {quad}"));
    }
    // What is left out at the end is zero.
    let mut full = text.trim_end_matches('.').to_owned();
    for _ in quads.len()..4 {
        full.push_str(".0");
    }
    full.parse()
        .map_err(|_| format!("Invalid IP address {text}"))
}

/// Whether Debian's list of protocols has one of this name or number; the firewall adds a name of its own.
fn protocol(name: &str) -> bool {
    const KNOWN: &str = "ip=0 hopopt=0 icmp=1 igmp=2 ggp=3 ipencap=4 st=5 tcp=6 egp=8 igp=9 pup=12 udp=17 hmp=20 xns-idp=22 \
        rdp=27 iso-tp4=29 dccp=33 xtp=36 ddp=37 idpr-cmtp=38 ipv6=41 ipv6-route=43 ipv6-frag=44 idrp=45 \
        rsvp=46 gre=47 esp=50 ah=51 skip=57 ipv6-icmp=58 ipv6-nonxt=59 ipv6-opts=60 rspf=73 vmtp=81 eigrp=88 \
        ospf=89 ax.25=93 ipip=94 etherip=97 encap=98 pim=103 ipcomp=108 vrrp=112 l2tp=115 isis=124 sctp=132 \
        fc=133 mobility-header=135 udplite=136 mpls-in-ip=137 manet=138 hip=139 shim6=140 wesp=141 rohc=142 \
        ethernet=143 mptcp=262 icmpv6=58";
    let mut known = KNOWN
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    known.any(|(own, number)| own == name || number == name)
}

/// Why a list of connection tracking helpers is refused.
fn unknown_helper(list: &str) -> Option<String> {
    const HELPERS: [&str; 9] = [
        "tftp",
        "snmp",
        "sip",
        "sane",
        "pptp",
        "netbios-ns",
        "irc",
        "ftp",
        "amanda",
    ];
    if list.ends_with(',') {
        return Some("extraneous commas in list".into());
    }
    let mut helpers = list.split(',').filter(|_| !list.is_empty());
    let unknown = helpers.find(|helper| !HELPERS.contains(helper))?;
    Some(format!("unknown helper {unknown}"))
}

fn verdict_of(result: Result<(), String>) -> (bool, String) {
    (result.is_ok(), result.err().unwrap_or_default())
}

/// Whether a privilege is one of some release.
fn is_privilege(name: &str) -> bool {
    [8, 9]
        .iter()
        .any(|major| all_privileges(*major).contains(name))
}

/// Whether a name is one of these families with an index that there is.
fn indexed(name: &str, families: &[&str]) -> bool {
    split_index(name).is_some_and(|(family, _)| families.contains(&family))
}

/// `content=path`: the path is relative, and its parts fit into a file name.
fn is_override(value: &str) -> bool {
    let Some((content, path)) = value.split_once('=') else {
        return false;
    };
    CONTENT_TYPES.contains(&content)
        && is(r"[^.]*(?:\.?[^.]+)+", path)
        && path.len() < 1023
        && path.split('/').all(|part| part.len() < 255)
}

fn block_size(value: &str) -> (bool, String) {
    let text = value.to_ascii_lowercase();
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1024),
        None => text
            .strip_suffix('m')
            .map_or((&*text, 1), |digits| (digits, 1024 * 1024)),
    };
    if value.is_empty() {
        return (true, String::new());
    }
    if !is("[1-9][0-9]*", digits) {
        let text = "Use a positive number (no leading zeros) with an optional 'k' or 'm' suffix.";
        return (
            false,
            format!("invalid ZFS blocksize format '{value}'. {text}"),
        );
    }
    let bytes = digits
        .parse::<u64>()
        .unwrap_or(u64::MAX)
        .saturating_mul(unit);
    let text = "Must be a power of 2 between 512B and 16MiB (e.g., 4k, 8k, 16k, 64k, 1m).";
    (
        (512..=16 << 20).contains(&bytes) && bytes.is_power_of_two(),
        format!("value '{value}' is not a valid ZFS blocksize. {text}"),
    )
}

/// A VLAN tag, or two with a hyphen between them.
fn vlans(value: &str) -> (bool, String) {
    let (start, end) = match value.split_once('-') {
        Some((start, end)) => (start, Some(end)),
        None => (value, None),
    };
    if ![Some(start), end]
        .iter()
        .flatten()
        .all(|tag| is(r"\d+", tag))
    {
        return (false, format!("invalid VLAN configuration '{value}'"));
    }
    let number = |tag: &str| tag.parse::<u64>().unwrap_or(u64::MAX);
    for tag in [Some(start), end].into_iter().flatten() {
        if !(2..=4094).contains(&number(tag)) {
            return (false, format!("invalid VLAN tag '{tag}'"));
        }
    }
    (
        end.is_none_or(|end| number(start) < number(end)),
        format!("VLAN range must go from lower to higher tag '{value}'"),
    )
}

const COMMAS: &str = "extraneous commas in list";

/// Ports and ranges of them, by number or by the name of their service.
fn ports(list: &str) -> Result<(), String> {
    if list.ends_with(',') {
        return Err(COMMAS.into());
    }
    let mut count = 0;
    for item in list.split(',').filter(|_| !list.is_empty()) {
        let (first, second) = match item.split_once(':') {
            Some((first, second)) => (first, Some(second)),
            None => (item, None),
        };
        let numbers = [Some(first), second];
        let mut numbers = numbers.iter().flatten();
        if numbers.clone().all(|number| is(r"\d+", number)) {
            let port = |number: &str| number.parse::<u64>().unwrap_or(u64::MAX);
            if let Some(number) = numbers.find(|number| port(number) > 65535) {
                return Err(format!("invalid port '{number}'"));
            }
            if let Some(second) = second.filter(|second| port(first) > port(second)) {
                return Err(format!(
                    "backwards range '{first}:{second}' not allowed, did you mean '{second}:{first}'?"
                ));
            }
            count += 1 + usize::from(second.is_some());
        } else if !is(r"[A-Za-z][A-Za-z0-9\-_+.]*", item) {
            return Err(format!("invalid port '{item}'"));
        }
    }
    if count > 15 {
        return Err("too many entries in port list (> 15 numbers)".into());
    }
    Ok(())
}

/// One entry of a mapping between ids of a format: `1`, one id, or two.
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

fn cidr(value: &str, min4: u8, min6: u8) -> bool {
    let Some((address, prefix)) = value.split_once('/') else {
        return false;
    };
    let Ok(prefix) = prefix.parse::<u8>() else {
        return false;
    };
    match address.parse() {
        Ok(IpAddr::V4(_)) => min4 > 0 && (min4..=32).contains(&prefix),
        Ok(IpAddr::V6(_)) => min6 > 0 && (min6..=128).contains(&prefix),
        Err(_) => false,
    }
}

/// A value the format accepts.
pub(crate) fn example(name: &str) -> Option<&'static str> {
    let base = name
        .strip_suffix("-list")
        .or_else(|| name.strip_suffix("-opt"))
        .unwrap_or(name);
    Some(match base {
        "string" => "text",
        "pve-vmid" => "100",
        "pve-node" | "pve-ha-node" | "pve-ha-group-node" => "pve1",
        "pve-configid" => "item1",
        "pve-storage-id" => "local",
        "pve-bridge-id" => "vmbr0",
        "pve-iface" => "eth0",
        "pve-userid" => "root@pam",
        "pve-tokenid" => "root@pam!test",
        "pve-realm" => "pve",
        "pve-groupid" => "admins",
        "pve-roleid" => "PVEAuditor",
        "pve-priv" => "VM.Audit",
        "pve-poolid" => "pool1",
        "pve-tag" => "tag1",
        "pve-volume-id" | "pve-volume-id-or-qm-path" | "pve-volume-id-or-absolute-path" => {
            "local:iso/debian-13.iso"
        }
        "pve-lxc-mp-string" => "/mnt/data",
        "pve-lxc-dev-string" => "/dev/fuse",
        "pve-storage-path" | "pve-storage-path-in-property-string" => "/mnt/store",
        "disk-size" => "4G",
        "mac-addr" => "BC:24:11:00:00:01",
        "mac-prefix" => "BC:24:11",
        "ipv4"
        | "ip"
        | "lxc-ip-with-ll-iface"
        | "address"
        | "pve-storage-server"
        | "pve-storage-portal-dns"
        | "pve-fw-addr-spec" => "192.0.2.10",
        "ipv6" => "2001:db8::10",
        "ipv4mask" => "255.255.255.0",
        "CIDRv4" | "CIDR" | "FullRangeCIDR" | "IPorCIDR" | "IPorCIDRorAlias" => "192.0.2.0/24",
        "CIDRv6" => "2001:db8::/64",
        "pve-ipv4-config" | "pve-ipv6-config" => "dhcp",
        "dns-name" | "pve-acme-domain" | "pve-acme-alias" => "host.example.org",
        "email" | "email-or-username" => "admin@example.org",
        "urlencoded" => "abc",
        "pve-cpuset" => "0-1",
        "pve-phys-bits" => "host",
        "pve-qm-bootdisk" => "scsi0",
        "pve-hotplug-features" => "disk,network",
        "pve-replication-job-id" => "100-0",
        "pve-calendar-event" => "*/15",
        "pve-day-of-week" => "mon",
        "pve-task-status-type" => "ok",
        "pve-ha-resource-id" | "pve-ha-resource-or-vm-id" => "vm:100",
        "storage-pair" | "bridge-pair" => "1",
        "pve-startup-order" => "order=1",
        "pve-sdn-isis-net" => "49.0001.1921.6800.1002.00",
        "pve-sdn-bgp-rt" => "65000:1",
        "pve-storage-vgname" => "pve",
        "pve-storage-options" => "vers=4.2",
        "pve-storage-zfs-blocksize" => "16k",
        "pve-dir-override" => "iso=templates",
        "pve-vlan-id-or-range" => "2-100",
        "pve-storage-content" => "images",
        "pve-fw-conntrack-helper" => "ftp",
        "pve-fw-sport-spec" | "pve-fw-dport-spec" => "22",
        "pve-fw-protocol-spec" => "tcp",
        "pve-fw-icmp-type-spec" => "any",
        "graphite-path" => "proxmox",
        "pem-string" | "pem-certificate" | "pem-certificate-chain" => {
            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----"
        }
        "pve-command-batch" => "[]",
        "pve-ct-timezone" => "host",
        "ldap-simple-attr" => "uid",
        "pve-sdn-subnet-id" => "zone1-192.0.2.0-24",
        "pve-sdn-route-map-id"
        | "pve-sdn-prefix-list-id"
        | "pve-sdn-fabric-id"
        | "pve-sdn-zone-id"
        | "pve-sdn-vnet-id"
        | "pve-sdn-controller-id"
        | "pve-sdn-dns-id"
        | "pve-sdn-ipam-id" => "item1",
        "pve-storage-format" => "raw",
        "pve-qm-usb-device" => "1234:5678",
        "pve-sdn-dhcp-range" => "start-address=192.0.2.10,end-address=192.0.2.20",
        "pve-sdn-fabric-wireguard-interface" => "name=wg0",
        "pve-qm-ide" => "none,media=cdrom",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_events_come_when_they_say() {
        // A Saturday, 19:54:22.
        let now = 1_795_290_862;
        for (event, next) in [
            ("*/15", Some("2026-11-21T20:00:00Z")),
            ("hourly", Some("2026-11-21T20:00:00Z")),
            ("20:30", Some("2026-11-21T20:30:00Z")),
            ("19:00", Some("2026-11-22T19:00:00Z")),
            ("sat 19:00", Some("2026-11-28T19:00:00Z")),
            ("mon..fri 02:00", Some("2026-11-23T02:00:00Z")),
            ("fri..mon 2/2:30", Some("2026-11-21T20:30:00Z")),
            ("sun", Some("2026-11-22T00:00:00Z")),
            ("8..17:0/30", Some("2026-11-22T08:00:00Z")),
            ("25:00", None),
            ("2027-01-01 00:00", None),
            ("nonsense", None),
        ] {
            let next = next.map(str::to_owned);
            assert_eq!(
                next_run(event, now).map(crate::clock::iso_date),
                next,
                "{event}"
            );
        }
    }

    #[test]
    fn examples_pass_their_own_check() {
        for name in [
            "pve-vmid",
            "pve-node",
            "pve-configid-list",
            "pve-storage-id",
            "pve-iface",
            "pve-userid",
            "pve-volume-id",
            "disk-size",
            "mac-addr",
            "mac-prefix",
            "ipv4",
            "ipv6",
            "ipv4mask",
            "CIDR",
            "CIDRv6",
            "email-opt",
            "pve-calendar-event",
            "storage-pair-list",
            "pve-startup-order",
            "pve-storage-portal-dns",
            "pem-string",
            "pve-command-batch",
            "pve-vlan-id-or-range-list",
            "pve-ha-node-list",
            "pve-tag-list",
            "pve-sdn-isis-net",
            "pve-storage-content-list",
            "pve-task-status-type-list",
            "pve-hotplug-features",
        ] {
            let value = example(name).unwrap_or_else(|| panic!("{name} has no example"));
            assert_eq!(check(name, value), Some(Ok(())), "{name} refuses {value}");
        }
    }

    #[test]
    fn refusals() {
        for (name, value) in [
            ("pve-vmid", "0100"),
            ("pve-vmid", "99"),
            ("mac-addr", "01:00:00:00:00:00"),
            ("CIDRv4", "192.0.2.0/7"),
            ("CIDRv4", "2001:db8::/64"),
            ("pve-storage-id", "x"),
            ("pve-configid-list", "ok,9x"),
            ("ipv4mask", "255.0.255.0"),
            ("email", "nobody"),
            ("pve-qm-bootdev", "efidisk0"),
            ("pve-qm-bootdev", "scsi31"),
            ("pve-qm-bootdev", "net32"),
            ("pve-startup-order", "0"),
            ("pve-startup-order", "order=1,later=2"),
            ("pve-storage-options", "vers=4.2, ro"),
            ("pve-dir-override", "isos=here"),
            ("pve-dir-override", "iso=../here"),
            ("pve-lxc-dev-string", "/dev/../sda"),
            ("pve-sdn-bgp-rt", "65000:4294967296"),
            ("pve-sdn-subnet-id", "zone1-192.0.2.0"),
            ("pve-acme-alias", "alias"),
            ("ldap-simple-attr", "user-name"),
            ("pve-priv", "VM.Fly"),
        ] {
            assert!(
                matches!(check(name, value), Some(Err(_))),
                "{name} takes {value}"
            );
        }
        assert_eq!(
            check("pve-vmid", "5"),
            Some(Err("value does not look like a valid VM ID\n".into()))
        );
    }

    #[test]
    fn refusals_have_the_words_of_the_server() {
        for (name, value, text) in [
            (
                "pve-storage-id",
                "~",
                "storage ID '~' cannot be shorter than 2 characters",
            ),
            (
                "pve-storage-id",
                "1x",
                "storage ID '1x' contains illegal characters",
            ),
            ("pve-userid", "~", "user name '~' is too short"),
            (
                "pve-userid",
                "nobody",
                "value 'nobody' does not look like a valid user name",
            ),
            (
                "pve-storage-content-list",
                "iso,x",
                "invalid content type 'x'",
            ),
            ("pve-fw-conntrack-helper", "ftp,x", "unknown helper x"),
            (
                "pve-fw-conntrack-helper",
                "ftp,",
                "extraneous commas in list",
            ),
            (
                "mac-addr",
                "~",
                "value does not look like a valid unicast MAC address",
            ),
            (
                "ipv4mask",
                "~",
                "value does not look like a valid IP netmask",
            ),
            (
                "CIDRv4",
                "~",
                "value does not look like a valid IPv4 CIDR network",
            ),
            (
                "CIDRv6",
                "~",
                "value does not look like a valid IPv6 CIDR network",
            ),
            (
                "IPorCIDRorAlias",
                "~",
                "value does not look like a valid IP address or CIDR network",
            ),
            (
                "pve-storage-server",
                "~",
                "value does not look like a valid server name or IP address",
            ),
            ("pve-cpuset", "x", "unable to parse cpuset option"),
            (
                "pve-hotplug-features",
                "disk,x",
                "invalid hotplug feature 'x'",
            ),
            ("pve-day-of-week-list", "mon,x", "invalid day 'x'"),
            (
                "pve-ha-resource-or-vm-id",
                "~",
                "value does not look like a valid ha resource id",
            ),
            (
                "pve-ha-node-list",
                "~",
                "value does not look like a valid ha node",
            ),
            (
                "pve-sdn-bgp-rt",
                "x",
                "value does not look like a valid bgp route-target",
            ),
            (
                "pve-sdn-fabric-id",
                "toolongname",
                "Fabric ID 'toolongname' contains illegal characters",
            ),
            ("pve-dir-override", "~", "invalid override '~'"),
            (
                "pve-vlan-id-or-range",
                "~",
                "invalid VLAN configuration '~'",
            ),
            (
                "pve-acme-domain",
                "~",
                "value '~' does not look like a valid domain name!",
            ),
            (
                "graphite-path",
                "~",
                "value does not look like a valid graphite path",
            ),
            ("pem-string", "~", "not a valid PEM-formatted string."),
            ("pve-ct-timezone", "~", "invalid time zone '~'"),
            (
                "bridge-pair",
                "a:~",
                "entry 'a:~' contains invalid ID - invalid bridge ID '~'\n\n",
            ),
        ] {
            assert_eq!(
                check(name, value),
                Some(Err(format!("{text}\n"))),
                "{name} {value}"
            );
        }
    }

    #[test]
    fn users_without_a_realm_get_mail_too() {
        assert_eq!(check("email-or-username", "root"), Some(Ok(())));
        assert_eq!(
            check("email", "root"),
            Some(Err(
                "value does not look like a valid email address\n".into()
            ))
        );
    }

    #[test]
    fn numbers_have_their_limits() {
        for (name, fine, refused) in [
            (
                "pve-vlan-id-or-range",
                "2-4094",
                &[
                    ("1", "invalid VLAN tag '1'"),
                    ("4-4095", "invalid VLAN tag '4095'"),
                    ("9-9", "VLAN range must go from lower to higher tag '9-9'"),
                    ("5-", "invalid VLAN configuration '5-'"),
                ][..],
            ),
            (
                "pve-storage-zfs-blocksize",
                "128K",
                &[(
                    "12k",
                    "value '12k' is not a valid ZFS blocksize. Must be a power of 2 between 512B and 16MiB \
                     (e.g., 4k, 8k, 16k, 64k, 1m).",
                )],
            ),
            (
                "pve-replication-job-id",
                "100-0",
                &[
                    (
                        "99-0",
                        "invalid replication job id '99-0' (guest IDs < 100 are reserved)",
                    ),
                    ("100", "invalid replication job id '100'"),
                ],
            ),
            (
                "pve-fw-dport-spec",
                "22,http,8000:8080",
                &[
                    ("70000", "invalid port '70000'"),
                    (
                        "9:1",
                        "backwards range '9:1' not allowed, did you mean '1:9'?",
                    ),
                    ("22,", COMMAS),
                    ("1-9", "invalid port '1-9'"),
                    (
                        "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15:16",
                        "too many entries in port list (> 15 numbers)",
                    ),
                ],
            ),
            (
                "pve-fw-addr-spec",
                "192.0.2.0/24,198.51.100.7",
                &[
                    (
                        "192.0.2.1,2001:db8::1",
                        "detected mixed ipv4/ipv6 addresses in address list '192.0.2.1,2001:db8::1'",
                    ),
                    (
                        "192.0.2.1-192.0.2.9,192.0.2.20",
                        "you can't use a range in a list",
                    ),
                    (
                        "192.0.2.1/24",
                        "invalid IP address: Invalid prefix 11000000000000000000001000000001/24",
                    ),
                    (
                        "300.0.2.1",
                        "invalid IP address: Invalid quad in IP address 300.0.2.1 - 300",
                    ),
                ],
            ),
            (
                "pve-poolid",
                "a/b/c",
                &[(
                    "a/b/c/d",
                    "pool name 'a/b/c/d' nested too deeply (max levels = 3)",
                )],
            ),
        ] {
            assert_eq!(check(name, fine), Some(Ok(())), "{name} {fine}");
            for (value, text) in refused {
                assert_eq!(
                    check(name, value),
                    Some(Err(format!("{text}\n"))),
                    "{name} {value}"
                );
            }
        }
        for value in [
            "+trusted",
            "dc/office",
            "2001:db8::/32",
            "192.0.2.1-192.0.2.9",
        ] {
            assert_eq!(check("pve-fw-addr-spec", value), Some(Ok(())), "{value}");
        }
    }

    #[test]
    fn lists_and_optional_values() {
        assert_eq!(check("pve-configid-list", "a1;b2 c3,d4"), Some(Ok(())));
        assert_eq!(check("pve-configid-list", ""), Some(Ok(())));
        assert_eq!(
            check("pve-startup-order", " order=1, ,9,up=5"),
            Some(Err("unable to parse startup options\n".into()))
        );
        assert_eq!(check("pve-startup-order", "1,,down=9"), Some(Ok(())));
        assert_eq!(check("pve-storage-path", "/mnt/a;b"), Some(Ok(())));
        assert_eq!(check("email-opt", ""), Some(Ok(())));
        assert!(check("pve-unheard-of", "x").is_none());
    }
}
