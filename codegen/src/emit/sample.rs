//! Values that the schema accepts, for the generated tests.

use serde_json::{Number, Value};

use crate::facts::{Format, Schema, Schemas};

/// Unconstrained text, full of characters with a meaning in a form or a path.
const FREE: &str = "a b&c=d;e+f%41/ü";

/// Values by the name of a format, without its `-list` or `-opt`.
const FORMATS: &[(&str, &str)] = &[
    ("CIDR", "192.0.2.0/24"),
    ("CIDRv4", "192.0.2.0/24"),
    ("CIDRv6", "2001:db8::/64"),
    ("FullRangeCIDR", "192.0.2.0/24"),
    ("IPorCIDR", "192.0.2.0/24"),
    ("IPorCIDRorAlias", "192.0.2.0/24"),
    ("address", "192.0.2.10"),
    ("bridge-pair", "vmbr0:vmbr1"),
    ("disk-size", "4G"),
    ("dns-name", "host.example.org"),
    ("email", "admin@example.org"),
    ("email-or-username", "root@pam"),
    ("graphite-path", "proxmox.test"),
    ("ip", "192.0.2.10"),
    ("ipv4", "192.0.2.10"),
    ("ipv4mask", "255.255.255.0"),
    ("ipv6", "2001:db8::10"),
    ("ldap-simple-attr", "uid"),
    ("lxc-ip-with-ll-iface", "192.0.2.10"),
    ("lxc-disk-key", "mp0"),
    ("mac-addr", "BC:24:11:00:00:01"),
    ("mac-prefix", "BC:24:11"),
    (
        "pem-certificate-chain",
        "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----",
    ),
    (
        "pem-string",
        "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----",
    ),
    ("pve-acme-alias", "alias.example.org"),
    ("pve-acme-domain", "host.example.org"),
    ("pve-bridge-id", "vmbr0"),
    ("pve-calendar-event", "*/15"),
    ("pve-command-batch", "[]"),
    ("pve-configid", "item1"),
    ("pve-cpuset", "0-3"),
    ("pve-ct-timezone", "host"),
    ("pve-day-of-week", "mon"),
    ("pve-dir-override", "iso=templates"),
    ("pve-fw-addr-spec", "192.0.2.10"),
    ("pve-fw-conntrack-helper", "ftp"),
    ("pve-fw-dport-spec", "8006"),
    ("pve-fw-icmp-type-spec", "echo-request"),
    ("pve-fw-protocol-spec", "tcp"),
    ("pve-fw-sport-spec", "1024"),
    ("pve-groupid", "admins"),
    ("pve-ha-group-node", "pve1:2"),
    ("pve-ha-node", "pve1"),
    ("pve-ha-resource-id", "vm:100"),
    ("pve-ha-resource-or-vm-id", "vm:100"),
    ("pve-hotplug-features", "network"),
    ("pve-iface", "eth0"),
    ("pve-ipv4-config", "192.0.2.10/24"),
    ("pve-ipv6-config", "2001:db8::10/64"),
    ("pve-lxc-dev-string", "/dev/fuse"),
    ("pve-lxc-mp-string", "/mnt/data"),
    ("pve-node", "pve1"),
    ("pve-phys-bits", "host"),
    ("pve-poolid", "pool1"),
    ("pve-priv", "VM.Audit"),
    ("pve-qm-bootdisk", "scsi0"),
    ("pve-qm-ide", "none"),
    ("pve-realm", "pve"),
    ("pve-replication-job-id", "100-0"),
    ("pve-roleid", "PVEAuditor"),
    ("pve-sdn-bgp-rt", "65000:1"),
    ("pve-sdn-isis-net", "49.0001.1921.6800.1002.00"),
    ("pve-sdn-subnet-id", "zone1-192.0.2.0-24"),
    ("pve-startup-order", "order=1"),
    ("pve-storage-content", "images"),
    ("pve-storage-id", "local"),
    ("pve-storage-options", "vers=4.2"),
    ("pve-storage-path", "/mnt/store"),
    ("pve-storage-path-in-property-string", "/mnt/store"),
    ("pve-storage-portal-dns", "192.0.2.10"),
    ("pve-storage-server", "192.0.2.10"),
    ("pve-storage-vgname", "pve"),
    ("pve-storage-zfs-blocksize", "16k"),
    ("pve-tag", "tag1"),
    ("pve-task-status-type", "ok"),
    ("pve-tokenid", "root@pam!ci"),
    ("pve-userid", "someone@pve"),
    ("pve-vlan-id-or-range", "2-100"),
    ("pve-vmid", "100"),
    ("pve-volume-id", "local:iso/debian-13.iso"),
    ("pve-volume-id-or-absolute-path", "local:iso/debian-13.iso"),
    ("pve-volume-id-or-qm-path", "local:iso/debian-13.iso"),
    ("qemu-disk-key", "scsi0"),
    ("storage-pair", "local:other"),
    ("string", "text"),
    ("string-a", "text"),
    ("urlencoded", "abc%20d"),
];

/// Values by the name of a parameter or key, and a piece of its pattern if the name is not unique.
const PATTERNS: &[(&str, &str, &str)] = &[
    ("base_dn", "", "dc=example"),
    ("bind_dn", "", "cn=reader"),
    ("bootdisk", "", "scsi0"),
    ("bridge", "", "vmbr0"),
    ("cpus", "", "0-1;3"),
    ("color-map", "", "tag1:aabbcc;tag2:000000:ffffff"),
    ("config-keys", "", "global:key1"),
    ("directory", "", "https://acme.example.org/directory"),
    ("disk", "", "/dev/sdb"),
    ("entrypoint", "", "/sbin/init"),
    ("env", "", "A=b"),
    ("fingerprint", "", FINGERPRINT),
    ("flags", "", "+aes;-pcid"),
    ("host", "", "1-2.3"),
    ("hostnodes", "", "0;2-3"),
    ("http_proxy", "", "http://proxy.example.org:3128"),
    ("id", "{4}:", "8086:1533"),
    ("subsystem-id", "{4}:", "8086:1533"),
    ("idmap", "", "u:0:100000:65536;g:0:100000:65536"),
    ("key", "pve", "pve2c-0123456789"),
    ("machine", "", "pc-q35-9.2+pve1"),
    ("mode", "", "0660"),
    ("mount", "", "nfs;cifs"),
    ("mountoptions", "", "noatime;nosuid"),
    ("nets-host-mtu", "", "net0=1500,net1=9000"),
    ("parallel[n]", "", "/dev/parport0"),
    ("path", "{4,}:", "0000:01:00.0"),
    ("path", "", "1-2.3"),
    ("pci-id-or-mapping", "", "0000:01:00.0"),
    ("pciid", "", "0000:01:00.0"),
    ("pn-fingerprint", "", FINGERPRINT),
    ("rate", "", "1/second"),
    (
        "reference",
        ":\\w",
        "registry.example.org/library/alpine:3.20",
    ),
    ("reference", "", "library/alpine"),
    ("registered-tags", "", "tag1;tag2"),
    ("remove-vanished", "", "acl;entry"),
    ("running-nets-host-mtu", "", "net0=1500,net1=9000"),
    ("serial[n]", "", "socket"),
    ("service", "", "mon.a"),
    ("since", "", "2026-01-31 12:00:00"),
    ("size", "", "10G"),
    ("startdate", "", "2026-01-31T12:00:00"),
    ("starttime", "", "02:30"),
    ("sync_attributes", "", "email=mail,firstname=givenName"),
    ("target_size", "", "10G"),
    ("tmpfilename", "", "/var/tmp/pveupload-0a1b2c3d"),
    ("trunks", "", "2;5"),
    ("type", "pc-q35", "pc-q35-9.2+pve1"),
    ("until", "", "2026-01-31 12:00:00"),
    ("url", "", "https://example.org/image.iso?x=1&y=2"),
    ("user-allow-list", "", "tag1;tag2"),
    ("userid", "", "someone@pve"),
    ("uuid", "", "0a1b2c3d-0a1b"),
    ("vg", "", "pve"),
    ("vmgenid", "", "0a1b2c3d-0a1b-0c2d-0e3f-0a1b2c3d4e5f"),
    ("wwn", "", "0x5000c500a1b2c3d4"),
];

/// Values of keys of property strings whose schema is missing in the dumps, by property string and
/// key.
const KEYS: &[(&str, &str, &str)] = &[
    ("QemuBoot", "legacy", "cdn"),
    ("QemuBoot", "order", "scsi0"),
    ("QemuCloudInitCustom", "meta", SNIPPET),
    ("QemuCloudInitCustom", "network", SNIPPET),
    ("QemuCloudInitCustom", "user", SNIPPET),
    ("QemuCloudInitCustom", "vendor", SNIPPET),
    ("QemuCpu", "cputype", "host"),
    ("QemuCpu", "flags", "+aes"),
    ("QemuCpu", "guest-phys-bits", "40"),
    ("QemuCpu", "phys-bits", "host"),
    ("QemuHostPci", "device-id", "0x1533"),
    ("QemuHostPci", "host", "0000:01:00.0"),
    ("QemuHostPci", "sub-device-id", "0x0001"),
    ("QemuHostPci", "sub-vendor-id", "0x8086"),
    ("QemuHostPci", "vendor-id", "0x8086"),
    ("QemuIpConfig", "gw", "192.0.2.1"),
    ("QemuIpConfig", "gw6", "2001:db8::1"),
    ("QemuIpConfig", "ip", "192.0.2.10/24"),
    ("QemuIpConfig", "ip6", "2001:db8::10/64"),
    ("QemuSev", "type", "std"),
    (
        "QemuSmbios1",
        "uuid",
        "0a1b2c3d-0a1b-0c2d-0e3f-0a1b2c3d4e5f",
    ),
    ("QemuTdx", "type", "tdx"),
    ("QemuWatchdog", "action", "reset"),
    ("RealmSyncOptions", "remove-vanished", "acl"),
    ("RealmTfa", "step", "30"),
    ("RealmTfa", "type", "oath"),
    ("RemoteEndpoint", "fingerprint", FINGERPRINT),
];

const SNIPPET: &str = "local:snippets/user.yaml";

/// The value of a key in [`KEYS`].
pub(super) fn key(owner: &str, name: &str) -> Option<&'static str> {
    KEYS.iter()
        .find(|(string, key, _)| *string == owner && *key == name)
        .map(|(.., value)| *value)
}

/// Whether a key of a property string excludes all others, or belongs to another variant of it.
pub(super) fn left_out(owner: &str, name: &str) -> bool {
    matches!(
        (owner, name),
        ("PruneBackups", "keep-all") | ("QemuCpu", "reported-model")
    )
}

const FINGERPRINT: &str = "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99";

/// Example values of names that people choose, by the name of a parameter.
const CHOSEN: &[(&str, &str)] = &[
    ("alias", "web"),
    ("bridge", "vmbr0"),
    ("cidr", "192.0.2.0/24"),
    ("command", "qemu"),
    ("comment", "web servers"),
    ("cputype", "custom-web"),
    ("dev", "/dev/sdb"),
    ("device", "/dev/sdb"),
    ("devices", "/dev/sdb"),
    ("disk", "/dev/sdb"),
    ("email", "admin@example.org"),
    ("file", "/etc/hostname"),
    ("filepath", "/"),
    ("filename", "debian-13.iso"),
    ("fs_name", "cephfs"),
    ("group", "web"),
    ("groupid", "admins"),
    ("host", "192.0.2.20"),
    ("id", "id1"),
    ("iface", "vmbr1"),
    ("key", "ABCD-0123456789"),
    ("keys", "x 123456"),
    ("lun", "0"),
    ("mailto", "admin@example.org"),
    ("message", "hello"),
    ("monid", "pve1"),
    ("mon-address", "192.0.2.10"),
    ("name", "web"),
    (
        "ostemplate",
        "local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst",
    ),
    ("password", "correct horse"),
    ("path", "/vms/100"),
    ("pool", "web"),
    ("pool_name", "web"),
    ("portal", "192.0.2.30"),
    ("privs", "VM.Audit"),
    ("realm", "example"),
    ("redirect-url", "https://pve1.example.org:8006"),
    ("response", "123456"),
    ("roleid", "Starter"),
    ("search", "smbios"),
    ("server", "192.0.2.40"),
    ("service", "pveproxy"),
    ("sid", "vm:100"),
    ("snapname", "before_upgrade"),
    ("source", "/mnt/data"),
    ("storage", "local"),
    ("targetstorage", "local-lvm"),
    ("tokenid", "ci"),
    ("type", "iso"),
    ("url", "https://example.org/debian-13.iso"),
    ("username", "root@pam"),
    ("vgname", "data"),
    ("vnet", "vnet1"),
    ("volume", "backup/vm/100/2026-01-31T02:30:00Z"),
    ("zone", "zone1"),
];

/// A readable text, if the schema leaves the choice to people.
pub(super) fn chosen(name: &str, valid: &str) -> String {
    if !["text", "item1"].contains(&valid) {
        return valid.to_owned();
    }
    let known = CHOSEN.iter().find(|(known, _)| *known == name);
    known.map_or_else(
        || name.replace(['-', '_'], ""),
        |(_, text)| (*text).to_owned(),
    )
}

/// Values of placeholders whose schema is too weak, or that must be more than valid.
pub(super) fn in_path(name: &str) -> Option<&'static str> {
    Some(match name {
        "target" => "pve2",
        "upid" => "UPID:pve1:00000C1C:0002C651:6B01F6B2:imgcopy::root@pam:",
        "volume" => "local:iso/debian-13.iso",
        "cidr" => "192.0.2.0/24",
        "subnet" => "zone1-192.0.2.0-24",
        _ => return None,
    })
}

/// A name for `unset` that the schema of `delete` accepts.
pub(super) fn unset(delete: Option<&Schema>, siblings: &Schemas) -> String {
    let choice = delete.and_then(|schema| {
        let items = schema.items.as_deref().unwrap_or(schema);
        items.values.as_ref()?.last()
    });
    choice.map_or_else(|| removable(siblings, 1), Clone::clone)
}

/// A setting that can be removed; another one for each number.
fn removable(siblings: &Schemas, number: usize) -> String {
    // A setting cannot be set and removed in the same call; of an indexed parameter only one index
    // is set.
    if siblings.contains_key("net[n]") {
        return format!("net{}", number + 4);
    }
    let settings = siblings
        .iter()
        .filter(|(name, schema)| schema.optional && !name.contains('[') && *name != "delete");
    let names: Vec<&String> = settings.map(|(name, _)| name).collect();
    // The last ones are the least special.
    let choice = names.iter().rev().nth(number).or(names.last());
    choice.map_or("comment", |name| name).to_owned()
}

pub(super) fn integer(schema: Option<&Schema>) -> i64 {
    let Some(schema) = schema else { return 7 };
    if let Some(value) = schema.values.iter().flatten().find_map(|v| v.parse().ok()) {
        return value;
    }
    if matches!(&schema.format, Some(Format::Name(name)) if name == "pve-vmid") {
        return 100;
    }
    let bound = |number: &Option<Number>| {
        let number = number.as_ref()?;
        number
            .as_i64()
            .or_else(|| number.as_f64().map(|n| n as i64))
    };
    7.max(bound(&schema.minimum).unwrap_or(7))
        .min(bound(&schema.maximum).unwrap_or(i64::MAX))
}

pub(super) fn number(schema: Option<&Schema>) -> f64 {
    let bound = |number: Option<&Option<Number>>| number?.as_ref()?.as_f64();
    let low = bound(schema.map(|schema| &schema.minimum)).unwrap_or(0.0);
    let high = bound(schema.map(|schema| &schema.maximum)).unwrap_or(f64::INFINITY);
    // Needs a fraction, so that its loss would be noticed.
    let middle = low + 0.5;
    if middle <= high { middle } else { high }
}

/// One item of a list that is a text.
pub(super) fn item(name: &str, schema: Option<&Schema>, siblings: &Schemas) -> String {
    match schema {
        _ if name == "delete" => removable(siblings, 0),
        _ if name == "revert" => removable(siblings, 2),
        Some(schema) if schema.format.is_some() => text(name, Some(schema), true),
        Some(schema) if schema.pattern.is_some() => {
            // The pattern is that of the whole list.
            let list = text(name, Some(schema), true);
            list.split(';').next().unwrap_or_default().to_owned()
        }
        _ => "item1".to_owned(),
    }
}

/// A text; inside of a property string without the characters that have a meaning there.
pub(super) fn text(name: &str, schema: Option<&Schema>, inside: bool) -> String {
    let Some(schema) = schema else {
        return "text".to_owned();
    };
    if let Some(value) = schema.values.iter().flatten().next() {
        return value.clone();
    }
    if let Some(Format::Name(format)) = &schema.format {
        let base = format
            .strip_suffix("-list")
            .or_else(|| format.strip_suffix("-opt"))
            .unwrap_or(format);
        if base == "pve-node" && name == "target" {
            return "pve2".to_owned();
        }
        let known = FORMATS.iter().find(|(name, _)| *name == base);
        return known.map_or("item1", |(_, text)| text).to_owned();
    }
    if let Some(pattern) = &schema.pattern {
        let known = PATTERNS
            .iter()
            .find(|(key, piece, _)| *key == name && pattern.contains(piece));
        return known.map_or("item1", |(.., text)| text).to_owned();
    }
    let least = usize::try_from(schema.min_length.unwrap_or(0)).unwrap_or(0);
    let most = schema.max_length.unwrap_or(u64::MAX);
    let text = match &schema.default {
        Some(Value::String(default)) if !default.is_empty() && !inside => default.as_str(),
        _ if name == "target" => "pve2",
        _ if name == "path" && !inside => "/vms/100",
        _ if inside || most < 20 || name == "node" => "text",
        _ => FREE,
    };
    let missing = least.saturating_sub(text.chars().count());
    let mut text = format!("{text}{}", "x".repeat(missing));
    text.truncate(usize::try_from(most).unwrap_or(usize::MAX).min(text.len()));
    text
}
