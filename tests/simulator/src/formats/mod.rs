//! The named string formats: accepted values, refusal texts, and examples.

pub(crate) mod examples;
pub(crate) mod network;
pub(crate) mod patterns;
pub(crate) mod single;
pub(crate) mod values;

use crate::formats::single::single;
use crate::formats::values::calendar_event;

/// Checks a value against a named format that is not a property string.
///
/// `None`: the format is unknown, and every text passes.
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

/// The next time of a calendar event, in seconds since 1970, for events without dates.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::examples::example;
    use crate::formats::network::COMMAS;

    #[test]
    fn calendar_events_have_the_right_next_time() {
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
    fn values_at_the_edge_of_a_format() {
        for (name, value) in [
            ("IPorCIDR", "0.0.0.0/0"),
            ("IPorCIDR", "::/0"),
            ("FullRangeCIDR", "::/0"),
            ("lxc-ip-with-ll-iface", "fe80::1%eth0"),
            ("pve-lxc-mp-string", "./srv"),
            ("pve-ha-resource-or-vm-id", "ct:100"),
        ] {
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
            ("CIDRv4", "192.0.2.0/+8"),
            ("ip", "fe80::1%eth0"),
            ("lxc-ip-with-ll-iface", "192.0.2.1%eth0"),
            ("pve-ha-resource-or-vm-id", "shop1"),
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
    fn refusals_have_the_texts_of_the_server() {
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
    fn users_without_a_realm_are_mail_recipients() {
        assert_eq!(check("email-or-username", "root"), Some(Ok(())));
        assert_eq!(
            check("email", "root"),
            Some(Err(
                "value does not look like a valid email address\n".into()
            ))
        );
    }

    #[test]
    fn numbers_are_limited() {
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
