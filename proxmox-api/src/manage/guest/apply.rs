//! Changes of a configuration, and the pending ones among them.

use std::fmt;
use std::time::Duration;

use super::{Guest, Kind, PowerState};
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::error::work::{Left, Subject, UnfinishedError};
use crate::pve::lxc::LxcConfig;
use crate::pve::qemu::QemuConfig;
use crate::request::Call;
use crate::value::BoxFuture;
use crate::value::encode::ParamValue;
use crate::value::serialize::{record_serde, variant_serde};

/// A setting that is configured and takes effect at the guest's next start; see [`Guest::pending`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingChange {
    /// The setting's name.
    pub key: String,
    /// Its present value; `None` if there is none.
    pub now: Option<String>,
    /// Its value from the next start on; `None` if it is removed.
    pub then: Option<String>,
}

record_serde!(PendingChange { key, now, then });

/// The result of a change; see [`Guest::apply_qemu`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The settings that were written; empty if all were as wanted already.
    pub written: Vec<String>,
    /// Changes that take effect at the next start, including those of others.
    pub pending: Vec<PendingChange>,
    /// Whether the cloud-init drive of a running machine was written again.
    pub cloud_init: bool,
    /// Whether the guest was rebooted.
    pub rebooted: bool,
}

record_serde!(Applied {
    written,
    pending,
    cloud_init,
    rebooted,
});

impl Applied {
    /// Whether some settings need a reboot to take effect.
    #[must_use]
    pub fn needs_reboot(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// The progress of a change; see [`Apply::on_step`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyStep {
    /// These settings were written.
    Written(Vec<String>),
    /// The cloud-init drive was written again.
    CloudInit,
    /// These settings take effect at the next start.
    Pending(Vec<PendingChange>),
    /// The guest is being rebooted.
    Rebooting,
    /// The guest was rebooted.
    Rebooted,
}

variant_serde!(ApplyStep {
    Written(names) = "written",
    CloudInit = "cloud_init",
    Pending(changes) = "pending",
    Rebooting = "rebooting",
    Rebooted = "rebooted",
});

/// Changes a configuration and makes it take effect; made by [`Guest::apply_qemu`] and
/// [`Guest::apply_lxc`], started by awaiting it.
#[must_use = "does nothing unless awaited"]
pub struct Apply<'a> {
    guest: Guest,
    change: ConfigChange<'a>,
    reboot: Option<Duration>,
    listener: Option<Listener<'a>>,
}

type Listener<'a> = Box<dyn FnMut(&ApplyStep) + Send + 'a>;

enum ConfigChange<'a> {
    Qemu(Box<dyn FnMut(&mut QemuConfig) + Send + 'a>),
    Lxc(Box<dyn FnMut(&mut LxcConfig) + Send + 'a>),
}

impl Guest {
    /// The settings that take effect at the guest's next start: [`GET
    /// /nodes/{node}/qemu/{vmid}/pending`](crate::pve::qemu::QemuVmidPendingPath::get) or [`GET
    /// /nodes/{node}/lxc/{vmid}/pending`](crate::pve::lxc::LxcVmidPendingPath::get). Empty for a
    /// stopped guest.
    ///
    /// # Errors
    /// See [`Guest`].
    pub async fn pending(&self) -> Result<Vec<PendingChange>, Error> {
        let rows = self
            .call(None, &|location| match location.kind {
                Kind::Qemu => self.qemu_at(location).pending().get().into_future(),
                Kind::Lxc => self.lxc_at(location).pending().get().into_future(),
            })
            .await?;
        Ok((rows.into_iter())
            .filter(|row| row.pending.is_some() || row.delete.is_some_and(|how| how != 0))
            .map(|row| PendingChange {
                key: row.key,
                now: row.value,
                then: row.pending,
            })
            .collect())
    }

    /// Changes a virtual machine's configuration as [`Guest::update_qemu`] does, and reports which
    /// changes are in effect and which are pending. If cloud-init settings of a running machine
    /// changed, its drive is written again. [`Apply::reboot_if_needed`] makes the pending ones take
    /// effect, too. Carried out again, it finds the configuration as wanted, and continues with the
    /// rest.
    ///
    /// Dropping the future in the middle leaves all settings of one change written, or none.
    /// Pending changes stay pending ([`Guest::pending`]), and a reboot that has begun continues on
    /// the server. A failure after the writing is [`Error::Unfinished`], which names the settings.
    ///
    /// ```no_run
    /// # async fn example(pve: proxmox_api::Client) -> Result<(), proxmox_api::Error> {
    /// use std::time::Duration;
    ///
    /// let applied = pve
    ///     .guest(101)
    ///     .apply_qemu(|config| config.cores = Some(4))
    ///     .reboot_if_needed(Duration::from_secs(120))
    ///     .await?;
    /// println!("{:?} written, rebooted: {}", applied.written, applied.rebooted);
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_qemu<'a>(&self, change: impl FnMut(&mut QemuConfig) + Send + 'a) -> Apply<'a> {
        self.apply(ConfigChange::Qemu(Box::new(change)))
    }

    /// Changes a container's configuration, as [`Guest::apply_qemu`] does for a virtual machine.
    pub fn apply_lxc<'a>(&self, change: impl FnMut(&mut LxcConfig) + Send + 'a) -> Apply<'a> {
        self.apply(ConfigChange::Lxc(Box::new(change)))
    }

    fn apply<'a>(&self, change: ConfigChange<'a>) -> Apply<'a> {
        Apply {
            guest: self.clone(),
            change,
            reboot: None,
            listener: None,
        }
    }
}

impl<'a> Apply<'a> {
    /// Reboots the guest if changes are pending. Its system gets this time to shut down. A stopped
    /// guest stays stopped: it has no pending changes.
    pub fn reboot_if_needed(mut self, timeout: Duration) -> Self {
        self.reboot = Some(timeout);
        self
    }

    /// Calls `listener` with each step when it is done.
    pub fn on_step(mut self, listener: impl FnMut(&ApplyStep) + Send + 'a) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    async fn run(mut self) -> Result<Applied, Error> {
        let mut applied = Applied {
            written: self.write().await?,
            ..Applied::default()
        };
        match self.bring_into_effect(&mut applied).await {
            Ok(()) => Ok(applied),
            Err(error) if applied.written.is_empty() => Err(error),
            Err(error) => {
                let written = applied.written.join(", ");
                let left = Left {
                    subject: Subject::Guest(self.guest.vmid()),
                    state: match applied.pending.is_empty() {
                        true => format!("was changed: {written}"),
                        false => format!("was changed; the changes wait for a reboot: {written}"),
                    },
                    task: None,
                };
                Err(Error::Unfinished(UnfinishedError::new(error, vec![left])))
            }
        }
    }

    async fn bring_into_effect(&mut self, applied: &mut Applied) -> Result<(), Error> {
        let guest = self.guest.clone();
        if !applied.written.is_empty() {
            self.tell(&ApplyStep::Written(applied.written.clone()));
        }
        let running = guest.status().await?.state == PowerState::Running;
        if running && applied.written.iter().any(|key| is_cloud_init(key)) {
            match guest.regenerate_cloud_init().await {
                Ok(()) => {
                    applied.cloud_init = true;
                    self.tell(&ApplyStep::CloudInit);
                }
                // The server does it at the next start.
                Err(error) if error.kind() == Some(ErrorKind::UnknownMethod) => {}
                Err(error) => return Err(error),
            }
        }
        applied.pending = guest.pending().await?;
        if applied.pending.is_empty() {
            return Ok(());
        }
        self.tell(&ApplyStep::Pending(applied.pending.clone()));
        let Some(timeout) = self.reboot.filter(|_| running) else {
            return Ok(());
        };
        self.tell(&ApplyStep::Rebooting);
        guest.reboot().timeout(timeout).await?.wait().await?;
        applied.rebooted = true;
        self.tell(&ApplyStep::Rebooted);
        applied.pending = guest.pending().await?;
        Ok(())
    }

    /// Writes the differences, and returns the names of those settings.
    async fn write(&mut self) -> Result<Vec<String>, Error> {
        let guest = self.guest.clone();
        let mut written = Vec::new();
        match &mut self.change {
            ConfigChange::Qemu(change) => {
                (guest.put_qemu(&mut |config, request| {
                    let mut desired = config.clone();
                    change(&mut desired);
                    let request = request.changes(&config.diff(&desired));
                    written = names(&request.0.call);
                    Ok(request)
                }))
                .await?;
            }
            ConfigChange::Lxc(change) => {
                (guest.put_lxc(&mut |config, request| {
                    let mut desired = config.clone();
                    change(&mut desired);
                    let request = request.changes(&config.diff(&desired));
                    written = names(&request.0.call);
                    Ok(request)
                }))
                .await?;
            }
        }
        Ok(written)
    }

    fn tell(&mut self, step: &ApplyStep) {
        if let Some(listener) = &mut self.listener {
            listener(step);
        }
    }
}

impl<'a> IntoFuture for Apply<'a> {
    type Output = Result<Applied, Error>;
    type IntoFuture = BoxFuture<'a, Result<Applied, Error>>;

    #[inline]
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Apply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apply")
            .field("guest", &self.guest)
            .field("reboot", &self.reboot)
            .finish_non_exhaustive()
    }
}

/// The settings that a call writes or removes.
fn names(call: &Call) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in call.params().iter() {
        match (key, value) {
            ("digest", _) => {}
            ("delete", ParamValue::One(keys)) => {
                names.extend(keys.split(',').map(str::to_owned));
            }
            ("delete", ParamValue::Many(keys)) => names.extend(keys.iter().cloned()),
            _ => names.push(key.to_owned()),
        }
    }
    names.sort();
    names
}

/// Whether a setting belongs to cloud-init.
fn is_cloud_init(key: &str) -> bool {
    let known = [
        "cicustom",
        "cipassword",
        "citype",
        "ciupgrade",
        "ciuser",
        "nameserver",
        "searchdomain",
        "sshkeys",
    ];
    known.contains(&key) || key.starts_with("ipconfig")
}
