//! Addresses, ports, VLANs and protocols.

use std::net::IpAddr;

use crate::formats::patterns::is;

/// The IP version of a firewall rule's addresses, `None` for a name; or the refusal.
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
        let item_version = address(item).map_err(|error| format!("invalid IP address: {error}"))?;
        ranged |= item.contains('-');
        if version.is_some_and(|version| version != item_version) {
            return Err(format!(
                "detected mixed ipv4/ipv6 addresses in address list '{text}'"
            ));
        }
        version = Some(item_version);
    }
    if ranged && text.contains(',') {
        return Err("you can't use a range in a list".into());
    }
    Ok(version)
}

/// The IP version of an address, a network, or a range.
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
    // Omitted bytes at the end are zero.
    let mut full = text.trim_end_matches('.').to_owned();
    for _ in quads.len()..4 {
        full.push_str(".0");
    }
    full.parse()
        .map_err(|_| format!("Invalid IP address {text}"))
}

/// Whether Debian's list of protocols has this name or number; the firewall adds one name.
pub(crate) fn protocol(name: &str) -> bool {
    const KNOWN: &str = "ip=0 hopopt=0 icmp=1 igmp=2 ggp=3 ipencap=4 st=5 tcp=6 egp=8 igp=9 pup=12 udp=17 hmp=20 xns-idp=22 \
        rdp=27 iso-tp4=29 dccp=33 xtp=36 ddp=37 idpr-cmtp=38 ipv6=41 ipv6-route=43 ipv6-frag=44 idrp=45 \
        rsvp=46 gre=47 esp=50 ah=51 skip=57 ipv6-icmp=58 ipv6-nonxt=59 ipv6-opts=60 rspf=73 vmtp=81 eigrp=88 \
        ospf=89 ax.25=93 ipip=94 etherip=97 encap=98 pim=103 ipcomp=108 vrrp=112 l2tp=115 isis=124 sctp=132 \
        fc=133 mobility-header=135 udplite=136 mpls-in-ip=137 manet=138 hip=139 shim6=140 wesp=141 rohc=142 \
        ethernet=143 mptcp=262 icmpv6=58";
    let mut known = KNOWN
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    known.any(|(key, number)| key == name || number == name)
}

/// A VLAN tag, or two joined by a hyphen.
pub(crate) fn vlans(value: &str) -> (bool, String) {
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

pub(crate) const COMMAS: &str = "extraneous commas in list";

/// Ports and ranges of ports, as numbers or service names.
pub(crate) fn ports(list: &str) -> Result<(), String> {
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

/// A minimum that no prefix reaches: networks of this version are refused.
pub(crate) const NONE: u8 = u8::MAX;

/// Whether a text is a network with a prefix of at least this many bits.
pub(crate) fn cidr(value: &str, min4: u8, min6: u8) -> bool {
    let Some((address, prefix)) = value.split_once('/') else {
        return false;
    };
    let Some(Ok(prefix)) = (!prefix.starts_with('+')).then(|| prefix.parse::<u8>()) else {
        return false;
    };
    match address.parse() {
        Ok(IpAddr::V4(_)) => (min4..=32).contains(&prefix),
        Ok(IpAddr::V6(_)) => (min6..=128).contains(&prefix),
        Err(_) => false,
    }
}
