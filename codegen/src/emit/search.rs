//! Search terms for a call: its path, its commands, and its action and object.

use super::Emitter;
use crate::facts::{Check, Method};
use crate::ir::{Endpoint, ItemKind, Returns, Ty};
use crate::privileges::{MODIFY, Need};

/// Search terms for creating, listing, changing and removing.
const MAKE: [&str; 3] = ["create", "add", "new"];
const LIST: [&str; 3] = ["list", "show", "all"];
const READ: [&str; 3] = ["get", "show", "read"];
const CHANGE: [&str; 5] = ["update", "change", "edit", "set", "modify"];
const REMOVE: [&str; 2] = ["delete", "remove"];

impl Emitter<'_> {
    /// Search terms as text, without the path.
    pub(super) fn phrases(&self, endpoint: &Endpoint) -> Vec<String> {
        let key = endpoint.key();
        let mut texts = Texts::default();
        for text in self.overlay.aliases(&key) {
            texts.add(text.clone());
        }
        for command in self.overlay.commands(&key) {
            texts.add(command.clone());
        }
        if self.is_directory(endpoint) {
            return texts.0;
        }
        let alone = self.calls_at(&endpoint.path) == 1;
        // The object itself, its list, or what is below it: the nearest one with a name.
        let mut path = endpoint.path.as_str();
        for (position, name) in self.overlay.objects_in(path).iter().enumerate() {
            if endpoint.method == Method::Get {
                texts.add(plural(name));
            }
            if let Some(verb) = listed(endpoint.method).first().filter(|_| position == 0) {
                texts.add(format!("{verb} {}", with_article(name)));
            }
            for verb in listed(endpoint.method) {
                texts.add(match endpoint.method {
                    Method::Get => format!("{verb} {}", plural(name)),
                    _ => format!("{verb} {name}"),
                });
            }
        }
        loop {
            let names = self.overlay.objects_at(path);
            if !names.is_empty() {
                let rest = &endpoint.path[path.len()..];
                // Nobody searches for the current state by that word.
                let rest = rest.strip_suffix("/current").unwrap_or(rest);
                for (position, name) in names.iter().enumerate() {
                    match rest.is_empty() {
                        true => texts.of_item(endpoint.method, name),
                        false => texts.below(endpoint.method, alone, name, rest),
                    }
                    if position == 0 && alone && !rest.is_empty() && !rest.ends_with('}') {
                        let last = rest.rsplit('/').next().unwrap_or(rest);
                        let last = last.replace(['-', '_'], " ");
                        texts.add(format!("{last} {}", with_article(name)));
                    }
                }
                break;
            }
            match path.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => path = above,
                _ => break,
            }
        }
        texts.0
    }

    /// All texts by which rustdoc's search finds a call; it matches the whole text.
    pub(super) fn searched(&self, endpoint: &Endpoint) -> Vec<String> {
        let mut texts = Texts::default();
        texts.add(endpoint.key());
        for text in self.phrases(endpoint) {
            texts.add(text);
        }
        let verb = endpoint.method.to_string();
        let literal = |segment: &&str| !segment.is_empty() && !segment.starts_with('{');
        let segments: Vec<&str> = endpoint.path.split('/').filter(literal).collect();
        if let Some(last) = segments.last() {
            texts.add(format!("{verb} {last}"));
        }
        if let Some(shell) = self.api.product.shell {
            let command = match endpoint.method {
                Method::Get => "get",
                Method::Post => "create",
                Method::Put => "set",
                Method::Delete => "delete",
            };
            texts.add(format!("{shell} {command} {}", endpoint.path));
        }
        // These are arguments, not methods that the search would find.
        for parameter in endpoint.parameters.iter().filter(|p| p.required) {
            texts.add(parameter.name.clone());
        }
        let mut privileges = Vec::new();
        if let Some(check) = endpoint.permissions.as_ref().and_then(|p| p.check.as_ref()) {
            in_check(check, &mut privileges);
        }
        let always = |p: &&crate::privileges::Privilege| {
            p.given.is_empty() && p.when.is_none() && p.rows.is_none()
        };
        for privilege in endpoint.privileges.iter().filter(always) {
            in_need(&privilege.check, &mut privileges);
        }
        // For reading, several privileges would be alternatives, and nobody searches for them.
        if endpoint.method != Method::Get || privileges.len() == 1 {
            for privilege in privileges {
                texts.add(privilege);
            }
        }
        texts.0
    }

    /// A call that only lists the paths below it.
    fn is_directory(&self, endpoint: &Endpoint) -> bool {
        let Returns::Data(Ty::Array(of)) = &endpoint.returns else {
            return false;
        };
        let Ty::Item(id) = &**of else {
            return false;
        };
        let ItemKind::Struct(members) = &self.api.items[*id].kind else {
            return false;
        };
        let below = |path: &str| {
            let rest = path.strip_prefix(&endpoint.path);
            rest.is_some_and(|rest| rest.starts_with('/') && !rest.starts_with("/{"))
        };
        members.len() == 1 && self.api.endpoints.iter().any(|call| below(&call.path))
    }

    fn calls_at(&self, path: &str) -> usize {
        let calls = self.api.endpoints.iter();
        calls.filter(|endpoint| endpoint.path == path).count()
    }
}

/// Verbs for the list of objects of a kind.
fn listed(method: Method) -> &'static [&'static str] {
    match method {
        Method::Get => &LIST,
        Method::Post => &MAKE,
        Method::Put => &CHANGE,
        Method::Delete => &REMOVE,
    }
}

/// Each text once, in the order found.
#[derive(Default)]
struct Texts(Vec<String>);

impl Texts {
    fn add(&mut self, text: String) {
        // The search ignores case and underscores; rustdoc refuses quotes and surrounding blanks.
        let fold = |text: &str| text.replace('_', "").to_lowercase();
        let known = self.0.iter().any(|known| fold(known) == fold(&text));
        let refused = text.contains(['\'', '"']) || text.trim() != text;
        if !known && !refused {
            self.0.push(text);
        }
    }

    fn of_item(&mut self, method: Method, name: &str) {
        let verbs: &[&str] = match method {
            Method::Get => &READ,
            Method::Post => &MAKE,
            Method::Put => &CHANGE,
            Method::Delete => &REMOVE,
        };
        for verb in verbs {
            self.add(format!("{verb} {name}"));
        }
    }

    /// `start vm`, `vm start`; with the verb if a path has several calls.
    fn below(&mut self, method: Method, alone: bool, name: &str, rest: &str) {
        let words = |segment: &str| segment.replace(['-', '_'], " ");
        let literal = |segment: &&str| !segment.is_empty() && !segment.starts_with('{');
        let segments: Vec<String> = rest.split('/').filter(literal).map(words).collect();
        let Some(last) = segments.last() else {
            return;
        };
        let item = rest.ends_with('}');
        let full = segments.join(" ");
        let verbs: &[&str] = match method {
            _ if alone && !item => &[""],
            Method::Get if item => &READ,
            Method::Get => &["", "get", "show"],
            Method::Post => &MAKE,
            Method::Put => &CHANGE,
            Method::Delete => &REMOVE,
        };
        for verb in verbs {
            for text in [&full, last] {
                self.add(format!("{verb} {name} {text}").trim_start().to_owned());
                if verb.is_empty() {
                    self.add(format!("{text} {name}"));
                }
            }
        }
    }
}

fn with_article(name: &str) -> String {
    match name.starts_with(['a', 'e', 'i', 'o']) {
        true => format!("an {name}"),
        false => format!("a {name}"),
    }
}

fn plural(name: &str) -> String {
    match name.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ if name.ends_with('s') => format!("{name}es"),
        _ => format!("{name}s"),
    }
}

fn in_check(check: &Check, names: &mut Vec<String>) {
    match check {
        Check::Or(checks) | Check::And(checks) => {
            for check in checks {
                in_check(check, names);
            }
        }
        Check::Perm { privileges, .. } | Check::UserIdGroup { privileges, .. } => {
            names.extend(privileges.iter().cloned());
        }
        Check::UserIdParam(what) if what != "self" => names.push(what.clone()),
        Check::PermModify(_) => names.push(MODIFY.to_owned()),
        Check::UserIdParam(_) | Check::UserParam(_) | Check::Roles(_) => {}
    }
}

fn in_need(need: &Need, names: &mut Vec<String>) {
    match need {
        Need::And(needs) | Need::Or(needs) => {
            for need in needs {
                in_need(need, names);
            }
        }
        Need::Check(check) => in_check(check, names),
        Need::Root | Need::Other(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(method: Method, alone: bool, name: &str, rest: &str) -> Vec<String> {
        let mut texts = Texts::default();
        texts.below(method, alone, name, rest);
        texts.0
    }

    #[test]
    fn calls_are_found_by_action_and_object() {
        assert_eq!(
            below(Method::Post, true, "vm", "/status/start"),
            ["vm status start", "status start vm", "vm start", "start vm"]
        );
        assert_eq!(
            below(Method::Delete, false, "vm", "/firewall/rules/{pos}")[0],
            "delete vm firewall rules"
        );
        assert!(below(Method::Get, false, "vm", "/config").contains(&"vm config".to_owned()));
        assert!(!below(Method::Put, false, "vm", "/config").contains(&"vm config".to_owned()));
    }

    #[test]
    fn list_calls_are_found_by_the_plural() {
        assert_eq!(plural("vm"), "vms");
        assert_eq!(plural("gateway"), "gateways");
        assert_eq!(plural("policy"), "policies");
        assert_eq!(plural("alias"), "aliases");
    }
}
