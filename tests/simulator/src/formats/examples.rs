//! Example values of formats.

/// A value that the format accepts.
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
