//! Decodes answers with serde_json: into structs with just the members that come, into structs with all members that the API
//! has and a map of the others, or into `Value`.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct Resource {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    vmid: Option<u32>,
    node: Option<String>,
    name: Option<String>,
    status: Option<String>,
    template: Option<i64>,
    uptime: Option<i64>,
    cpu: Option<f64>,
    maxcpu: Option<f64>,
    mem: Option<i64>,
    maxmem: Option<i64>,
    disk: Option<i64>,
    maxdisk: Option<i64>,
    diskread: Option<i64>,
    diskwrite: Option<i64>,
    netin: Option<i64>,
    netout: Option<i64>,
    tags: Option<String>,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct Guest {
    vmid: u32,
    name: Option<String>,
    status: String,
    cpu: Option<f64>,
    cpus: Option<f64>,
    mem: Option<i64>,
    maxmem: Option<i64>,
    disk: Option<i64>,
    maxdisk: Option<i64>,
    diskread: Option<i64>,
    diskwrite: Option<i64>,
    netin: Option<i64>,
    netout: Option<i64>,
    uptime: Option<i64>,
    pid: Option<i64>,
    tags: Option<String>,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct Config {
    balloon: Option<i64>,
    cores: Option<i64>,
    cpulimit: Option<i64>,
    cpuunits: Option<i64>,
    kvm: Option<i64>,
    numa: Option<i64>,
    onboot: Option<i64>,
    protection: Option<i64>,
    sockets: Option<i64>,
    tablet: Option<i64>,
    agent: Option<String>,
    args: Option<String>,
    bios: Option<String>,
    boot: Option<String>,
    cicustom: Option<String>,
    ciuser: Option<String>,
    cpu: Option<String>,
    description: Option<String>,
    digest: Option<String>,
    efidisk0: Option<String>,
    hotplug: Option<String>,
    machine: Option<String>,
    memory: Option<String>,
    name: Option<String>,
    nameserver: Option<String>,
    ostype: Option<String>,
    scsihw: Option<String>,
    searchdomain: Option<String>,
    smbios1: Option<String>,
    startup: Option<String>,
    tags: Option<String>,
    vga: Option<String>,
    vmgenid: Option<String>,
    net0: Option<String>,
    net1: Option<String>,
    net2: Option<String>,
    net3: Option<String>,
    net4: Option<String>,
    net5: Option<String>,
    net6: Option<String>,
    net7: Option<String>,
    ipconfig0: Option<String>,
    ipconfig1: Option<String>,
    ipconfig2: Option<String>,
    ipconfig3: Option<String>,
    ipconfig4: Option<String>,
    ipconfig5: Option<String>,
    ipconfig6: Option<String>,
    ipconfig7: Option<String>,
    scsi0: Option<String>,
    scsi1: Option<String>,
    scsi2: Option<String>,
    scsi3: Option<String>,
    scsi4: Option<String>,
    scsi5: Option<String>,
    scsi6: Option<String>,
    scsi7: Option<String>,
    scsi8: Option<String>,
    scsi9: Option<String>,
    scsi10: Option<String>,
    scsi11: Option<String>,
    scsi12: Option<String>,
    scsi13: Option<String>,
    scsi14: Option<String>,
    scsi15: Option<String>,
    hostpci0: Option<String>,
    hostpci1: Option<String>,
    hostpci2: Option<String>,
    hostpci3: Option<String>,
    usb0: Option<String>,
    usb1: Option<String>,
    usb2: Option<String>,
    usb3: Option<String>,
    numa0: Option<String>,
    numa1: Option<String>,
    numa2: Option<String>,
    numa3: Option<String>,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct WholeResource {
    cgroup_mode: Option<i64>,
    content: Option<String>,
    cpu: Option<f64>,
    disk: Option<u64>,
    diskread: Option<u64>,
    diskwrite: Option<u64>,
    hastate: Option<String>,
    #[serde(rename = "host-arch")]
    host_arch: Option<String>,
    id: String,
    level: Option<String>,
    lock: Option<String>,
    maxcpu: Option<f64>,
    maxdisk: Option<u64>,
    maxmem: Option<u64>,
    mem: Option<u64>,
    memhost: Option<u64>,
    name: Option<String>,
    netin: Option<u64>,
    netout: Option<u64>,
    network: Option<String>,
    #[serde(rename = "network-type")]
    network_type: Option<String>,
    node: Option<String>,
    plugintype: Option<String>,
    pool: Option<String>,
    protocol: Option<String>,
    sdn: Option<String>,
    shared: Option<i64>,
    status: Option<String>,
    storage: Option<String>,
    tags: Option<String>,
    template: Option<i64>,
    #[serde(rename = "type")]
    kind: String,
    uptime: Option<i64>,
    vmid: Option<u32>,
    #[serde(rename = "zone-type")]
    zone_type: Option<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, serde_json::Value>,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct WholeGuest {
    balloon: Option<u64>,
    balloon_min: Option<u64>,
    ballooninfo: Option<serde_json::Value>,
    blockstat: Option<serde_json::Value>,
    cpu: Option<f64>,
    cpus: Option<f64>,
    disk: Option<u64>,
    diskread: Option<u64>,
    diskwrite: Option<u64>,
    freemem: Option<u64>,
    lock: Option<String>,
    maxdisk: Option<u64>,
    maxmem: Option<u64>,
    mem: Option<u64>,
    memhost: Option<u64>,
    name: Option<String>,
    netin: Option<u64>,
    netout: Option<u64>,
    nics: Option<serde_json::Value>,
    pid: Option<i64>,
    pressurecpufull: Option<f64>,
    pressurecpusome: Option<f64>,
    pressureiofull: Option<f64>,
    pressureiosome: Option<f64>,
    pressurememoryfull: Option<f64>,
    pressurememorysome: Option<f64>,
    #[serde(rename = "proxmox-support")]
    proxmox_support: Option<serde_json::Value>,
    qmpstatus: Option<String>,
    #[serde(rename = "running-machine")]
    running_machine: Option<String>,
    #[serde(rename = "running-qemu")]
    running_qemu: Option<String>,
    serial: Option<i64>,
    shares: Option<i64>,
    status: String,
    tags: Option<String>,
    template: Option<i64>,
    uptime: Option<i64>,
    vmid: u32,
    #[serde(flatten)]
    extra: BTreeMap<String, serde_json::Value>,
}

/// The members that come, with the property strings among them parsed into their keys.
#[allow(dead_code)]
struct ParsedConfig {
    plain: BTreeMap<String, serde_json::Value>,
    parsed: BTreeMap<String, BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for ParsedConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut plain = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut parsed = BTreeMap::new();
        plain.retain(|name, value| {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let text = match stem {
                "net" | "ipconfig" | "scsi" | "hostpci" | "usb" | "numa" | "efidisk" => value.as_str(),
                "agent" | "boot" | "cicustom" | "smbios" | "startup" | "vga" => value.as_str(),
                _ => None,
            };
            let Some(text) = text else { return true };
            let pairs = text.split(',').map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or(("", pair));
                (key.to_owned(), value.to_owned())
            });
            parsed.insert(name.clone(), pairs.collect());
            false
        });
        Ok(Self { plain, parsed })
    }
}

pub struct Decoder {
    way: String,
    kind: String,
    body: Vec<u8>,
}

impl Decoder {
    pub fn new(way: &str, kind: &str, body: Vec<u8>) -> Result<Self> {
        Ok(Self {
            way: way.to_owned(),
            kind: kind.to_owned(),
            body,
        })
    }

    pub fn run(&self) -> Result<Box<dyn Any>> {
        match (&*self.way, &*self.kind) {
            ("value", _) => self.decode::<serde_json::Value>(),
            ("whole", "resources") => self.decode::<Vec<WholeResource>>(),
            ("whole", "guests") => self.decode::<Vec<WholeGuest>>(),
            ("whole", _) => self.decode::<ParsedConfig>(),
            (_, "resources") => self.decode::<Vec<Resource>>(),
            (_, "guests") => self.decode::<Vec<Guest>>(),
            _ => self.decode::<Config>(),
        }
    }

    fn decode<T: DeserializeOwned + 'static>(&self) -> Result<Box<dyn Any>> {
        let answer: Answer<T> = serde_json::from_slice(&self.body)?;
        Ok(Box::new(answer.data))
    }
}
