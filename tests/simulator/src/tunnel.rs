//! The receiving end of a migration between clusters: commands in lines of JSON, without those that
//! transfer data.

use serde_json::{Value, json};

/// The protocol version of both sides, and its first release.
const API: u64 = 2;

const AGE: u64 = 0;

const MAX_LINE: usize = 1 << 20;

/// The end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// The connection ended without a command.
    Sudden,
    Quit {
        /// The guest's new objects are removed.
        cleanup: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) end: TunnelEnd,
    input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

impl Tunnel {
    pub(crate) fn new() -> Self {
        Self {
            end: TunnelEnd::Sudden,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Reads input of the client; `false` ends the connection.
    pub(crate) fn take(&mut self, data: &[u8]) -> bool {
        self.input.extend_from_slice(data);
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let answer = self.answer(&line);
            self.output.extend_from_slice(answer.to_string().as_bytes());
            self.output.push(b'\n');
        }
        self.input.len() < MAX_LINE
    }

    fn answer(&mut self, line: &[u8]) -> Value {
        let refuse = |text: String| json!({ "success": false, "msg": text });
        let command: Value = match serde_json::from_slice(line) {
            Ok(command) => command,
            Err(error) => return refuse(format!("failed to parse command - {error}")),
        };
        let Some(name) = command["cmd"].as_str() else {
            return refuse("'cmd' missing".into());
        };
        if matches!(self.end, TunnelEnd::Quit { .. }) {
            return refuse(format!(
                "tunnel is in exit-mode, processing '{name}' cmd not possible"
            ));
        }
        match name {
            "version" => json!({ "success": true, "api": API, "age": AGE }),
            "bwlimit" => json!({ "success": true, "bwlimit": null }),
            "quit" => {
                let cleanup = match &command["cleanup"] {
                    Value::Bool(flag) => *flag,
                    Value::Number(number) => number.as_u64() != Some(0),
                    Value::String(text) => !matches!(text.as_str(), "" | "0"),
                    _ => false,
                };
                self.end = TunnelEnd::Quit { cleanup };
                json!({ "success": true })
            }
            "config" | "disk" | "disk-import" | "query-disk-import" | "fstrim" | "nbdstop"
            | "resume" | "start" | "stop" | "ticket" | "unlock" => refuse(format!(
                "failed to handle '{name}' command - no data is moved into a simulated cluster"
            )),
            other => refuse(format!("unknown command '{other}' given")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_command() {
        let mut tunnel = Tunnel::new();
        let mut say = |text: &str| {
            assert!(tunnel.take(text.as_bytes()));
            String::from_utf8(std::mem::take(&mut tunnel.output)).expect("text")
        };
        assert_eq!(say("{\"cmd\":\"ver"), "");
        let version: Value = serde_json::from_str(&say("sion\"}\n")).expect("JSON");
        assert_eq!(version, json!({ "success": true, "api": 2, "age": 0 }));
        let two = say("{}\nx\n");
        assert!(two.contains("'cmd' missing") && two.contains("failed to parse command"));
        assert!(say("{\"cmd\":\"nonsense\"}\n").contains("unknown command 'nonsense' given"));
        assert!(say("{\"cmd\":\"disk\"}\n").contains("failed to handle 'disk' command"));
        assert!(say("{\"cmd\":\"quit\",\"cleanup\":1}\n").contains("\"success\":true"));
        assert!(say("{\"cmd\":\"version\"}\n").contains("exit-mode"));
        assert_eq!(tunnel.end, TunnelEnd::Quit { cleanup: true });
    }
}
