//! Decodes answers with serde_json: into structs with just the members that come, or into `Value`.

use std::any::Any;
use std::error::Error;

use serde::Deserialize;
use serde::de::DeserializeOwned;

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
