//! Access to the inside of a virtual machine through its guest agent.
//!
//! ```no_run
//! # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
//! use std::time::Duration;
//!
//! let agent = pve.guest(101).agent();
//! agent.wait_until_up(Duration::from_secs(120)).await?;
//! let output = agent.exec(["uname", "-r"]).await?;
//! println!("kernel {}", output.stdout_text().trim());
//! agent.write_file("/etc/motd", b"Welcome.\n").await?;
//! # Ok(())
//! # }
//! ```

mod call;
mod exec;
mod files;
mod network;
mod whole;

pub use call::Agent;
pub use exec::{Exec, Output};
pub use files::FileSystem;
pub use network::{Address, Interface, WaitForAddress};

#[cfg(test)]
mod tests;
