//! The gRPC services as messages, servers and clients.
//!
//! ```no_run
//! use proxmox_gateway::gpve::v1::GetGuestRequest;
//! use proxmox_gateway::gpve::v1::guest_service_client::GuestServiceClient;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut guests = GuestServiceClient::connect("http://127.0.0.1:8007").await?;
//! let mut request = tonic::Request::new(GetGuestRequest { vmid: 100 });
//! let token = "PVEAPIToken=root@pam!ci=12345678-1234-1234-1234-123456789abc";
//! request.metadata_mut().insert("authorization", token.parse()?);
//! println!("{}", guests.get(request).await?.into_inner().status);
//! # Ok(())
//! # }
//! ```

/// The first version.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub
)]
pub mod v1 {
    tonic::include_proto!("gpve.v1");
}

/// The compiled description of the services, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gpve.bin"));
