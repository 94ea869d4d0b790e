//! Programs in a virtual machine.

use std::fmt;
use std::time::Duration;

use super::call::{Agent, POLL, passes};
use crate::Value;
use crate::error::Error;
use crate::manage::guest::{Guest, impl_into_future};
use crate::request::ApiRequest;
use crate::task::PollSchedule;
use crate::value::serialize::{Field, Fields, record};

impl Agent {
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
            let status = guest
                .ask_agent(|vm| vm.agent().exec_status().get(started.pid).into_request())
                .await;
            match status {
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

    pub(super) fn end(&self) -> String {
        match (self.exit_code, self.signal) {
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), None) => format!("exit code {code}"),
            (None, None) => "no exit code".to_owned(),
        }
    }
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
