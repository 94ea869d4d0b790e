//! Makes a container from the newest template of a name, and one from an OCI image:
//! `cargo run -p proxmox-api --example container`.
//!
//! On a real server (`PROXMOX_HOST` and so on), `PROXMOX_TEMPLATE` is the template (`debian-13-standard`), `PROXMOX_IMAGE` the
//! image (`docker.io/library/nginx:latest`) and `PROXMOX_STORAGE` where the disks go (`local-lvm`). The containers are called
//! `from-template` and `from-image`, have numbers from 6000 to 6999, and stay.

mod common;

use common::{Outcome, open, variable};
use proxmox_api::Error;
use proxmox_api::manage::container::{Container, Template};

#[tokio::main]
async fn main() -> Outcome {
    let or = |name: &str, other: &str| variable(name).unwrap_or_else(|| other.to_owned());
    let image = or("PROXMOX_IMAGE", "docker.io/library/nginx:latest");
    let (_simulator, pve) = open(|builder| builder.oci_image(&image)).await?;
    let storage = or("PROXMOX_STORAGE", "local-lvm");
    let template = Template::named(or("PROXMOX_TEMPLATE", "debian-13-standard"));
    let plain = Container::new("from-template", template);
    let app = Container::new("from-image", Template::oci(&image)).environment([("TZ", "UTC")]);
    for container in [plain, app] {
        let container = container.ids(6000..=6999).disk(&storage, 4);
        let operation = pve
            .carry_out(container)
            .on_step(|step| println!("  {step}"));
        match operation.await {
            Ok(operation) => println!("guest {}, new: {}", operation.guest.vmid(), operation.new),
            Err(Error::Work(error)) => println!("nothing was done: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
