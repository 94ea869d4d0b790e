//! Settings of a simulator before it starts.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::clock::Clock;
use crate::error::Error;
use crate::guest_agent::output::CommandOutput;
use crate::schema::ApiSchema;
use crate::state::access::roles::{Rule, Subject};
use crate::state::access::{Token, User};
use crate::state::cluster::remote::register;
use crate::state::cluster::{Cluster, Node};
use crate::state::config::Config;
use crate::state::guest::{Guest, Kind};
use crate::state::storage::{GIB, Storage, Volume};
use crate::tls::Tls;
use crate::{ROOT_PASSWORD, Simulator, TOKEN_ID, TOKEN_SECRET, accept, calls, snapshot};

#[derive(Clone, Debug)]
struct NewGuest {
    kind: Kind,
    vmid: u32,
    node: String,
    config: Config,
    running: bool,
    files: Vec<(String, Vec<u8>)>,
    commands: Vec<(Vec<String>, CommandOutput)>,
}

/// Settings of a simulator; see [`Simulator::builder`].
#[derive(Clone)]
pub struct Builder {
    release: String,
    listen: SocketAddr,
    nodes: Vec<(String, bool)>,
    storages: Vec<(String, Storage)>,
    users: Vec<(String, User)>,
    rules: Vec<Rule>,
    guests: Vec<NewGuest>,
    web: Vec<(String, Vec<u8>)>,
    cluster: String,
    factor: f64,
    idle: Duration,
    clock: Clock,
    seed: u64,
    state: Option<String>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("release", &self.release)
            .field("listen", &self.listen)
            .field("nodes", &self.nodes)
            .field("users", &self.users)
            .field("time_factor", &self.factor)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        let mut builder = Self {
            release: crate::schema::newest_release().into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            nodes: Vec::new(),
            storages: Vec::new(),
            users: Vec::new(),
            rules: Vec::new(),
            guests: Vec::new(),
            web: Vec::new(),
            cluster: "simulated".into(),
            factor: 0.05,
            idle: Duration::from_secs(5),
            clock: Clock::system(),
            seed: 1,
            state: None,
        };
        builder = builder
            .user("root@pam", ROOT_PASSWORD)
            .token(TOKEN_ID, TOKEN_SECRET)
            .storage(
                "local",
                "dir",
                &["iso", "vztmpl", "backup", "import", "snippets"],
                100 * GIB,
            )
            .storage("local-lvm", "lvmthin", &["images", "rootdir"], 500 * GIB);
        builder
    }
}

impl Builder {
    /// The release to simulate, one of [`releases`](crate::schema::releases); the newest by
    /// default.
    #[must_use]
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = release.into();
        self
    }

    /// Adds a node. The first one is the node that clients connect to; the default is `pve1`.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.nodes.push((name.into(), true));
        self
    }

    /// Adds a node that belongs to the cluster but cannot be reached.
    #[must_use]
    pub fn offline_node(mut self, name: impl Into<String>) -> Self {
        self.nodes.push((name.into(), false));
        self
    }

    /// Adds a storage on every node, or replaces the one of that name. `local` (a directory with
    /// ISO images, templates and backups) and `local-lvm` (disks) always exist.
    #[must_use]
    pub fn storage(
        mut self,
        id: impl Into<String>,
        kind: &str,
        content: &[&str],
        bytes: u64,
    ) -> Self {
        let id = id.into();
        let shared = matches!(kind, "nfs" | "cifs" | "rbd" | "cephfs" | "iscsi" | "pbs");
        let path = match (kind, id.as_str()) {
            ("dir", "local") => Some("/var/lib/vz".to_owned()),
            ("dir" | "nfs" | "cifs" | "cephfs" | "btrfs", id) => Some(format!("/mnt/pve/{id}")),
            _ => None,
        };
        self.storages.push((
            id,
            Storage {
                kind: kind.to_owned(),
                content: content.iter().map(|c| (*c).to_owned()).collect(),
                shared,
                total: bytes,
                path,
                disabled: false,
                settings: std::collections::BTreeMap::new(),
            },
        ));
        self
    }

    /// Adds a stopped virtual machine; the settings are those of a create call (`("scsi0", "local-lvm:8")` makes a disk).
    #[must_use]
    pub fn qemu(self, vmid: u32, node: &str, settings: &[(&str, &str)]) -> Self {
        self.guest(Kind::Qemu, vmid, node, settings)
    }

    /// Adds a stopped container; the settings are those of a create call (`("rootfs", "local-lvm:8")`).
    #[must_use]
    pub fn lxc(self, vmid: u32, node: &str, settings: &[(&str, &str)]) -> Self {
        self.guest(Kind::Lxc, vmid, node, settings)
    }

    fn guest(mut self, kind: Kind, vmid: u32, node: &str, settings: &[(&str, &str)]) -> Self {
        self.guests.push(NewGuest {
            kind,
            vmid,
            node: node.to_owned(),
            config: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            running: false,
            files: Vec::new(),
            commands: Vec::new(),
        });
        self
    }

    /// Adds this many guests, one in four a container and half of them running, distributed over
    /// the nodes added before, with the lowest free numbers.
    #[must_use]
    pub fn many_guests(mut self, guests: u32) -> Self {
        let nodes: Vec<String> = match self.nodes.is_empty() {
            true => vec!["pve1".into()],
            false => self.nodes.iter().map(|(name, _)| name.clone()).collect(),
        };
        let taken: std::collections::BTreeSet<u32> = self.guests.iter().map(|g| g.vmid).collect();
        let free = (100..).filter(|vmid| !taken.contains(vmid));
        let numbers = usize::try_from(guests).unwrap_or(usize::MAX);
        for (number, vmid) in free.take(numbers).enumerate() {
            let node = &nodes[number % nodes.len()];
            let name = format!("guest-{vmid}");
            self = if number % 4 == 3 {
                let disk = ("rootfs", "local-lvm:8");
                let net = ("net0", "name=eth0,bridge=vmbr0,ip=dhcp");
                self.lxc(
                    vmid,
                    node,
                    &[("hostname", &name), ("memory", "512"), disk, net],
                )
            } else {
                let disk = ("scsi0", "local-lvm:32");
                let net = ("net0", "virtio,bridge=vmbr0");
                self.qemu(
                    vmid,
                    node,
                    &[
                        ("name", &name),
                        ("memory", "2048"),
                        ("cores", "2"),
                        ("agent", "1"),
                        disk,
                        net,
                    ],
                )
            };
            if number % 2 == 0
                && let Some(guest) = self.guests.last_mut()
            {
                guest.running = true;
            }
        }
        self
    }

    /// Makes a file available for download by nodes; its checksum is that of these bytes. A disk
    /// imported from a qcow2 image has the size in the image's header.
    #[must_use]
    pub fn web_file(mut self, url: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.web.push((url.into(), content.into()));
        self
    }

    /// Adds an OCI image to the registry from which nodes pull, as `docker.io/library/nginx:1.29`.
    #[must_use]
    pub fn oci_image(self, reference: &str) -> Self {
        self.web_file(format!("oci:{reference}"), vec![0; 1 << 16])
    }

    /// Starts a guest added before.
    #[must_use]
    pub fn running(mut self, vmid: u32) -> Self {
        for guest in self.guests.iter_mut().filter(|guest| guest.vmid == vmid) {
            guest.running = true;
        }
        self
    }

    /// Adds a file to a virtual machine added before, for its guest agent to read.
    #[must_use]
    pub fn guest_file(mut self, vmid: u32, path: &str, content: impl Into<Vec<u8>>) -> Self {
        if let Some(guest) = self.guests.iter_mut().find(|guest| guest.vmid == vmid) {
            guest.files.push((path.to_owned(), content.into()));
        }
        self
    }

    /// Sets the result of a program in a virtual machine added before; see
    /// [`GuestAgent::command`](crate::agent_control::GuestAgent::command).
    #[must_use]
    pub fn guest_command(mut self, vmid: u32, words: &[&str], output: CommandOutput) -> Self {
        if let Some(guest) = self.guests.iter_mut().find(|guest| guest.vmid == vmid) {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            guest.commands.push((words, output));
        }
        self
    }

    /// Gives a user, or a token named `user@realm!name`, a role at a path and below it. Users
    /// without a rule are administrators.
    #[must_use]
    pub fn acl(mut self, path: &str, ugid: &str, role: &str) -> Self {
        self.rules.push(Rule {
            path: path.to_owned(),
            subject: if ugid.contains('!') {
                Subject::Token
            } else {
                Subject::User
            },
            ugid: ugid.to_owned(),
            role: role.to_owned(),
            propagate: true,
        });
        self
    }

    /// Separates a token's privileges from its user's: without a rule of its own it has none.
    #[must_use]
    pub fn separate_token(mut self, id: &str) -> Self {
        if let Some((userid, name)) = id.split_once('!')
            && let Some(token) = self.edit(userid.to_owned()).tokens.get_mut(name)
        {
            token.privsep = true;
        }
        self
    }

    /// Adds a user with a password, or changes the password of an existing one.
    #[must_use]
    pub fn user(mut self, userid: impl Into<String>, password: impl Into<String>) -> Self {
        let user = self.edit(userid.into());
        user.password = password.into();
        self
    }

    /// Disables the login of a user.
    #[must_use]
    pub fn disabled_user(mut self, userid: impl Into<String>) -> Self {
        self.edit(userid.into()).enabled = false;
        self
    }

    /// Requires a second factor at the login of a user: the challenge is answered by `totp:` and
    /// this code.
    #[must_use]
    pub fn second_factor(mut self, userid: impl Into<String>, code: impl Into<String>) -> Self {
        self.edit(userid.into()).totp = Some(code.into());
        self
    }

    /// Adds an API token; `id` is `user@realm!name`.
    #[must_use]
    pub fn token(mut self, id: &str, secret: impl Into<String>) -> Self {
        if let Some((userid, name)) = id.split_once('!') {
            self.edit(userid.to_owned()).tokens.insert(
                name.to_owned(),
                Token {
                    secret: secret.into(),
                    ..Token::default()
                },
            );
        }
        self
    }

    fn edit(&mut self, userid: String) -> &mut User {
        let at = self
            .users
            .iter()
            .position(|(id, _)| *id == userid)
            .unwrap_or_else(|| {
                let user = User {
                    enabled: true,
                    ..User::default()
                };
                self.users.push((userid, user));
                self.users.len() - 1
            });
        &mut self.users[at].1
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// The factor for simulated durations: 1 is as long as on a real server, 0 is no time. It
    /// applies to tasks and to the three seconds before a 401. The default is 0.05.
    #[must_use]
    pub fn time_factor(mut self, factor: f64) -> Self {
        self.factor = if factor.is_finite() {
            factor.max(0.0)
        } else {
            0.0
        };
        self
    }

    /// The time after which an idle connection is closed; five seconds by default, as on the real
    /// server.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = timeout;
        self
    }

    /// The clock for the age of tickets and the progress of tasks.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The seed of MAC addresses and UUIDs.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts from a state of [`Simulator::snapshot`], instead of the nodes, storages, guests and
    /// users set here. Its times are moved, so that their distance from now stays the same.
    #[must_use]
    pub fn restore(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Address to listen on; by default a free port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// The release is unknown, its schema cannot be read, the settings of a guest or the state are
    /// invalid, or the address is not available.
    pub async fn start(mut self) -> Result<Simulator, Error> {
        if self.nodes.is_empty() {
            self.nodes.push(("pve1".into(), true));
        }
        let schema = ApiSchema::shared(&self.release).map_err(Error::new)?;
        let names: Vec<String> = self
            .nodes
            .iter()
            .map(|(name, _)| name.clone())
            .chain(["localhost", "127.0.0.1", "::1"].map(str::to_owned))
            .chain([self.listen.ip().to_string()])
            .collect();
        let tls =
            Tls::generate(&names).map_err(|error| Error::new(format!("certificate: {error}")))?;
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|error| Error::new(format!("listen on {}: {error}", self.listen)))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(format!("listen on {}: {error}", self.listen)))?;

        let spice = TcpListener::bind(SocketAddr::new(address.ip(), 0))
            .await
            .map_err(|error| Error::new(format!("listen for viewers: {error}")))?;
        let spice_address = spice
            .local_addr()
            .map_err(|error| Error::new(format!("listen for viewers: {error}")))?;

        let mut cluster = self.build_cluster(Arc::clone(&schema))?;
        cluster.spice_port = spice_address.port();
        cluster.ca_pem.clone_from(&tls.ca_pem);
        let app = Arc::new(App::new(schema, cluster, self.clock, self.idle));
        let peer = Arc::downgrade(&app);
        register(address.port(), peer, &tls.fingerprint);
        let (stop, stopped) = watch::channel(());
        let acceptor = TlsAcceptor::from(tls.config);
        let viewers = accept(spice, None, Arc::clone(&app), stopped.clone());
        let clients = accept(listener, Some(acceptor), Arc::clone(&app), stopped);
        let server = tokio::spawn(async move {
            tokio::join!(clients, viewers);
        });
        Ok(Simulator {
            address,
            spice_address,
            fingerprint: tls.fingerprint,
            ca_pem: tls.ca_pem,
            release: self.release,
            app,
            _stop: stop,
            server,
            runtime: None,
        })
    }

    /// Starts the server on threads of its own, for programs without an asynchronous runtime.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`], or no thread can be started.
    ///
    /// # Panics
    ///
    /// In asynchronous code; use [`Builder::start`] there.
    pub fn start_blocking(self) -> Result<Simulator, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Error::new(format!("threads: {error}")))?;
        let mut simulator = runtime.block_on(self.start())?;
        simulator.runtime = Some(runtime);
        Ok(simulator)
    }

    fn build_cluster(&mut self, schema: Arc<ApiSchema>) -> Result<Cluster, Error> {
        let now = self.clock.now();
        let mut cluster = Cluster::new(schema, now, self.factor, self.seed);
        cluster.name.clone_from(&self.cluster);
        for (userid, user) in self.users.drain(..) {
            if userid != "root@pam" && !self.rules.iter().any(|rule| rule.ugid == userid) {
                self.rules.push(Rule {
                    path: "/".into(),
                    subject: Subject::User,
                    ugid: userid.clone(),
                    role: "Administrator".into(),
                    propagate: true,
                });
            }
            cluster.access.users.insert(userid, user);
        }
        cluster.access.rules.append(&mut self.rules);
        cluster.storages.extend(self.storages.drain(..));
        for (name, online) in self.nodes.drain(..) {
            for (volid, content, format, size) in [
                ("local:iso/debian-13.iso", "iso", "iso", 790 << 20),
                (
                    "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst",
                    "vztmpl",
                    "tzst",
                    124 << 20,
                ),
            ] {
                cluster.volumes.insert(
                    (name.clone(), volid.to_owned()),
                    Volume {
                        storage: "local".into(),
                        content: content.into(),
                        format: format.into(),
                        size,
                        vmid: None,
                        created: now.as_secs(),
                        notes: None,
                        protected: false,
                        saved: None,
                    },
                );
            }
            cluster.nodes.push(Node {
                name,
                online,
                cores: 16,
                memory: 64 * GIB,
                booted: now.saturating_sub(Duration::from_secs(86_400)),
            });
        }
        for (url, file) in self.web.drain(..) {
            cluster.web.insert(url, Arc::new(file));
        }
        cluster.configure_basics();
        calls::disks::inventory(&mut cluster);
        for new in self.guests.drain(..) {
            let (config, _) = cluster
                .build(new.kind, &new.node, new.vmid, &new.config)
                .map_err(|error| Error::new(format!("guest {}: {error}", new.vmid)))?;
            let mut guest = Guest::new(new.kind, &new.node, config);
            guest.started = new.running.then_some(now);
            for (path, content) in new.files {
                guest.inside(new.vmid).files.insert(path, Arc::new(content));
            }
            for (words, output) in new.commands {
                guest.inside(new.vmid).script(words, output);
            }
            cluster.guests.insert(new.vmid, guest);
        }
        if let Some(state) = &self.state {
            snapshot::restore(&mut cluster, state)
                .map_err(|error| Error::new(format!("state: {error}")))?;
        }
        Ok(cluster)
    }
}
