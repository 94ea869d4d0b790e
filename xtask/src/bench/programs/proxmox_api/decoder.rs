//! Decodes answers with the types of proxmox-api 0.2.

use std::any::Any;
use std::error::Error;

use serde::Deserialize;
use serde::de::DeserializeOwned;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

pub struct Decoder {
    kind: String,
    body: Vec<u8>,
}

impl Decoder {
    pub fn new(_way: &str, kind: &str, body: Vec<u8>) -> Result<Self> {
        Ok(Self {
            kind: kind.to_owned(),
            body,
        })
    }

    pub fn run(&self) -> Result<Box<dyn Any>> {
        match &*self.kind {
            "resources" => self.decode::<Vec<proxmox_api::cluster::resources::GetOutputItems>>(),
            "guests" => self.decode::<Vec<proxmox_api::nodes::node::qemu::GetOutputItems>>(),
            _ => self.decode::<proxmox_api::nodes::node::qemu::vmid::config::GetOutput>(),
        }
    }

    fn decode<T: DeserializeOwned + 'static>(&self) -> Result<Box<dyn Any>> {
        let answer: Answer<T> = serde_json::from_slice(&self.body)?;
        Ok(Box::new(answer.data))
    }
}
