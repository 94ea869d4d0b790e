//! The programs that every machine has.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::guest_agent::output::{CommandOutput, End, Files, is_directory, refuse_write};
use crate::guest_agent::shell;

const KERNEL: &str = "6.12.48+deb13-amd64";

const NO_FILE: &str = "No such file or directory";

/// The state that a running program works on.
pub(crate) struct Machine<'a> {
    pub(super) files: &'a mut Files,
    pub(super) commands: &'a [(Vec<String>, CommandOutput)],
    pub(super) hostname: String,
    pub(super) now: Duration,
}

impl Machine<'_> {
    /// Runs a program to its end; `None` if it does not exist.
    pub(super) fn run(&mut self, words: &[String], input: &[u8]) -> Option<CommandOutput> {
        let ordered = self
            .commands
            .iter()
            .filter(|(start, _)| words.starts_with(start))
            .max_by_key(|(start, _)| start.len());
        if let Some((_, output)) = ordered {
            return Some(output.clone());
        }
        let (program, rest) = words.split_first()?;
        let name = program
            .strip_prefix("/usr/bin/")
            .or_else(|| program.strip_prefix("/bin/"))
            .unwrap_or(program);
        let args: Vec<&str> = rest.iter().map(String::as_str).collect();
        let ok = CommandOutput::success("");
        Some(match name {
            "true" | "sync" => ok,
            "false" => CommandOutput::failure(1, ""),
            "echo" => match args.split_first() {
                Some((&"-n", rest)) => CommandOutput::success(rest.join(" ")),
                _ => CommandOutput::success(format!("{}\n", args.join(" "))),
            },
            "hostname" => CommandOutput::success(format!("{}\n", self.hostname)),
            "whoami" => CommandOutput::success("root\n"),
            "id" if args == ["-u"] => CommandOutput::success("0\n"),
            "id" => CommandOutput::success("uid=0(root) gid=0(root) groups=0(root)\n"),
            "pwd" => CommandOutput::success("/\n"),
            "uname" => CommandOutput::success(self.uname(&args)),
            "date" => CommandOutput::success(match args.as_slice() {
                ["+%s"] => format!("{}\n", self.now.as_secs()),
                _ => format!("{}\n", crate::clock::iso_date(self.now.as_secs())),
            }),
            "sleep" => match args.first().and_then(|text| text.parse().ok()) {
                Some(seconds) => ok.seconds(seconds),
                None => CommandOutput::failure(1, "sleep: invalid time interval\n"),
            },
            "cat" => self.cat(&args, input),
            "base64" => base64(&args, input),
            "wc" if args == ["-c"] => CommandOutput::success(format!("{}\n", input.len())),
            "tee" => self.tee(&args, input),
            "ls" => self.ls(&args),
            "test" => self.test(&args),
            "mkdir" => {
                for path in operands(&args) {
                    let path = format!("{}/", path.trim_end_matches('/'));
                    self.files.entry(path).or_default();
                }
                ok
            }
            "rm" => self.rm(&args),
            "mv" => self.mv(&args),
            "sh" | "bash" => match args.as_slice() {
                ["-c", script, rest @ ..] => shell::run(self, script, rest, input),
                _ => CommandOutput::failure(2, "sh: only scripts given by -c are understood\n"),
            },
            _ => return None,
        })
    }

    /// Writes or extends a file.
    pub(super) fn write(
        &mut self,
        path: &str,
        content: &[u8],
        append: bool,
    ) -> Result<(), &'static str> {
        if path == "/dev/null" {
            return Ok(());
        }
        if let Some(problem) = refuse_write(self.files, path) {
            return Err(problem);
        }
        let file = self.files.entry(path.to_owned()).or_default();
        if append {
            Arc::make_mut(file).extend_from_slice(content);
        } else {
            *file = Arc::new(content.to_vec());
        }
        Ok(())
    }

    pub(super) fn read(&self, path: &str) -> Result<Arc<Vec<u8>>, &'static str> {
        match self.files.get(path) {
            Some(content) => Ok(Arc::clone(content)),
            None if path == "/dev/null" => Ok(Arc::default()),
            None if is_directory(self.files, path) => Err("Is a directory"),
            None => Err(NO_FILE),
        }
    }

    fn uname(&self, args: &[&str]) -> String {
        let host = &self.hostname;
        match args.first() {
            Some(&"-r") => format!("{KERNEL}\n"),
            Some(&"-n") => format!("{host}\n"),
            Some(&"-m") => "x86_64\n".into(),
            Some(&"-a") => format!("Linux {host} {KERNEL} #1 SMP x86_64 GNU/Linux\n"),
            _ => "Linux\n".into(),
        }
    }

    fn cat(&self, args: &[&str], input: &[u8]) -> CommandOutput {
        let mut output = CommandOutput::success("");
        let paths = if args.is_empty() { &["-"] } else { args };
        for path in paths.iter().copied() {
            if path == "-" {
                output.stdout.extend_from_slice(input);
                continue;
            }
            match self.read(path) {
                Ok(content) => output.stdout.extend_from_slice(&content),
                Err(problem) => complain(&mut output, &format!("cat: {path}: {problem}")),
            }
        }
        output
    }

    fn tee(&mut self, args: &[&str], input: &[u8]) -> CommandOutput {
        let mut output = CommandOutput::success(input);
        for path in operands(args) {
            if let Err(problem) = self.write(path, input, args.contains(&"-a")) {
                complain(&mut output, &format!("tee: {path}: {problem}"));
            }
        }
        output
    }

    fn ls(&self, args: &[&str]) -> CommandOutput {
        let path = operands(args).next().unwrap_or("/");
        if self.files.contains_key(path) {
            return CommandOutput::success(format!("{path}\n"));
        }
        if !is_directory(self.files, path) {
            let text = format!("ls: cannot access '{path}': {NO_FILE}\n");
            return CommandOutput::failure(2, text);
        }
        let start = format!("{}/", path.trim_end_matches('/'));
        let mut names: Vec<&str> = self
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(&start)?.split('/').next())
            .filter(|name| !name.is_empty())
            .collect();
        names.dedup();
        CommandOutput::success(
            names
                .iter()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        )
    }

    fn test(&self, args: &[&str]) -> CommandOutput {
        let holds = match args {
            ["-e", path] => self.files.contains_key(*path) || is_directory(self.files, path),
            ["-f", path] => self.files.contains_key(*path),
            ["-d", path] => is_directory(self.files, path),
            ["-s", path] => self.files.get(*path).is_some_and(|file| !file.is_empty()),
            ["-n", text] => !text.is_empty(),
            ["-z", text] => text.is_empty(),
            [one, "=", other] => one == other,
            [one, "!=", other] => one != other,
            _ => return CommandOutput::failure(2, "test: unknown condition\n"),
        };
        CommandOutput {
            end: End::Code(u8::from(!holds)),
            ..CommandOutput::success("")
        }
    }

    fn rm(&mut self, args: &[&str]) -> CommandOutput {
        let options: String = args
            .iter()
            .filter(|arg| arg.starts_with('-'))
            .copied()
            .collect();
        let mut output = CommandOutput::success("");
        for path in operands(args) {
            let below = format!("{}/", path.trim_end_matches('/'));
            let gone = self.files.remove(path).is_some();
            if gone || options.contains('r') && is_directory(self.files, path) {
                self.files.retain(|file, _| !file.starts_with(&below));
            } else if !options.contains('f') {
                complain(
                    &mut output,
                    &format!("rm: cannot remove '{path}': {NO_FILE}"),
                );
            }
        }
        output
    }

    fn mv(&mut self, args: &[&str]) -> CommandOutput {
        let paths: Vec<&str> = operands(args).collect();
        let [from, to] = paths.as_slice() else {
            return CommandOutput::failure(1, "mv: wrong number of operands\n");
        };
        let target = if is_directory(self.files, to) {
            let name = from.rsplit('/').next().unwrap_or(from);
            format!("{}/{name}", to.trim_end_matches('/'))
        } else {
            (*to).to_owned()
        };
        let moved = self
            .read(from)
            .and_then(|content| self.write(&target, &content, false));
        match moved {
            Ok(()) => {
                self.files.remove(*from);
                CommandOutput::success("")
            }
            Err(problem) => CommandOutput::failure(
                1,
                format!("mv: cannot move '{from}' to '{to}': {problem}\n"),
            ),
        }
    }
}

/// Adds a line to the standard error and makes the program fail.
pub(crate) fn complain(output: &mut CommandOutput, line: &str) {
    output.stderr.extend_from_slice(line.as_bytes());
    output.stderr.push(b'\n');
    output.end = End::Code(1);
}

/// Arguments without options; everything after `--`.
fn operands<'a>(args: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let end = args.iter().position(|arg| *arg == "--");
    args.iter()
        .enumerate()
        .filter(move |(at, arg)| match end {
            Some(end) if *at == end => false,
            Some(end) if *at > end => true,
            _ => !arg.starts_with('-') || **arg == "-",
        })
        .map(|(_, arg)| *arg)
}

fn base64(args: &[&str], input: &[u8]) -> CommandOutput {
    if !matches!(args.first(), Some(&("-d" | "--decode"))) {
        let text = STANDARD.encode(input);
        let width = if args.contains(&"-w0") {
            usize::MAX
        } else {
            76
        };
        let lines: String = text
            .as_bytes()
            .chunks(width)
            .map(|line| String::from_utf8_lossy(line).into_owned() + "\n")
            .collect();
        let lines = if width == usize::MAX { text } else { lines };
        return CommandOutput::success(lines);
    }
    let text: Vec<u8> = input
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    match STANDARD.decode(text) {
        Ok(bytes) => CommandOutput::success(bytes),
        Err(_) => CommandOutput::failure(1, "base64: invalid input\n"),
    }
}
