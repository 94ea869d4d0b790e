//! Sends one list of calls to two servers and reports where their answers differ: in status, text,
//! shape (compared with the types of `proxmox-api`), and effect, which a following GET shows.
//!
//! One of the two is usually a simulator in this process, the other a test cluster.

pub mod answer;
pub mod call;
pub mod compare;
pub mod list;
pub mod plain;
pub mod report;
pub mod run;
pub mod server;

use crate::server::{Access, Address, Names, Server};

/// Connects to both servers; a simulator is set up like the other server.
///
/// # Errors A server is unavailable; a text for people.
pub async fn open(
    (first, first_access): (&Address, &Access),
    (second, second_access): (&Address, &Access),
    names: &Names,
) -> Result<(Server, Server), String> {
    let simulated = |address: &Address| matches!(address, Address::Simulator(_));
    match (simulated(first), simulated(second)) {
        (true, false) => {
            let second = Server::open(second, second_access, names, None).await?;
            let first = Server::open(first, first_access, names, Some(&second)).await?;
            Ok((first, second))
        }
        (false, true) => {
            let first = Server::open(first, first_access, names, None).await?;
            let second = Server::open(second, second_access, names, Some(&first)).await?;
            Ok((first, second))
        }
        _ => Ok((
            Server::open(first, first_access, names, None).await?,
            Server::open(second, second_access, names, None).await?,
        )),
    }
}
