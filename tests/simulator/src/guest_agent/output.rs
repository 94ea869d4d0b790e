//! The results of commands, and the files that they use.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Contents by path. A path with a slash at its end is an explicit directory.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// The default duration of a program, in simulated seconds.
const SECONDS: f64 = 0.2;

/// Directories of every system.
const DIRECTORIES: [&str; 13] = [
    "/bin", "/boot", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr",
    "/var", "/var/log",
];

/// The result of a program that the guest agent runs: see
/// [`crate::agent_control::GuestAgent::command`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommandOutput {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) end: End,
    pub(crate) seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Code(u8),
    Signal(u8),
}

impl CommandOutput {
    /// The program prints this and exits with 0.
    #[must_use]
    pub fn success(stdout: impl Into<Vec<u8>>) -> Self {
        Self {
            stdout: stdout.into(),
            stderr: Vec::new(),
            end: End::Code(0),
            seconds: SECONDS,
        }
    }

    /// The program prints this to its standard error and exits with this code.
    #[must_use]
    pub fn failure(code: u8, stderr: impl Into<Vec<u8>>) -> Self {
        Self {
            stderr: stderr.into(),
            end: End::Code(code),
            ..Self::success("")
        }
    }

    /// The program is ended by a signal.
    #[must_use]
    pub fn killed(signal: u8) -> Self {
        Self {
            end: End::Signal(signal),
            ..Self::success("")
        }
    }

    /// Also prints this to the standard output.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Vec<u8>>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Also prints this to the standard error.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Vec<u8>>) -> Self {
        self.stderr = stderr.into();
        self
    }

    /// Sets the duration in simulated seconds; the default is a fifth of one.
    #[must_use]
    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = if seconds.is_finite() {
            seconds.max(0.0)
        } else {
            SECONDS
        };
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let (code, signal) = match self.end {
            End::Code(code) => (Some(code), None),
            End::Signal(signal) => (None, Some(signal)),
        };
        json!({
            "stdout": STANDARD.encode(&self.stdout), "stderr": STANDARD.encode(&self.stderr), "code": code,
            "signal": signal, "seconds": self.seconds,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let small = |key: &str| u8::try_from(value[key].as_u64()?).ok();
        Some(Self {
            stdout: bytes(&value["stdout"])?,
            stderr: bytes(&value["stderr"])?,
            end: match (small("code"), small("signal")) {
                (Some(code), _) => End::Code(code),
                (None, signal) => End::Signal(signal?),
            },
            seconds: value["seconds"].as_f64()?,
        })
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.as_str()?).ok()
}

pub(crate) fn files_to_json(files: &Files) -> Value {
    let files: Map<String, Value> = files
        .iter()
        .map(|(path, content)| (path.clone(), json!(STANDARD.encode(&**content))))
        .collect();
    Value::Object(files)
}

pub(crate) fn files_from_json(value: &Value) -> Option<Files> {
    value
        .as_object()?
        .iter()
        .map(|(path, content)| Some((path.clone(), Arc::new(bytes(content)?))))
        .collect()
}

/// Whether the directory exists.
pub(crate) fn is_directory(files: &Files, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let below = format!("{path}/");
    path.is_empty()
        || DIRECTORIES.contains(&path)
        || files
            .range(below.clone()..)
            .next()
            .is_some_and(|(found, _)| found.starts_with(&below))
}

/// The error of writing a file, if it cannot be written.
pub(crate) fn refuse_write(files: &Files, path: &str) -> Option<&'static str> {
    if is_directory(files, path) {
        return Some("Is a directory");
    }
    // Paths of other systems are not supported.
    let (parent, _) = path.rsplit_once('/')?;
    (path.starts_with('/') && !is_directory(files, parent)).then_some("No such file or directory")
}
