//! Starting and stopping.

use std::fmt;
use std::time::Duration;

use super::started::TargetState;
use super::{Guest, GuestLocation, Kind, ParseNameError, PowerState, StartedOperation, start_task};
use crate::error::Error;
use crate::task::Task;
use crate::value::BoxFuture;
use crate::value::serialize::word_serde;

/// An action on a guest's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerAction {
    /// Starts it, or resumes one that was suspended to disk.
    Start,
    /// Stops it at once, like pulling the plug.
    Stop,
    /// Asks its system to shut down.
    Shutdown,
    /// Shuts it down and starts it again, with pending changes of its configuration.
    Reboot,
    /// Presses the reset button of a virtual machine.
    Reset,
    /// Pauses it in memory.
    Suspend,
    /// Writes a virtual machine's memory to disk and switches it off.
    Hibernate,
    /// Resumes a paused guest.
    Resume,
}

word_serde!(PowerAction);

impl PowerAction {
    /// All actions.
    pub const ALL: &'static [Self] = &[
        Self::Start,
        Self::Stop,
        Self::Shutdown,
        Self::Reboot,
        Self::Reset,
        Self::Suspend,
        Self::Hibernate,
        Self::Resume,
    ];

    /// The action's name, as `start`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Shutdown => "shutdown",
            Self::Reboot => "reboot",
            Self::Reset => "reset",
            Self::Suspend => "suspend",
            Self::Hibernate => "hibernate",
            Self::Resume => "resume",
        }
    }

    fn target(self) -> TargetState {
        match self {
            Self::Start | Self::Resume => TargetState::State(PowerState::Running),
            Self::Stop | Self::Shutdown => TargetState::State(PowerState::Stopped),
            Self::Reboot | Self::Reset | Self::Suspend | Self::Hibernate => TargetState::Nothing,
        }
    }
}

/// Parses the output of [`PowerAction::as_str`].
impl std::str::FromStr for PowerAction {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let known = Self::ALL.iter().find(|action| action.as_str() == text);
        known.copied().ok_or_else(|| {
            let names = Self::ALL.iter().map(|action| action.as_str());
            ParseNameError::new("action", text, names.collect())
        })
    }
}

impl fmt::Display for PowerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A change of power, made by [`Guest::power`] and its short forms; awaiting it returns a
/// [`StartedOperation`].
#[derive(Clone, Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Power {
    guest: Guest,
    action: PowerAction,
    timeout: Option<Duration>,
    force: bool,
}

impl Guest {
    /// Changes its power: `POST /nodes/{node}/{qemu|lxc}/{vmid}/status/…`.
    pub fn power(&self, action: PowerAction) -> Power {
        Power {
            guest: self.clone(),
            action,
            timeout: None,
            force: false,
        }
    }

    /// [`PowerAction::Start`]. For a running guest, the call or its task fails with
    /// [`AlreadyRunning`](crate::error::ErrorKind::AlreadyRunning).
    pub fn start(&self) -> Power {
        self.power(PowerAction::Start)
    }

    /// [`PowerAction::Stop`].
    pub fn stop(&self) -> Power {
        self.power(PowerAction::Stop)
    }

    /// [`PowerAction::Shutdown`]; with [`Power::or_stop_after`] it does not depend on the guest's system.
    pub fn shutdown(&self) -> Power {
        self.power(PowerAction::Shutdown)
    }

    /// [`PowerAction::Reboot`].
    pub fn reboot(&self) -> Power {
        self.power(PowerAction::Reboot)
    }

    /// [`PowerAction::Reset`].
    pub fn reset(&self) -> Power {
        self.power(PowerAction::Reset)
    }

    /// [`PowerAction::Suspend`].
    pub fn suspend(&self) -> Power {
        self.power(PowerAction::Suspend)
    }

    /// [`PowerAction::Hibernate`].
    pub fn hibernate(&self) -> Power {
        self.power(PowerAction::Hibernate)
    }

    /// [`PowerAction::Resume`].
    pub fn resume(&self) -> Power {
        self.power(PowerAction::Resume)
    }
}

impl Power {
    /// The server's time limit, in whole seconds; not the time limit for waiting here. Used for
    /// shutdown and reboot, and for start and stop of virtual machines.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets the server stop a guest that has not shut down after this time. Used for shutdown.
    pub fn or_stop_after(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self.force = true;
        self
    }

    #[inline]
    fn send(&self, location: &GuestLocation) -> BoxFuture<'static, Result<Option<Task>, Error>> {
        let (seconds, force) = (self.seconds(), self.force.then_some(true));
        if location.kind == Kind::Qemu {
            let status = self.guest.qemu_at(location).status();
            return match self.action {
                PowerAction::Start => start_task!(status.start().post(), timeout: seconds),
                PowerAction::Stop => start_task!(status.stop().post(), timeout: seconds),
                PowerAction::Shutdown => {
                    start_task!(status.shutdown().post(), timeout: seconds, force_stop: force)
                }
                PowerAction::Reboot => start_task!(status.reboot().post(), timeout: seconds),
                PowerAction::Reset => start_task!(status.reset().post()),
                PowerAction::Suspend => start_task!(status.suspend().post()),
                PowerAction::Hibernate => start_task!(status.suspend().post().todisk(true)),
                PowerAction::Resume => start_task!(status.resume().post()),
            };
        }
        let status = self.guest.lxc_at(location).status();
        match self.action {
            PowerAction::Start => start_task!(status.start().post()),
            PowerAction::Stop => start_task!(status.stop().post()),
            PowerAction::Shutdown => {
                start_task!(status.shutdown().post(), timeout: seconds, force_stop: force)
            }
            // Containers have no reset button; `run` has refused it.
            PowerAction::Reboot | PowerAction::Reset => {
                start_task!(status.reboot().post(), timeout: seconds)
            }
            PowerAction::Suspend | PowerAction::Hibernate => start_task!(status.suspend().post()),
            PowerAction::Resume => start_task!(status.resume().post()),
        }
    }

    fn seconds(&self) -> Option<i64> {
        let timeout = self.timeout?;
        Some(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX))
    }

    async fn run(self) -> Result<StartedOperation, Error> {
        let kind = match self.action {
            PowerAction::Reset | PowerAction::Hibernate => Some(Kind::Qemu),
            _ => None,
        };
        let target = self.action.target();
        (self.guest)
            .start_operation(kind, target, &|location| self.send(location))
            .await
    }
}

super::impl_into_started!(Power);
