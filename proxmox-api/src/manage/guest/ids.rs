//! Free guest numbers.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{GuestErrorKind, Locations};
use crate::client::Client;
use crate::error::Error;
use crate::error::api::ErrorKind;

/// The lowest free number of a range: [`GET
/// /cluster/resources`](crate::pve::cluster::ClusterResourcesGet) for the taken ones, and [`GET
/// /cluster/nextid`](crate::pve::cluster::ClusterNextidGet) for each candidate, since guests that
/// this user may not see take numbers too.
///
/// The number is not reserved. To create something with it use [`allocate`].
///
/// # Errors
/// [`GuestErrorKind::NoFreeId`] if all are taken; those of every request.
pub async fn next_free(client: &Client, range: RangeInclusive<u32>) -> Result<u32, Error> {
    Search::new(client, range).await?.next().await
}

/// Creates something with a free number of a range. `create` is called with a number; if another
/// program took the number meanwhile, it is called again with the next one.
///
/// ```no_run
/// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
/// use proxmox_api::manage::guest::allocate;
///
/// let qemu = pve.api().nodes().node("pve1").qemu();
/// let (vmid, task) = allocate(&pve, 5000..=5999, |vmid| {
///     qemu.post(vmid).name("worker").cores(2)
/// })
/// .await?;
/// task.wait().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`GuestErrorKind::NoFreeId`] if all are taken, and the errors of `create`.
pub async fn allocate<T, F>(
    client: &Client,
    range: RangeInclusive<u32>,
    mut create: impl FnMut(u32) -> F,
) -> Result<(u32, T), Error>
where
    F: IntoFuture<Output = Result<T, Error>>,
{
    let mut search = Search::new(client, range).await?;
    loop {
        let vmid = search.next().await?;
        match create(vmid).await {
            Ok(done) => return Ok((vmid, done)),
            // Other objects can exist already, too: the next number is tried only if this one is
            // taken.
            Err(error) if error.kind() == Some(ErrorKind::AlreadyExists) => {
                if search.is_free(vmid).await? {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

struct Search {
    client: Client,
    range: RangeInclusive<u32>,
    taken: BTreeSet<u32>,
    at: u32,
}

impl Search {
    async fn new(client: &Client, range: RangeInclusive<u32>) -> Result<Self, Error> {
        let table = Locations::fresh(client).await?;
        Ok(Self {
            client: client.clone(),
            at: *range.start(),
            range,
            taken: table.guests.keys().copied().collect(),
        })
    }

    async fn next(&mut self) -> Result<u32, Error> {
        while self.range.contains(&self.at) {
            let vmid = self.at;
            let Some(next) = vmid.checked_add(1) else {
                break;
            };
            self.at = next;
            if !self.taken.contains(&vmid) && self.is_free(vmid).await? {
                return Ok(vmid);
            }
        }
        let full = GuestErrorKind::NoFreeId {
            first: *self.range.start(),
            last: *self.range.end(),
        };
        Err(full.into())
    }

    async fn is_free(&self, vmid: u32) -> Result<bool, Error> {
        match self.client.api().cluster().nextid().get().vmid(vmid).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Some(ErrorKind::AlreadyExists) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
