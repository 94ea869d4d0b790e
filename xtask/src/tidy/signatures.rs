//! Types of other crates in public signatures.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

/// Crates whose types are an implementation detail of the library.
const INTERNAL: &[&str] = &[
    "http",
    "http_body_util",
    "hyper",
    "hyper_util",
    "ring",
    "rustls",
    "tokio_rustls",
    "tokio_websockets",
];

/// Public signatures of a crate that name a type of an internal crate.
pub(super) fn violations(sources: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for (file, text) in sources {
        if file.ends_with("tests.rs") || file.contains("tests/") {
            continue;
        }
        let parsed = syn::parse_file(text).map_err(|error| format!("{file}: {error}"))?;
        let mut imports = Imports::default();
        imports.visit_file(&parsed);
        let mut signatures = Signatures {
            file,
            imported: imports.names,
            problems: &mut problems,
        };
        signatures.visit_file(&parsed);
    }
    Ok(problems)
}

fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Local names of types of internal crates.
#[derive(Default)]
struct Imports {
    names: BTreeSet<String>,
}

impl Imports {
    fn tree(&mut self, tree: &syn::UseTree, internal: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                let internal = internal || is_internal(&path.ident.to_string());
                self.tree(&path.tree, internal);
            }
            syn::UseTree::Group(group) => {
                group
                    .items
                    .iter()
                    .for_each(|tree| self.tree(tree, internal));
            }
            syn::UseTree::Name(name) if internal => drop(self.names.insert(name.ident.to_string())),
            syn::UseTree::Rename(name) if internal => {
                self.names.insert(name.rename.to_string());
            }
            _ => {}
        }
    }
}

impl Visit<'_> for Imports {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        let first = match &item.tree {
            syn::UseTree::Path(path) => path.ident.to_string(),
            _ => return,
        };
        if is_internal(&first) {
            self.tree(&item.tree, true);
        }
    }
}

struct Signatures<'a> {
    file: &'a str,
    imported: BTreeSet<String>,
    problems: &'a mut Vec<String>,
}

impl Signatures<'_> {
    fn check(&mut self, what: &str, types: impl FnOnce(&mut Types)) {
        let mut found = Types::default();
        types(&mut found);
        for (first, line) in found.first {
            if is_internal(&first) || self.imported.contains(&first) {
                self.problems.push(format!(
                    "{}:{line}: the public signature of `{what}` names `{first}`, a type of an internal crate",
                    self.file
                ));
            }
        }
    }
}

/// The first segments of all paths.
#[derive(Default)]
struct Types {
    first: Vec<(String, usize)>,
}

impl Visit<'_> for Types {
    fn visit_path(&mut self, path: &syn::Path) {
        if let Some(segment) = path.segments.first() {
            let line = segment.ident.span().start().line;
            self.first.push((segment.ident.to_string(), line));
        }
        visit::visit_path(self, path);
    }
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

impl Visit<'_> for Signatures<'_> {
    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        if is_public(&item.vis) {
            let name = item.sig.ident.to_string();
            self.check(&name, |types| types.visit_signature(&item.sig));
        }
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        if is_public(&item.vis) {
            let name = item.sig.ident.to_string();
            self.check(&name, |types| types.visit_signature(&item.sig));
        }
    }

    fn visit_item_struct(&mut self, item: &syn::ItemStruct) {
        if is_public(&item.vis) {
            let name = item.ident.to_string();
            let fields = item.fields.iter().filter(|field| is_public(&field.vis));
            let types: Vec<&syn::Type> = fields.map(|field| &field.ty).collect();
            self.check(&name, |found| {
                types.iter().for_each(|ty| found.visit_type(ty))
            });
        }
    }

    fn visit_item_enum(&mut self, item: &syn::ItemEnum) {
        if is_public(&item.vis) {
            let name = item.ident.to_string();
            self.check(&name, |types| {
                item.variants
                    .iter()
                    .for_each(|variant| types.visit_fields(&variant.fields));
            });
        }
    }

    fn visit_item_type(&mut self, item: &syn::ItemType) {
        if is_public(&item.vis) {
            let name = item.ident.to_string();
            self.check(&name, |types| types.visit_type(&item.ty));
        }
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        if is_public(&item.vis) {
            for method in &item.items {
                if let syn::TraitItem::Fn(method) = method {
                    let name = method.sig.ident.to_string();
                    self.check(&name, |types| types.visit_signature(&method.sig));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_type_is_found_and_a_private_one_is_not() {
        let text = "use hyper::body::Incoming;\n\
                    pub fn planted(body: Vec<Incoming>) {}\n\
                    pub(crate) fn inner(body: Incoming) {}\n\
                    pub struct Named { pub status: http::StatusCode, pool: Incoming }\n";
        let sources = BTreeMap::from([("client.rs".to_owned(), text.to_owned())]);
        let found = violations(&sources).expect("it parses");
        let starts = [
            "client.rs:2: the public signature of `planted`",
            "client.rs:4: the public signature of `Named`",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(
            found
                .iter()
                .zip(starts)
                .all(|(found, start)| found.starts_with(start)),
            "{found:?}"
        );
    }
}
