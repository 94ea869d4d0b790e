//! Network interfaces and addresses of a guest.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::call::{POLL, passes};
use crate::error::Error;
use crate::manage::guest::{Guest, GuestErrorKind, GuestLocation, Kind, impl_into_future};
use crate::request::ApiRequest;
use crate::task::PollSchedule;
use crate::value::serialize::record_serde;

impl Guest {
    /// The network interfaces as the guest's own system sees them: from the guest agent of a
    /// virtual machine, from the node for a container.
    ///
    /// # Errors
    /// See [`Agent`](super::Agent) and [`Guest`].
    pub async fn interfaces(&self) -> Result<Vec<Interface>, Error> {
        if self.location().await?.kind == Kind::Qemu {
            let answer = self
                .ask_agent(|vm| vm.agent().network_get_interfaces().get().into_request())
                .await?;
            let rows = answer.result.unwrap_or_default().into_iter();
            return Ok(rows
                .map(|row| Interface {
                    name: row.name.unwrap_or_default(),
                    mac: row.hardware_address,
                    addresses: (row.ip_addresses.unwrap_or_default().into_iter())
                        .filter_map(|at| Address::read(at.ip_address.as_deref()?, at.prefix))
                        .collect(),
                })
                .collect());
        }
        let ask = |location: &GuestLocation| self.lxc_at(location).interfaces().get().into_future();
        let from = self.location().await?;
        let mut rows = self.call(Some(Kind::Lxc), &ask).await?;
        if rows.is_none() {
            // A node gives the same answer for a stopped container and for one that it does not
            // have.
            self.status().await?;
            if self.location().await? != from {
                rows = self.call(Some(Kind::Lxc), &ask).await?;
            }
        }
        Ok((rows.unwrap_or_default().into_iter())
            .map(|row| {
                let listed = row.ip_addresses.unwrap_or_default();
                let mut addresses: Vec<Address> = (listed.iter())
                    .filter_map(|at| Address::read(at.ip_address.as_deref()?, at.prefix))
                    .collect();
                if addresses.is_empty() {
                    // The format before release 9: `192.0.2.7/24`.
                    addresses = ([row.inet, row.inet6].into_iter().flatten())
                        .filter_map(|text| match text.split_once('/') {
                            Some((ip, prefix)) => Address::read(ip, prefix.parse().ok()),
                            None => Address::read(&text, None),
                        })
                        .collect();
                }
                Interface {
                    name: row.name,
                    mac: row.hardware_address.or(row.hwaddr),
                    addresses,
                }
            })
            .collect())
    }

    /// Waits until the guest has an address that others can reach, and returns all such addresses.
    /// Awaiting it starts it.
    ///
    /// By default, these are left out:
    ///
    /// * addresses of loopback and link-local ones (`127.0.0.0/8`, `::1`, `169.254.0.0/16`, `fe80::/10`),
    /// * interfaces that the guest's system made for containers and machines inside it, recognised
    ///   by their names; see [`Interface::is_internal`].
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use std::time::Duration;
    ///
    /// let guest = pve.guest(101);
    /// let any = guest.wait_for_address(Duration::from_secs(120)).await?;
    /// let of_net0 = guest.wait_for_address(Duration::from_secs(120)).card(0).ipv4().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_address(&self, timeout: Duration) -> WaitForAddress {
        WaitForAddress {
            guest: self.clone(),
            timeout,
            card: None,
            mac: None,
            name: None,
            v4: true,
            v6: true,
            all: false,
        }
    }

    async fn mac_of_card(&self, index: u8) -> Result<String, Error> {
        let mac = match self.location().await?.kind {
            Kind::Qemu => {
                let config = self.qemu_config().await?;
                config.net.get(index).and_then(|card| card.macaddr.clone())
            }
            Kind::Lxc => {
                let config = self.lxc_config().await?;
                config.net.get(index).and_then(|card| card.hwaddr.clone())
            }
        };
        mac.map(|mac| mac.to_string()).ok_or_else(|| {
            let missing = GuestErrorKind::NoSuchSetting {
                vmid: self.vmid(),
                key: format!("net{index}"),
            };
            missing.into()
        })
    }
}

/// Waiting for an address; made by [`Guest::wait_for_address`], started by awaiting it.
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct WaitForAddress {
    guest: Guest,
    timeout: Duration,
    card: Option<u8>,
    mac: Option<String>,
    name: Option<String>,
    v4: bool,
    v6: bool,
    all: bool,
}

impl WaitForAddress {
    /// Takes only the interface of this network card, as 0 for `net0`, found by its MAC address in
    /// the configuration.
    pub fn card(mut self, index: u8) -> Self {
        self.card = Some(index);
        self
    }

    /// Takes only interfaces with this MAC address, whatever its case.
    pub fn mac(mut self, address: impl Into<String>) -> Self {
        self.mac = Some(address.into());
        self
    }

    /// Takes only the interface of this name, as the guest's own system calls it.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Takes only IPv4 addresses.
    pub fn ipv4(mut self) -> Self {
        (self.v4, self.v6) = (true, false);
        self
    }

    /// Takes only IPv6 addresses.
    pub fn ipv6(mut self) -> Self {
        (self.v4, self.v6) = (false, true);
        self
    }

    /// Includes the interfaces and addresses that are left out by default.
    pub fn all(mut self) -> Self {
        self.all = true;
        self
    }

    fn wants(&self, interface: &Interface, card: Option<&str>) -> bool {
        let same = |mac: Option<&str>| {
            mac.is_none_or(|mac| {
                (interface.mac.as_deref()).is_some_and(|other| other.eq_ignore_ascii_case(mac))
            })
        };
        let chosen = card.is_some() || self.mac.is_some() || self.name.is_some();
        same(card)
            && same(self.mac.as_deref())
            && (self.name.as_ref()).is_none_or(|name| *name == interface.name)
            && (chosen || self.all || !interface.is_internal())
    }

    fn wants_address(&self, ip: &IpAddr) -> bool {
        let is_requested = if ip.is_ipv4() { self.v4 } else { self.v6 };
        is_requested && (self.all || is_reachable(ip))
    }

    async fn run(self) -> Result<Vec<IpAddr>, Error> {
        let card = match self.card {
            Some(index) => Some(self.guest.mac_of_card(index).await?),
            None => None,
        };
        let mut schedule = PollSchedule::new(Some(self.timeout), POLL, POLL);
        loop {
            let refused = match self.guest.interfaces().await {
                Ok(interfaces) => {
                    let found: Vec<IpAddr> = (interfaces.iter())
                        .filter(|interface| self.wants(interface, card.as_deref()))
                        .flat_map(|interface| &interface.addresses)
                        .map(|address| address.ip)
                        .filter(|ip| self.wants_address(ip))
                        .collect();
                    if !found.is_empty() {
                        return Ok(found);
                    }
                    None
                }
                Err(error) if passes(&error) => Some(error),
                Err(error) => return Err(error),
            };
            if !schedule.again().await {
                return Err(match refused {
                    Some(Error::Guest(refused)) => Error::Guest(refused),
                    last => (self.guest).timed_out("address", self.timeout, last.as_ref()),
                });
            }
        }
    }
}

impl_into_future!(WaitForAddress => Vec<IpAddr>);

fn is_reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => {
            !ip.is_loopback() && !ip.is_unspecified() && ip.segments()[0] & 0xffc0 != 0xfe80
        }
    }
}

/// A network interface inside a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name, as `eth0`.
    pub name: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

record_serde!(Interface {
    name,
    mac,
    addresses,
});

impl Interface {
    /// Whether programs give this name to interfaces for containers and machines inside the guest,
    /// so that its addresses mean nothing outside: `docker0`, `br-` with twelve hexadecimal digits
    /// (networks of Docker), `podman0`, `cni0`, `cali…`, `cilium_…`, `flannel.1`, `kube-…`,
    /// `lxcbr0`, `lxdbr0`, `nerdctl0`, `veth…`, `virbr0`, `vnet0`, and on Windows `vEthernet
    /// (WSL…)`, `vEthernet (nat)` and `vEthernet (Default Switch)`.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        let name = self.name.as_str();
        let numbered_names = [
            "docker",
            "podman",
            "cni",
            "cni-podman",
            "lxcbr",
            "lxdbr",
            "nerdctl",
            "virbr",
            "vnet",
        ];
        let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit());
        let starts = [
            "br-int",
            "cali",
            "cilium_",
            "flannel",
            "kube-",
            "lxc_",
            "veth",
            "vEthernet (WSL",
            "vEthernet (nat",
            "vEthernet (Default Switch",
            "vEthernet (Docker",
            "virbr0-",
        ];
        let of_docker = |id: &str| id.len() == 12 && id.bytes().all(|c| c.is_ascii_hexdigit());
        (numbered_names.iter()).any(|start| name.strip_prefix(start).is_some_and(digits))
            || starts.iter().any(|start| name.starts_with(start))
            || name.strip_prefix("br-").is_some_and(of_docker)
    }
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network's prefix.
    pub prefix: Option<u8>,
}

record_serde!(Address { ip, prefix });

impl Address {
    #[inline]
    fn read(ip: &str, prefix: Option<i64>) -> Option<Self> {
        // Link-local addresses of some systems come with their zone.
        let ip = ip.split('%').next()?.parse().ok()?;
        let prefix = prefix.and_then(|bits| u8::try_from(bits).ok());
        Some(Self { ip, prefix })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        match self.prefix {
            Some(prefix) => write!(f, "/{prefix}"),
            None => Ok(()),
        }
    }
}
