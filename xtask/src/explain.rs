//! `cargo xtask explain`: everything that decides on one endpoint, with its locations.

use std::fmt::Write as _;

use proxmox_codegen::catalog::{Argument, Call};
use proxmox_codegen::facts::Release;
use proxmox_codegen::generate::{self, Explanation, Input};
use proxmox_codegen::product::Product;

use crate::{Outcome, regen, say, workspace};

/// Print what facts, overlay and union hold about an endpoint, with file and line
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Verb and path template, such as "GET /nodes/{node}/apt"
    endpoint: String,
}

pub(crate) fn run(product: &Product, args: &Args) -> Outcome {
    let input = regen::read_input(product, &workspace())?;
    let found =
        generate::explain(&input, &args.endpoint).map_err(|problems| problems.join("\n"))?;
    let mut text = format!("{}\n\nfacts\n", args.endpoint);
    text += &facts(product, &input, &found.call);
    text += "\noverlay\n";
    text += &overlay(product, &input, &found);
    text += "\nunion\n";
    text += &union(&found.call, &found.releases);
    say(&text)
}

/// The lines of a release's file that describe a call, and the number of the first.
fn block<'a>(text: &'a str, call: &Call) -> Option<(usize, Vec<&'a str>)> {
    let path = format!("  \"{}\": {{", call.path);
    let verb = format!("   \"{}\": {{", call.verb);
    let mut lines = text.lines().enumerate();
    lines.find(|(_, line)| *line == path)?;
    let (start, first) = lines
        .by_ref()
        .take_while(|(_, line)| !line.starts_with("  }"))
        .find(|(_, line)| *line == verb)?;
    let rest = lines
        .map(|(_, line)| line)
        .take_while(|line| !line.starts_with("   }"));
    Some((start + 1, std::iter::once(first).chain(rest).collect()))
}

/// The location of the call's description in each release, and the newest description. Releases
/// with the same description are grouped.
fn facts(product: &Product, input: &Input, call: &Call) -> String {
    let mut files: Vec<(Release, &String, &String)> = (input.releases.iter())
        .filter_map(|(name, text)| Some((name.strip_suffix(".json")?.parse().ok()?, name, text)))
        .collect();
    files.sort_by_key(|(release, ..)| *release);
    let mut groups: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for (_, name, text) in &files {
        let Some((line, lines)) = block(text, call) else {
            continue;
        };
        let place = format!("{}/{name}:{line}", product.schema("").display());
        match groups.last_mut() {
            Some((places, known)) if *known == lines => places.push(place),
            _ => groups.push((vec![place], lines)),
        }
    }
    let mut out = String::new();
    let last = groups.len().saturating_sub(1);
    for (n, (places, lines)) in groups.iter().enumerate() {
        let _ = writeln!(out, "  {}", places.join(" "));
        if n == last {
            for line in lines {
                let _ = writeln!(out, "    {}", line.strip_prefix("   ").unwrap_or(line));
            }
        }
    }
    out
}

/// Every entry with an effect, with its text.
fn overlay(product: &Product, input: &Input, found: &Explanation) -> String {
    let mut out = String::new();
    for (entry, file, line) in &found.entries {
        let _ = writeln!(
            out,
            "  {}/{file}:{line}  {entry}",
            product.overlay("").display()
        );
        let text = input.overlay.get(file).map_or("", String::as_str);
        let mut lines = text.lines().skip(line - 1);
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(out, "    {}", first.trim());
        // The other members of an entry that is a table.
        if first.starts_with("at = ") || first.starts_with("type = ") {
            for line in lines.take_while(|line| !line.is_empty() && !line.starts_with('[')) {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    out
}

fn union(call: &Call, releases: &[String]) -> String {
    let named = |indexes: &[usize]| {
        let names = indexes.iter().filter_map(|index| releases.get(*index));
        names.map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    let mut out = String::new();
    let _ = writeln!(out, "  releases  {}", named(&call.releases));
    let _ = writeln!(out, "  rust      {}", call.rust);
    let _ = writeln!(out, "  answer    {}", call.answer);
    let _ = writeln!(out, "  area      {}", call.area);
    for Argument {
        name,
        in_path,
        required,
        ty,
        releases,
        ..
    } in &call.parameters
    {
        let kind = match (in_path, required) {
            (true, _) => "placeholder",
            (false, true) => "required",
            (false, false) => "optional",
        };
        let _ = write!(out, "  {kind:<11}  {name}: {ty}");
        let _ = match releases.is_empty() {
            true => writeln!(out),
            false => writeln!(out, "  (only in {})", named(releases)),
        };
    }
    out
}
