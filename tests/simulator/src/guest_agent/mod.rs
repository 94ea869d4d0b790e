//! The inside of a virtual machine: files, running programs, and the agent that gives access to
//! both.

pub(crate) mod output;
pub(crate) mod programs;
pub(crate) mod shell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::guest_agent::output::{CommandOutput, End, Files, files_from_json, files_to_json};
use crate::guest_agent::programs::Machine;

/// The limit on a program's output; the agent drops the rest.
const MAX_OUTPUT: usize = 16 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) ends: Duration,
    pub(crate) output: CommandOutput,
}

/// The inside of one virtual machine.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) files: Files,
    /// Programs by the words a command line starts with.
    pub(crate) commands: Vec<(Vec<String>, CommandOutput)>,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) pids: u32,
    pub(crate) frozen: bool,
    /// The agent is installed and does not respond.
    pub(crate) silent: bool,
}

impl Inside {
    pub(crate) fn new(hostname: &str) -> Self {
        let text = |text: String| Arc::new(text.into_bytes());
        Self {
            files: [
                ("/etc/hostname", format!("{hostname}\n")),
                (
                    "/etc/os-release",
                    "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nID=debian\n"
                        .into(),
                ),
                ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".into()),
            ]
            .map(|(path, content)| (path.to_owned(), text(content)))
            .into(),
            commands: Vec::new(),
            processes: BTreeMap::new(),
            pids: 800,
            frozen: false,
            silent: false,
        }
    }

    /// The host name in the guest.
    pub(crate) fn hostname(&self) -> String {
        let content = self.files.get("/etc/hostname");
        let text = content.map(|content| String::from_utf8_lossy(content).trim().to_owned());
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "localhost".into())
    }

    /// Applies the settings made from outside of the guest.
    pub(crate) fn keep_orders_of(&mut self, other: Self) {
        self.commands = other.commands;
        self.silent = other.silent;
        self.pids = other.pids;
    }

    /// Stops all programs when the machine stops.
    pub(crate) fn power_off(&mut self) {
        self.processes.clear();
        self.frozen = false;
    }

    pub(crate) fn script(&mut self, words: Vec<String>, output: CommandOutput) {
        self.commands.retain(|(known, _)| *known != words);
        self.commands.push((words, output));
    }

    /// Starts a program; its number, or the text of the agent's error.
    pub(crate) fn run(
        &mut self,
        words: &[String],
        input: &[u8],
        now: Duration,
        factor: f64,
    ) -> Result<u32, String> {
        let mut machine = Machine {
            hostname: self.hostname(),
            files: &mut self.files,
            commands: &self.commands,
            now,
        };
        let program = words.first().map_or("", String::as_str);
        // Older systems print these quotes; newer ones print characters that the server cannot put
        // into a status line.
        let mut output = machine.run(words, input).ok_or_else(|| {
            format!(
                "Guest agent command failed, error was 'Failed to execute child process \"{program}\" \
                 (No such file or directory)'"
            )
        })?;
        self.pids += 1;
        let length = Duration::try_from_secs_f64(output.seconds * factor).unwrap_or(Duration::MAX);
        let ends = now.saturating_add(length);
        output.stdout.truncate(MAX_OUTPUT + 1);
        output.stderr.truncate(MAX_OUTPUT + 1);
        self.processes.insert(self.pids, Process { ends, output });
        Ok(self.pids)
    }

    /// The state of a program. After the end was reported once, the program is forgotten.
    pub(crate) fn status(&mut self, pid: u32, now: Duration) -> Option<Value> {
        let process = self.processes.get(&pid)?;
        if process.ends > now {
            return Some(json!({ "exited": 0 }));
        }
        let output = self.processes.remove(&pid)?.output;
        let mut status = match output.end {
            End::Code(code) => json!({ "exited": 1, "exitcode": code }),
            End::Signal(signal) => json!({ "exited": 1, "signal": signal }),
        };
        for (name, mut data) in [("out", output.stdout), ("err", output.stderr)] {
            if data.len() > MAX_OUTPUT {
                data.truncate(MAX_OUTPUT);
                status[format!("{name}-truncated")] = json!(1);
            }
            if !data.is_empty() {
                status[format!("{name}-data")] = json!(as_characters(&data));
            }
        }
        Some(status)
    }

    pub(crate) fn to_json(&self) -> Value {
        let commands: Vec<Value> = self
            .commands
            .iter()
            .map(|(words, output)| json!([words, output.to_json()]))
            .collect();
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|(pid, process)| {
                let ends = u64::try_from(process.ends.as_millis()).unwrap_or(u64::MAX);
                json!([pid, ends, process.output.to_json()])
            })
            .collect();
        json!({
            "files": files_to_json(&self.files), "commands": commands, "processes": processes, "pids": self.pids,
            "frozen": self.frozen, "silent": self.silent,
        })
    }

    pub(crate) fn from_json(value: &Value, shift: impl Fn(Duration) -> Duration) -> Option<Self> {
        let mut inside = Self::new("");
        inside.files = files_from_json(&value["files"])?;
        for command in value["commands"].as_array()? {
            let words = command[0].as_array()?.iter();
            let words: Option<_> = words.map(|word| word.as_str().map(str::to_owned)).collect();
            inside.script(words?, CommandOutput::from_json(&command[1])?);
        }
        for process in value["processes"].as_array()? {
            let pid = u32::try_from(process[0].as_u64()?).ok()?;
            let ends = shift(Duration::from_millis(process[1].as_u64()?));
            let output = CommandOutput::from_json(&process[2])?;
            inside.processes.insert(pid, Process { ends, output });
        }
        inside.pids = u32::try_from(value["pids"].as_u64()?).ok()?;
        inside.frozen = value["frozen"].as_bool()?;
        inside.silent = value["silent"].as_bool()?;
        Some(inside)
    }
}

/// Bytes as text with one character per byte, as the server puts them into JSON.
pub(crate) fn as_characters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Characters as bytes for the agent; `None` if a character is above 255.
pub(crate) fn as_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_agent::output::refuse_write;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_program_ends_on_time_and_reports_its_end_once() {
        let mut inside = Inside::new("web");
        let now = Duration::from_secs(1_000);
        let pid = inside.run(&words("sleep 10"), b"", now, 0.5).expect("runs");
        assert_eq!(
            inside.status(pid, now + Duration::from_secs(4)),
            Some(json!({ "exited": 0 }))
        );
        let end = now + Duration::from_secs(5);
        let ended = json!({ "exited": 1, "exitcode": 0 });
        assert_eq!(inside.status(pid, end), Some(ended));
        assert_eq!(inside.status(pid, end), None);
    }

    #[test]
    fn configured_commands_precede_built_in_ones() {
        let mut inside = Inside::new("web");
        inside.script(
            words("uname"),
            CommandOutput::failure(3, "no").stdout("out"),
        );
        inside.script(words("uname -r"), CommandOutput::killed(9));
        let now = Duration::ZERO;
        let mut output_of = |text: &str| {
            let pid = inside.run(&words(text), b"", now, 0.0).expect("runs");
            inside.status(pid, now).expect("known")
        };
        let failed = json!({ "exited": 1, "exitcode": 3, "out-data": "out", "err-data": "no" });
        assert_eq!(output_of("uname -a"), failed);
        assert_eq!(
            output_of("uname -r --verbose"),
            json!({ "exited": 1, "signal": 9 })
        );
        assert_eq!(output_of("hostname")["out-data"], "web\n");
        let error = inside.run(&words("no-such-program"), b"", now, 0.0);
        assert!(error.is_err_and(|text| text.contains("no-such-program")));
    }

    #[test]
    fn the_state_survives_a_snapshot() {
        let mut inside = Inside::new("web");
        inside
            .files
            .insert("/tmp/x".into(), Arc::new(vec![0, 255, 10]));
        inside.script(
            words("a b"),
            CommandOutput::killed(15).stdout("x").seconds(2.0),
        );
        inside
            .run(&words("a b"), b"", Duration::from_secs(5), 1.0)
            .expect("runs");
        inside.silent = true;
        let text = inside.to_json();
        let later = |at: Duration| at + Duration::from_secs(10);
        let mut back = Inside::from_json(&text, later).expect("whole");
        assert_eq!(back.files, inside.files);
        assert_eq!(back.commands, inside.commands);
        assert!(back.silent);
        let still = back.status(801, Duration::from_secs(16));
        assert_eq!(still, Some(json!({ "exited": 0 })));
        let ended = back.status(801, Duration::from_secs(17)).expect("known");
        assert_eq!(ended, json!({ "exited": 1, "signal": 15, "out-data": "x" }));
        assert!(Inside::from_json(&json!({ "files": 1 }), later).is_none());
    }

    #[test]
    fn directories_follow_from_the_files() {
        let mut files = Files::new();
        assert_eq!(refuse_write(&files, "/etc/x"), None);
        assert_eq!(refuse_write(&files, r"C:\x"), None);
        assert_eq!(refuse_write(&files, "/etc"), Some("Is a directory"));
        let missing = Some("No such file or directory");
        assert_eq!(refuse_write(&files, "/data/x"), missing);
        files.insert("/data/".into(), Arc::default());
        assert_eq!(refuse_write(&files, "/data/x"), None);
    }
}
