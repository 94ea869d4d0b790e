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

mod whole;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Value;
use crate::bounds::{Bound, Exceeded};
use crate::client::Reply;
use crate::client::request::exchange;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::manage::guest::{
    Guest, GuestErrorKind, GuestLocation, Kind, impl_into_future, unsigned,
};
use crate::pve::qemu::QemuVmidPath;
use crate::request::{ApiRequest, Request};
use crate::task::PollSchedule;
use crate::value::BoxFuture;
use crate::value::decode::{DecodeError, Extra, read_any};
use crate::value::serialize::{Field, Fields, record, record_serde};
use crate::value::text::shortened;

use whole::{TooMuch, WholeFile};

/// The maximum length of one write, in characters of Base64.
const WRITE_LIMIT: usize = 61_440;
/// Bytes that become [`WRITE_LIMIT`] characters.
const WRITE_CHUNK: usize = WRITE_LIMIT / 4 * 3;
/// Bytes per read. Larger reads make the agent hold more in memory.
const READ_CHUNK: i64 = 4 * 1024 * 1024;
/// The maximum that releases without partial reads return of a file.
const READ_AT_ONCE: usize = 16 * 1024 * 1024;
/// The memory limit for an answer that holds a refusal of the agent.
const SAID: usize = 8 * 1024 * 1024;

/// The bytes that one call read, and whether the file ended; or the refusal of the agent.
type Part = Result<(bool, Vec<u8>), GuestErrorKind>;

/// The guest agent of a virtual machine; made by [`Guest::agent`].
///
/// If it is not enabled, not installed, or the machine is off, calls fail with
/// [`ErrorKind::AgentNotRunning`] or [`ErrorKind::NotRunning`].
#[derive(Clone, Debug)]
pub struct Agent {
    guest: Guest,
}

impl Guest {
    /// The guest agent. Containers have none; every call then fails with
    /// [`GuestErrorKind::WrongKind`].
    #[must_use]
    pub fn agent(&self) -> Agent {
        Agent {
            guest: self.clone(),
        }
    }

    /// The network interfaces as the guest's own system sees them: from the guest agent of a
    /// virtual machine, from the node for a container.
    ///
    /// # Errors
    /// See [`Agent`] and [`Guest`].
    pub async fn interfaces(&self) -> Result<Vec<Interface>, Error> {
        if self.place().await?.kind == Kind::Qemu {
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
        let ask = |place: &GuestLocation| self.lxc_at(place).interfaces().get().into_future();
        let from = self.place().await?;
        let mut rows = self.call(Some(Kind::Lxc), &ask).await?;
        if rows.is_none() {
            // A node gives the same answer for a stopped container and for one that it does not
            // have.
            self.status().await?;
            if self.place().await? != from {
                rows = self.call(Some(Kind::Lxc), &ask).await?;
            }
        }
        Ok((rows.unwrap_or_default().into_iter())
            .map(|row| {
                let given = row.ip_addresses.unwrap_or_default();
                let mut addresses: Vec<Address> = (given.iter())
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

    /// Calls the guest agent of the machine. A refusal of the agent is an error, although the
    /// server answers with status 200.
    pub(crate) fn ask_agent<'a, T: 'static>(
        &'a self,
        request: impl Fn(&QemuVmidPath) -> Request<T> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            let send = |place: &GuestLocation| -> BoxFuture<'static, Result<Result<T, GuestErrorKind>, Error>> {
                let Request {
                    client,
                    call,
                    decode,
                } = request(&self.qemu_at(place));
                let vmid = self.vmid();
                Box::pin(async move {
                    let (client, name, reply) = exchange(client, call).await?;
                    let clean =
                        |text: &str| client.without_secrets(&reply.secrets, text.to_owned());
                    if let Some(refusal) = refusal(vmid, &reply.body, clean) {
                        return Ok(Err(refusal));
                    }
                    let answer = decode(&client, &reply, &mut Extra::new());
                    answer
                        .map(Ok)
                        .map_err(|error| client.undecodable(name, &reply.secrets, error))
                })
            };
            Ok(self.call(Some(Kind::Qemu), &send).await??)
        })
    }

    #[inline]
    fn timed_out(&self, waiting_for: &str, after: Duration, last: Option<&Error>) -> Error {
        let late = GuestErrorKind::TimedOut {
            vmid: self.vmid(),
            waiting_for: waiting_for.to_owned(),
            after,
            last: last.map(ToString::to_string),
        };
        late.into()
    }
}

const POLL: Duration = Duration::from_secs(2);

/// Whether a failure is temporary while a machine starts up.
#[inline]
fn passes(error: &Error) -> bool {
    match error {
        // An unknown or disabled command stays refused; other refusals may be temporary.
        Error::Guest(refused) => match refused.reason() {
            GuestErrorKind::AgentRefused { class, desc, .. } => {
                class != "CommandNotFound"
                    && class != "CommandDisabled"
                    && !desc.contains("disabled")
            }
            _ => false,
        },
        _ => {
            error.is_retryable()
                || is_silent(error)
                || matches!(
                    error.kind(),
                    Some(
                        ErrorKind::AgentNotRunning
                            | ErrorKind::AgentTimeout
                            | ErrorKind::LockTimeout
                    )
                )
        }
    }
}

/// Whether the server's wait for the agent timed out.
fn is_silent(error: &Error) -> bool {
    let Error::Api(error) = error else {
        return false;
    };
    let text = error.message().to_ascii_lowercase();
    let agent = text.contains("command 'guest-") || text.contains("qga socket");
    agent && (text.contains("timeout") || text.contains("timed out"))
}

/// The refusal of the agent, if the answer holds one. It may quote the request.
fn refusal(vmid: u32, body: &[u8], clean: impl Fn(&str) -> String) -> Option<GuestErrorKind> {
    // Most answers are long, and hold no refusal.
    body.windows(7).find(|part| part == b"\"error\"")?;
    let answer = read_any(body, SAID)?;
    let data = answer.get("data")?;
    let error = [data.get("result"), Some(data)]
        .into_iter()
        .flatten()
        .find_map(|at| at.get("error"))?;
    let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    error.as_object()?;
    Some(GuestErrorKind::AgentRefused {
        vmid,
        class: shortened(clean(part("class"))),
        desc: shortened(clean(part("desc"))),
    })
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
                (interface.mac.as_deref()).is_some_and(|own| own.eq_ignore_ascii_case(mac))
            })
        };
        let chosen = card.is_some() || self.mac.is_some() || self.name.is_some();
        same(card)
            && same(self.mac.as_deref())
            && (self.name.as_ref()).is_none_or(|name| *name == interface.name)
            && (chosen || self.all || !interface.is_internal())
    }

    fn wants_address(&self, ip: &IpAddr) -> bool {
        let family = if ip.is_ipv4() { self.v4 } else { self.v6 };
        family && (self.all || is_reachable(ip))
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

impl Guest {
    async fn mac_of_card(&self, index: u8) -> Result<String, Error> {
        let mac = match self.place().await?.kind {
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
        let numbered = [
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
        (numbered.iter()).any(|start| name.strip_prefix(start).is_some_and(digits))
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

/// A file system inside a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSystem {
    /// Where it is mounted, as `/` or `C:\`.
    pub mount_point: String,
    /// Its type, as `ext4`.
    pub file_system: String,
    /// Its size in bytes; `None` if the agent does not report it.
    pub total: Option<u64>,
    /// Bytes in use; `None` if the agent does not report them.
    pub used: Option<u64>,
}

record_serde!(FileSystem {
    mount_point,
    file_system,
    total,
    used,
});

impl Agent {
    /// Checks that the agent answers: [`POST
    /// /nodes/{node}/qemu/{vmid}/agent/ping`](crate::pve::qemu::QemuVmidAgentPingPath::post).
    ///
    /// # Errors
    /// See [`Agent`] and [`Guest`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.guest
            .ask_agent(|vm| vm.agent().ping().post().into_request())
            .await
            .map(drop)
    }

    /// Waits until the agent answers, for example after a start.
    ///
    /// # Errors
    /// [`GuestErrorKind::TimedOut`] if it does not answer within the time; at once if the machine
    /// is off or has no agent configured, and with [`GuestErrorKind::AgentRefused`] if it refuses
    /// the call; see [`Guest`].
    pub async fn wait_until_up(&self, timeout: Duration) -> Result<(), Error> {
        let mut schedule = PollSchedule::new(Some(timeout), POLL, POLL);
        loop {
            let last = match self.ping().await {
                Ok(()) => return Ok(()),
                Err(error) if passes(&error) && !is_unconfigured(&error) => error,
                Err(error) => return Err(error),
            };
            if !schedule.again().await {
                let waiting_for = "answer from the guest agent";
                return Err((self.guest).timed_out(waiting_for, timeout, Some(&last)));
            }
        }
    }

    /// Runs a program in the machine: its name, then its arguments, without a shell. [`POST
    /// /nodes/{node}/qemu/{vmid}/agent/exec`](crate::pve::qemu::QemuVmidAgentExecPost), then `GET
    /// …/agent/exec-status` until it ends.
    pub fn exec(&self, command: impl IntoIterator<Item = impl Into<String>>) -> Exec {
        Exec {
            guest: self.guest.clone(),
            command: command.into_iter().map(Into::into).collect(),
            input: None,
            timeout: None,
        }
    }

    /// Reads a whole file: [`GET /nodes/{node}/qemu/{vmid}/agent/file-read`](crate::pve::qemu::QemuVmidAgentFileReadGet), piece by piece.
    ///
    /// # Errors
    /// [`Error::Exceeded`] if it is larger than [`Bounds::file`](crate::bounds::Bounds::file), 32
    /// MiB by default; [`GuestErrorKind::Agent`] if it is larger than 16 MiB and the release is
    /// older than 9.1, which cannot read beyond that; see [`Agent`] and [`Guest`].
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let bounds = *self.guest.client().bounds();
        let most = bounds.file;
        let too_long = Exceeded::new(Bound::File, most);
        for _ in 0..bounds.pages {
            let offset = i64::try_from(content.len()).unwrap_or(i64::MAX);
            let piece = self
                .guest
                .ask_agent(|vm| {
                    let request = vm.agent().file_read().get(path);
                    let request = request.decode(false).offset(offset).count(READ_CHUNK);
                    request.into_request()
                })
                .await;
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) if offset == 0 && knows_no_pieces(&error) => {
                    return self.read_file_at_once(path, most).await;
                }
                Err(error) => return Err(error),
            };
            let bytes = decode_pieces(&piece.content)
                .ok_or_else(|| self.unusable("the content from the server is not Base64"))?;
            if bytes.len() > most - content.len() {
                return Err(self.too_much(path, too_long).await);
            }
            content.extend_from_slice(&bytes);
            if piece.truncated != Some(true) || bytes.is_empty() {
                return Ok(content);
            }
        }
        let pieces = Exceeded::new(Bound::Pages, bounds.pages);
        Err(self.too_much(path, pieces).await)
    }

    /// Reads a file from a release without partial reads.
    async fn read_file_at_once(&self, path: &str, most: usize) -> Result<Vec<u8>, Error> {
        let guest = &self.guest;
        let send = |place: &GuestLocation| -> BoxFuture<'static, Result<Part, Error>> {
            let request = guest.qemu_at(place).agent().file_read().get(path);
            let request = request.into_request();
            let decode = request.decode;
            let vmid = guest.vmid();
            // The agent never returns more, whatever the client's limit.
            let most = most.min(READ_AT_ONCE);
            let mut whole = WholeFile::new(most);
            Box::pin(async move {
                let mut answer = request.stream().await?;
                let limit = answer.time_limit();
                while let Some(chunk) = answer.chunk_within(limit).await? {
                    whole.take(&chunk).map_err(|much| match much {
                        TooMuch::File => answer.too_much(Exceeded::new(Bound::File, most)),
                        TooMuch::Beside => answer.unreadable(DecodeError::new(
                            "data",
                            "the answer has more than the file",
                        )),
                    })?;
                }
                let (rest, content) = whole.end();
                let (client, name, secrets) = answer.into_parts();
                let clean = |text: &str| client.without_secrets(&secrets, text.to_owned());
                if let Some(refusal) = refusal(vmid, &rest, clean) {
                    return Ok(Err(refusal));
                }
                let reply = Reply::of_body(rest.into());
                let read = decode(&client, &reply, &mut Extra::new())
                    .map_err(|error| client.undecodable(name, &secrets, error))?;
                Ok(Ok((read.truncated == Some(true), content)))
            })
        };
        let (truncated, content) = guest.call(Some(Kind::Qemu), &send).await??;
        match truncated {
            true => Err(self.unusable("the file is larger than 16 MiB, the limit of this release")),
            false => Ok(content),
        }
    }

    /// The error for a file beyond a limit of the client.
    async fn too_much(&self, path: &str, exceeded: Exceeded) -> Error {
        let place = match self.guest.place().await {
            Ok(place) => place,
            Err(error) => return error,
        };
        let request = self.guest.qemu_at(&place).agent().file_read().get(path);
        let name = self.guest.client().call_id(&request.into_request().call);
        Error::exceeded(&name, exceeded)
    }

    /// Writes a whole file, replacing an existing one: [`POST
    /// /nodes/{node}/qemu/{vmid}/agent/file-write`](crate::pve::qemu::QemuVmidAgentFileWritePost).
    ///
    /// One call takes 46,080 bytes. A longer file is first collected in `path.partial` and renamed
    /// at the end. That needs `sh`, `base64` and `mv` in the machine, and the privilege to run
    /// programs.
    ///
    /// # Errors
    /// [`GuestErrorKind::Agent`] if one of the programs fails; see [`Agent`] and [`Guest`].
    pub async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        if content.len() <= WRITE_CHUNK {
            return self.write_once(path, content).await;
        }
        let partial = format!("{path}.partial");
        let written = self.write_partial(&partial, path, content).await;
        if written.is_err() {
            // The first error is the one to report.
            let _ = self.exec(["rm", "-f", "--", &partial]).await;
        }
        written
    }

    async fn write_partial(&self, partial: &str, path: &str, content: &[u8]) -> Result<(), Error> {
        let mut pieces = content.chunks(WRITE_CHUNK);
        self.write_once(partial, pieces.next().unwrap_or_default())
            .await?;
        for piece in pieces {
            let append = self.exec(["sh", "-c", r#"base64 -d >> "$1""#, "sh", partial]);
            self.must_work(append.input(STANDARD.encode(piece)).await?)?;
        }
        self.must_work(self.exec(["mv", "-f", "--", partial, path]).await?)
    }

    async fn write_once(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let content = STANDARD.encode(content);
        self.guest
            .ask_agent(|vm| {
                let request = vm.agent().file_write().post();
                let request = request.file(path).content(content.as_str());
                request.encode(false).into_request()
            })
            .await
            .map(drop)
    }

    #[inline]
    fn must_work(&self, output: Output) -> Result<(), Error> {
        if output.success() {
            return Ok(());
        }
        let said = output.stderr_text();
        let said: String = said.trim().chars().take(200).collect();
        Err(self.unusable(&format!(
            "writing the file ended with {}: {said}",
            output.end()
        )))
    }

    /// The machine's file systems: [`GET /nodes/{node}/qemu/{vmid}/agent/get-fsinfo`](crate::pve::qemu::QemuVmidAgentGetFsinfoPath::get).
    ///
    /// # Errors
    /// See [`Agent`] and [`Guest`].
    pub async fn file_systems(&self) -> Result<Vec<FileSystem>, Error> {
        let answer = self
            .guest
            .ask_agent(|vm| vm.agent().get_fsinfo().get().into_request())
            .await?;
        Ok((answer.result.unwrap_or_default().into_iter())
            .map(|row| FileSystem {
                mount_point: row.mountpoint.unwrap_or_default(),
                file_system: row.type_.unwrap_or_default(),
                total: row.total_bytes.map(|bytes| unsigned(Some(bytes))),
                used: row.used_bytes.map(|bytes| unsigned(Some(bytes))),
            })
            .collect())
    }

    #[inline]
    fn unusable(&self, problem: &str) -> Error {
        let unusable = GuestErrorKind::Agent {
            vmid: self.guest.vmid(),
            problem: problem.to_owned(),
        };
        unusable.into()
    }
}

/// Waiting does not help if the agent is not configured.
#[inline]
fn is_unconfigured(error: &Error) -> bool {
    match error {
        Error::Api(error) => error
            .message()
            .to_ascii_lowercase()
            .contains("no qemu guest agent configured"),
        _ => false,
    }
}

/// Whether the server does not know the parameters for partial reads.
#[inline]
fn knows_no_pieces(error: &Error) -> bool {
    match error {
        Error::Api(error) => ["decode", "offset", "count"]
            .iter()
            .any(|name| error.errors().contains_key(*name)),
        _ => false,
    }
}

/// Decodes Base64 that may have padding in the middle: the server asks the agent for 1 MiB at once
/// and concatenates the answers.
#[inline]
fn decode_pieces(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text.trim();
    while !rest.is_empty() {
        let padding = rest.find('=').unwrap_or(rest.len());
        let end = rest.get(padding..)?.find(|c| c != '=');
        let (piece, more) = rest.split_at(end.map_or(rest.len(), |end| padding + end));
        STANDARD.decode_vec(piece, &mut bytes).ok()?;
        rest = more;
    }
    Some(bytes)
}

/// The bytes of a text in which the server wrote one character for each byte.
#[inline]
fn bytes_of(text: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

#[inline]
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// A program to run; made by [`Agent::exec`]. Awaiting it waits for its end and returns an
/// [`Output`].
#[derive(Clone)]
#[must_use = "does nothing unless awaited"]
pub struct Exec {
    guest: Guest,
    command: Vec<String>,
    input: Option<String>,
    timeout: Option<Duration>,
}

impl Exec {
    /// The standard input of the program; 65,536 characters at most.
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Stops waiting after this time. The program continues.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<Output, Error> {
        let mut schedule = PollSchedule::new(self.timeout, Duration::from_millis(100), POLL);
        let guest = &self.guest;
        let started = guest
            .ask_agent(|vm| {
                let mut request = vm.agent().exec().post().command(&self.command);
                if let Some(input) = &self.input {
                    request = request.input_data(input);
                }
                request.into_request()
            })
            .await?;
        let mut failures = 0;
        loop {
            let look = guest
                .ask_agent(|vm| vm.agent().exec_status().get(started.pid).into_request())
                .await;
            match look {
                Ok(status) if status.exited => {
                    return Ok(Output {
                        exit_code: status.exitcode,
                        signal: status.signal,
                        stdout: status.out_data.as_deref().map(bytes_of).unwrap_or_default(),
                        stderr: status.err_data.as_deref().map(bytes_of).unwrap_or_default(),
                        truncated: status.out_truncated == Some(true)
                            || status.err_truncated == Some(true),
                    });
                }
                Ok(_) => failures = 0,
                // A failed poll is not a failed program.
                Err(error) if passes(&error) && failures < 5 => failures += 1,
                Err(error) => return Err(error),
            }
            if !schedule.again().await {
                let limit = self.timeout.unwrap_or_default();
                return Err(guest.timed_out("end of the program", limit, None));
            }
        }
    }
}

/// Shows only the program, because arguments and input can hold secrets.
impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("guest", &self.guest)
            .field("program", &self.command.first())
            .finish_non_exhaustive()
    }
}

impl_into_future!(Exec => Output);

/// The result of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// Its exit code; `None` if it was killed.
    pub exit_code: Option<i64>,
    /// The signal, or on Windows the exception, that ended it.
    pub signal: Option<i64>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Whether its output was truncated by the agent.
    pub truncated: bool,
}

/// `stdout` and `stderr` as texts where they are UTF-8, else as lists of bytes.
impl serde::Serialize for Output {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = |bytes: &Vec<u8>| match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from(bytes.as_slice()),
        };
        let (stdout, stderr) = (written(&self.stdout), written(&self.stderr));
        let fields: &[(&str, &dyn Field)] = &[
            ("exit_code", &self.exit_code),
            ("signal", &self.signal),
            ("stdout", &stdout),
            ("stderr", &stderr),
            ("truncated", &self.truncated),
        ];
        record(fields, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Output {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Fields::read(deserializer)?;
        let bytes = |value: Value| match value {
            Value::String(text) => Ok(text.into_bytes()),
            other => serde_json::from_value(other).map_err(serde::de::Error::custom),
        };
        Ok(Self {
            exit_code: fields.take("exit_code")?,
            signal: fields.take("signal")?,
            stdout: bytes(fields.take("stdout")?)?,
            stderr: bytes(fields.take("stderr")?)?,
            truncated: fields.take("truncated")?,
        })
    }
}

impl Output {
    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit_code == Some(0) && self.signal.is_none()
    }

    /// Its standard output as text; bytes that are not UTF-8 are read as Latin-1.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        text_of(&self.stdout)
    }

    /// Its standard error as text; bytes that are not UTF-8 are read as Latin-1.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        text_of(&self.stderr)
    }

    fn end(&self) -> String {
        match (self.exit_code, self.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), None) => format!("exit code {code}"),
            (None, None) => "no exit code".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
