//! A small shell for scripts of one line: quotes, `$1`, pipes, redirections, `;`, `&&` and `||`.

use crate::guest_agent::output::{CommandOutput, End};
use crate::guest_agent::programs::{Machine, complain};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `;`, `&&`, `||`, `|`, `>`, `>>`, `<`, `2>`, `2>>`, `2>&1`, `>&2`.
    Sign(&'static str),
}

/// The operators; longer ones come before their prefixes.
const SIGNS: [&str; 11] = [
    "2>&1", "2>>", "2>", "&&", "||", ">>", ">&2", ">", "<", "|", ";",
];

/// Runs a script with `$0`, `$1`, … set to `args`.
pub(super) fn run(
    machine: &mut Machine<'_>,
    script: &str,
    args: &[&str],
    input: &[u8],
) -> CommandOutput {
    let mut all = CommandOutput::success("");
    all.seconds = 0.0;
    let lines: Vec<&str> = script.lines().collect();
    for line in lines {
        let tokens = match tokens(line) {
            Ok(tokens) => tokens,
            Err(problem) => {
                return CommandOutput::failure(2, format!("sh: Syntax error: {problem}\n"));
            }
        };
        let mut runs = true;
        let mut rest = tokens.as_slice();
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|token| matches!(token, Token::Sign(";" | "&&" | "||")));
            let (part, sign) = match end {
                Some(at) => (&rest[..at], Some(&rest[at])),
                None => (rest, None),
            };
            rest = end.map_or(&[], |at| &rest[at + 1..]);
            if runs && !part.is_empty() {
                let last = all.end;
                if let Some(Token::Word(first)) = part.first()
                    && first == "exit"
                {
                    if let Some(Token::Word(code)) = part.get(1) {
                        let code = expand(code, args, last);
                        all.end = End::Code(code.parse().unwrap_or(2));
                    }
                    return all;
                }
                let output = pipeline(machine, part, args, input, last);
                all.stdout.extend(output.stdout);
                all.stderr.extend(output.stderr);
                all.end = output.end;
                all.seconds += output.seconds;
            }
            runs = match sign {
                Some(Token::Sign("&&")) => all.end == End::Code(0),
                Some(Token::Sign("||")) => all.end != End::Code(0),
                _ => true,
            };
        }
    }
    all
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = rest[sign.len()..].trim_start();
            continue;
        }
        if let Some(unexpected) = rest.chars().next().filter(|c| "&(){}`".contains(*c)) {
            return Err(format!("{unexpected} is not understood"));
        }
        let (word, left) = word(rest)?;
        tokens.push(Token::Word(word));
        rest = left.trim_start();
    }
    Ok(tokens)
}

/// Marks characters of single quotes and escaped ones, which must not be expanded.
const LITERAL: char = '\u{1}';

fn word(text: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), close) if open == close => quote = None,
            (Some('\''), c) => word.extend([LITERAL, c]),
            (_, '$') if text[at + 1..].starts_with(['(', '{']) => {
                return Err("only parameters can be expanded".into());
            }
            (_, '\\') => match chars.next() {
                Some((_, next)) => word.extend([LITERAL, next]),
                None => return Err("end of file after \\".into()),
            },
            (None, c) if c.is_whitespace() || ";|<>&()".contains(c) => {
                return Ok((word, &text[at..]));
            }
            (_, '`') => return Err("` is not understood".into()),
            (_, c) => word.push(c),
        }
    }
    match quote {
        Some(_) => Err("Unterminated quoted string".into()),
        None => Ok((word, "")),
    }
}

/// Expands parameters; unset ones are empty.
fn expand(word: &str, args: &[&str], last: End) -> String {
    let mut out = String::new();
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            LITERAL => out.extend(chars.next()),
            '$' => match chars.peek().copied() {
                Some(digit) if digit.is_ascii_digit() => {
                    chars.next();
                    let index = digit.to_digit(10).and_then(|n| usize::try_from(n).ok());
                    out.push_str(index.and_then(|n| args.get(n)).unwrap_or(&""));
                }
                Some('@' | '*') => {
                    chars.next();
                    out.push_str(&args.get(1..).unwrap_or_default().join(" "));
                }
                Some('?') => {
                    chars.next();
                    out.push_str(&code(last).to_string());
                }
                Some(name) if name.is_ascii_alphabetic() || name == '_' => {
                    while chars
                        .peek()
                        .is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
                    {
                        chars.next();
                    }
                }
                _ => out.push('$'),
            },
            c => out.push(c),
        }
    }
    out
}

fn code(end: End) -> u8 {
    match end {
        End::Code(code) => code,
        End::Signal(signal) => 128_u8.saturating_add(signal),
    }
}

/// A pipeline.
fn pipeline(
    machine: &mut Machine<'_>,
    tokens: &[Token],
    args: &[&str],
    input: &[u8],
    last: End,
) -> CommandOutput {
    let mut output = CommandOutput::success(input);
    output.seconds = 0.0;
    for part in tokens.split(|token| *token == Token::Sign("|")) {
        let input = std::mem::take(&mut output.stdout);
        let (errors, seconds) = (output.stderr, output.seconds);
        output = command(machine, part, args, &input, last);
        output.stderr.splice(0..0, errors);
        output.seconds += seconds;
    }
    output
}

/// One program with its redirections.
fn command(
    machine: &mut Machine<'_>,
    tokens: &[Token],
    args: &[&str],
    input: &[u8],
    last: End,
) -> CommandOutput {
    let mut words = Vec::new();
    let mut redirections = Vec::new();
    let mut tokens = tokens.iter();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => words.push(expand(word, args, last)),
            Token::Sign(sign @ ("2>&1" | ">&2")) => redirections.push((*sign, String::new())),
            Token::Sign(sign) => match tokens.next() {
                Some(Token::Word(target)) => {
                    redirections.push((*sign, expand(target, args, last)));
                }
                _ => {
                    return CommandOutput::failure(2, "sh: Syntax error: redirection to nowhere\n");
                }
            },
        }
    }
    let mut input = input.to_vec();
    for (sign, path) in &redirections {
        if *sign == "<" {
            match machine.read(path) {
                Ok(content) => input = content.to_vec(),
                Err(problem) => {
                    return CommandOutput::failure(
                        2,
                        format!("sh: cannot open {path}: {problem}\n"),
                    );
                }
            }
        }
    }
    let mut output = if words.is_empty() {
        CommandOutput::success("")
    } else {
        machine.run(&words, &input).unwrap_or_else(|| {
            CommandOutput::failure(127, format!("sh: {}: not found\n", words[0]))
        })
    };
    for (sign, path) in &redirections {
        let written = match *sign {
            ">" | ">>" => {
                let data = std::mem::take(&mut output.stdout);
                machine.write(path, &data, *sign == ">>")
            }
            "2>" | "2>>" => {
                let data = std::mem::take(&mut output.stderr);
                machine.write(path, &data, *sign == "2>>")
            }
            "2>&1" => {
                let data = std::mem::take(&mut output.stderr);
                output.stdout.extend(data);
                Ok(())
            }
            ">&2" => {
                let data = std::mem::take(&mut output.stdout);
                output.stderr.extend(data);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(problem) = written {
            complain(&mut output, &format!("sh: cannot create {path}: {problem}"));
            output.end = End::Code(2);
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guest_agent::output::Files;

    fn sh(files: &mut Files, script: &str, args: &[&str], input: &[u8]) -> (String, String, u8) {
        let mut machine = Machine {
            files,
            commands: &[],
            hostname: "web".into(),
            now: Duration::from_secs(1_800_000_000),
        };
        let output = run(&mut machine, script, args, input);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr), code(output.end))
    }

    #[test]
    fn scripts_of_one_line() {
        let mut files = Files::new();
        for (script, args, input, expected) in [
            ("echo a b", &[][..], "", "a b\n"),
            ("echo \"a  $1\" '$1' \\$1", &["sh", "x"], "", "a  x $1 $1\n"),
            ("echo $@", &["sh", "x", "y"], "", "x y\n"),
            (
                "false || echo other; true && echo both",
                &[],
                "",
                "other\nboth\n",
            ),
            ("false && echo no; echo $?", &[], "", "1\n"),
            ("cat | base64", &[], "hello", "aGVsbG8=\n"),
            (
                "echo one > /tmp/f; echo two >> /tmp/f\ncat /tmp/f",
                &[],
                "",
                "one\ntwo\n",
            ),
            (
                "echo aGk= > /tmp/b; base64 -d < /tmp/b; rm /tmp/b",
                &[],
                "",
                "hi",
            ),
            ("echo lost 2> /dev/null > /dev/null # comment", &[], "", ""),
            ("mv /tmp/f /tmp/g && ls /tmp", &[], "", "g\n"),
            ("test -f /tmp/g && test ! = x || echo no", &[], "", "no\n"),
            (
                "mkdir /data && echo x > /data/x && cat /data/x",
                &[],
                "",
                "x\n",
            ),
            (
                "rm -rf /data; test -e /data || echo gone",
                &[],
                "",
                "gone\n",
            ),
            ("date +%s", &[], "", "1800000000\n"),
        ] {
            let (out, _, _) = sh(&mut files, script, args, input.as_bytes());
            assert_eq!(out, expected, "{script}");
        }
    }

    #[test]
    fn errors_are_printed() {
        let mut files = Files::new();
        for (script, error, code) in [
            ("exit 7", "", 7),
            ("nothing", "sh: nothing: not found\n", 127),
            ("cat /x", "cat: /x: No such file or directory\n", 1),
            ("echo x >&2; false", "x\n", 1),
            (
                "echo x > /no/such",
                "sh: cannot create /no/such: No such file or directory\n",
                2,
            ),
            (
                "echo $(date)",
                "sh: Syntax error: only parameters can be expanded\n",
                2,
            ),
            ("(date)", "sh: Syntax error: ( is not understood\n", 2),
            (
                "echo 'x",
                "sh: Syntax error: Unterminated quoted string\n",
                2,
            ),
            (
                "rm /x",
                "rm: cannot remove '/x': No such file or directory\n",
                1,
            ),
            ("rm -f -- /x", "", 0),
        ] {
            let (_, err, end) = sh(&mut files, script, &[], b"");
            assert_eq!((err.as_str(), end), (error, code), "{script}");
        }
    }
}
