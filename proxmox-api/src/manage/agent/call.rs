//! Calls of the guest agent.

use std::time::Duration;

use crate::Value;
use crate::client::request::exchange;
use crate::error::Error;
use crate::error::api::ErrorKind;
use crate::manage::guest::{Guest, GuestErrorKind, GuestLocation, Kind};
use crate::pve::qemu::QemuVmidPath;
use crate::request::{ApiRequest, Request};
use crate::task::PollSchedule;
use crate::value::BoxFuture;
use crate::value::decode::{Extra, read_any};
use crate::value::text::shortened;

/// The memory limit for an answer that holds a refusal of the agent.
const MAX_REFUSAL: usize = 8 * 1024 * 1024;

/// The guest agent of a virtual machine; made by [`Guest::agent`].
///
/// If it is not enabled, not installed, or the machine is off, calls fail with
/// [`ErrorKind::AgentNotRunning`] or [`ErrorKind::NotRunning`].
#[derive(Clone, Debug)]
pub struct Agent {
    pub(super) guest: Guest,
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

    /// Calls the guest agent of the machine. A refusal of the agent is an error, although the
    /// server answers with status 200.
    pub(crate) fn ask_agent<'a, T: 'static>(
        &'a self,
        request: impl Fn(&QemuVmidPath) -> Request<T> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            let send = |location: &GuestLocation| -> BoxFuture<'static, Result<Result<T, GuestErrorKind>, Error>> {
                let Request {
                    client,
                    call,
                    decode,
                } = request(&self.qemu_at(location));
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
    pub(super) fn timed_out(
        &self,
        waiting_for: &str,
        after: Duration,
        last: Option<&Error>,
    ) -> Error {
        let late = GuestErrorKind::TimedOut {
            vmid: self.vmid(),
            waiting_for: waiting_for.to_owned(),
            after,
            last: last.map(ToString::to_string),
        };
        late.into()
    }
}

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

    #[inline]
    pub(super) fn unusable(&self, problem: &str) -> Error {
        let unusable = GuestErrorKind::Agent {
            vmid: self.guest.vmid(),
            problem: problem.to_owned(),
        };
        unusable.into()
    }
}

pub(super) const POLL: Duration = Duration::from_secs(2);

/// Whether a failure is temporary while a machine starts up.
#[inline]
pub(super) fn passes(error: &Error) -> bool {
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

/// The refusal of the agent, if the answer holds one. It may quote the request.
pub(super) fn refusal(
    vmid: u32,
    body: &[u8],
    clean: impl Fn(&str) -> String,
) -> Option<GuestErrorKind> {
    // Most answers are long, and hold no refusal.
    body.windows(7).find(|part| part == b"\"error\"")?;
    let answer = read_any(body, MAX_REFUSAL)?;
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
