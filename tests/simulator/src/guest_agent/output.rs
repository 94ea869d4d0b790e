//! What commands give, and the files they work on.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Contents by path. A path that ends in a slash is a directory of its own.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// How long a program runs that says nothing else, in simulated seconds.
const SECONDS: f64 = 0.2;

/// Directories every system has.
const DIRECTORIES: [&str; 13] = [
    "/bin", "/boot", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr",
    "/var", "/var/log",
];

/// What a program does that the guest agent is asked to run: see [`crate::agent_control::GuestAgent::command`].
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
    /// Ends with 0 and has printed this.
    #[must_use]
    pub fn success(stdout: impl Into<Vec<u8>>) -> Self {
        Self {
            stdout: stdout.into(),
            stderr: Vec::new(),
            end: End::Code(0),
            seconds: SECONDS,
        }
    }

    /// Ends with this exit code and has printed this to its standard error.
    #[must_use]
    pub fn failure(code: u8, stderr: impl Into<Vec<u8>>) -> Self {
        Self {
            stderr: stderr.into(),
            end: End::Code(code),
            ..Self::success("")
        }
    }

    /// Is ended by a signal.
    #[must_use]
    pub fn killed(signal: u8) -> Self {
        Self {
            end: End::Signal(signal),
            ..Self::success("")
        }
    }

    /// Prints this to its standard output.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Vec<u8>>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// Prints this to its standard error.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Vec<u8>>) -> Self {
        self.stderr = stderr.into();
        self
    }

    /// Runs for so many simulated seconds; a fifth of one unless set.
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

/// Whether there is a directory of this name.
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

/// Why a file cannot be written there.
pub(crate) fn refuse_write(files: &Files, path: &str) -> Option<&'static str> {
    if is_directory(files, path) {
        return Some("Is a directory");
    }
    // Other systems have other paths.
    let (parent, _) = path.rsplit_once('/')?;
    (path.starts_with('/') && !is_directory(files, parent)).then_some("No such file or directory")
}
