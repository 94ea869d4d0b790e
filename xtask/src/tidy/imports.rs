//! Imports between the files of a crate, read from its paths.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path in one file that leads to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) from: String,
    pub(super) line: usize,
    pub(super) to: String,
    /// The resolved path, for messages.
    pub(super) path: String,
}

/// The imports between the files of a crate, given by their paths below its source folder. Tests do
/// not count.
pub(super) fn of(files: &BTreeMap<String, String>) -> Result<Vec<Import>, String> {
    let mut modules = BTreeMap::new();
    for (file, text) in files {
        if is_test(file) {
            continue;
        }
        let parsed = syn::parse_file(text)
            .map_err(|error| format!("{file}:{}: {error}", error.span().start().line))?;
        let mut module = Module::new(file, module_path(file));
        module.visit_file(&parsed);
        modules.insert(module.path.clone(), module);
    }
    // A module with `#[path]` is found by the file that it names.
    let renamed: Vec<(Vec<String>, Vec<String>)> = modules
        .values()
        .flat_map(|module| &module.renamed)
        .cloned()
        .collect();
    for (declared, by_file) in renamed {
        let below: Vec<Vec<String>> = modules
            .keys()
            .filter(|path| path.starts_with(&by_file))
            .cloned()
            .collect();
        for old in below {
            if let Some(mut module) = modules.remove(&old) {
                let mut new = declared.clone();
                new.extend_from_slice(&old[by_file.len()..]);
                for (path, _) in &mut module.uses {
                    if path.starts_with(&old) {
                        path.splice(..old.len(), new.iter().cloned());
                    }
                }
                module.path.clone_from(&new);
                modules.insert(new, module);
            }
        }
    }
    let tests: Vec<Vec<String>> = modules
        .values()
        .flat_map(|module| &module.tests)
        .cloned()
        .collect();
    modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
    let mut imports = Vec::new();
    let mut seen = BTreeSet::new();
    for module in modules.values() {
        for (path, line) in &module.uses {
            let Some(target) = resolve(&modules, path, 0) else {
                continue;
            };
            if target.file != module.file && seen.insert((&module.file, &target.file)) {
                imports.push(Import {
                    from: module.file.clone(),
                    line: *line,
                    to: target.file.clone(),
                    path: format!("crate::{}", path.join("::")),
                });
            }
        }
    }
    Ok(imports)
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("tests/")
}

/// `client/auth.rs` is `client::auth`, and `client/mod.rs` is `client`.
fn module_path(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
    {
        path.pop();
    }
    path
}

/// The file that defines the target of a path: re-exports are followed.
fn resolve<'a>(
    modules: &'a BTreeMap<Vec<String>, Module>,
    path: &[String],
    depth: usize,
) -> Option<&'a Module> {
    let (length, module) = (0..=path.len())
        .rev()
        .find_map(|length| modules.get(&path[..length]).map(|module| (length, module)))?;
    let Some(name) = path.get(length) else {
        return Some(module);
    };
    match module.reexports.get(name) {
        Some(target) if depth < 8 => {
            let mut target = target.clone();
            target.extend_from_slice(&path[length + 1..]);
            resolve(modules, &target, depth + 1)
        }
        // Items of the crate's root itself belong to no layer.
        _ if length == 0 => None,
        _ => Some(module),
    }
}

/// One file.
#[derive(Debug)]
struct Module {
    file: String,
    path: Vec<String>,
    children: BTreeSet<String>,
    /// Paths from the crate's root, with their lines.
    uses: Vec<(Vec<String>, usize)>,
    /// Names that are public here and defined elsewhere.
    reexports: BTreeMap<String, Vec<String>>,
    /// Modules below it that exist in tests only.
    tests: Vec<Vec<String>>,
    /// Modules that `#[path]` takes from another file: path as declared, path by file.
    renamed: Vec<(Vec<String>, Vec<String>)>,
}

impl Module {
    fn new(file: &str, path: Vec<String>) -> Self {
        Self {
            file: file.to_owned(),
            path,
            children: BTreeSet::new(),
            uses: Vec::new(),
            reexports: BTreeMap::new(),
            tests: Vec::new(),
            renamed: Vec::new(),
        }
    }

    /// From the crate's root, if the path is one of this crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut rest = path;
        let mut base = match rest.first()?.as_str() {
            "crate" => {
                rest = &rest[1..];
                Vec::new()
            }
            "self" => {
                rest = &rest[1..];
                self.path.clone()
            }
            "super" => self.path.clone(),
            child if self.children.contains(child) => self.path.clone(),
            _ => return None,
        };
        while rest.first().is_some_and(|part| part == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn note(&mut self, path: &[String], span: Span) {
        if let Some(path) = self.absolute(path) {
            self.uses.push((path, span.start().line));
        }
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String], public: bool) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.tree(&part.tree, &path, public);
            }
            syn::UseTree::Name(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.used(&path, &name.ident.to_string(), name.ident.span(), public);
            }
            syn::UseTree::Rename(name) => {
                if name.ident != "self" {
                    path.push(name.ident.to_string());
                }
                self.used(&path, &name.rename.to_string(), name.ident.span(), public);
            }
            syn::UseTree::Glob(glob) => self.note(&path, glob.star_token.spans[0]),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(tree, &path, public);
                }
            }
        }
    }

    /// A module that re-exports the items of its parts does not depend on them for it.
    fn used(&mut self, path: &[String], name: &str, span: Span, public: bool) {
        let Some(target) = self.absolute(path) else {
            return;
        };
        let own = target.len() > self.path.len() && target.starts_with(&self.path);
        if public {
            self.reexports.insert(name.to_owned(), target.clone());
        }
        if !(public && own) {
            self.uses.push((target, span.start().line));
        }
    }

    /// Paths in the text of macros, which is not parsed.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut parts: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if parts.is_empty() || colons != 2 {
                        self.macro_path(&mut parts, start);
                        start = ident.span();
                    }
                    parts.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.macro_path(&mut parts, start);
                    self.tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.macro_path(&mut parts, start);
                    colons = 0;
                }
            }
        }
        self.macro_path(&mut parts, start);
    }

    fn macro_path(&mut self, parts: &mut Vec<String>, span: Span) {
        if parts.len() > 1 && ["crate", "super"].contains(&parts[0].as_str()) {
            self.note(&parts.clone(), span);
        }
        parts.clear();
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Meta>()
                .is_ok_and(|condition| needs_test(&condition))
    })
}

/// Whether a condition can only be true in tests: `test`, or `all(test, …)`.
fn needs_test(condition: &syn::Meta) -> bool {
    match condition {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(
                syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated,
            )
            .is_ok_and(|conditions| conditions.iter().any(needs_test)),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_file(&mut self, file: &'ast syn::File) {
        for item in &file.items {
            if let syn::Item::Mod(item) = item {
                let name = item.ident.to_string();
                match is_for_tests(&item.attrs) {
                    true => self.tests.push([self.path.clone(), vec![name]].concat()),
                    false => {
                        self.children.insert(name);
                    }
                }
            }
        }
        visit::visit_file(self, file);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        for attribute in &item.attrs {
            if attribute.path().is_ident("path")
                && let syn::Meta::NameValue(meta) = &attribute.meta
                && let syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(file),
                    ..
                }) = &meta.value
            {
                let mut declared = self.path.clone();
                declared.push(item.ident.to_string());
                self.renamed.push((declared, module_path(&file.value())));
            }
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            let public = !matches!(item.vis, syn::Visibility::Inherited);
            self.tree(&item.tree, &[], public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if parts.len() > 1
            && let Some(first) = path.segments.first()
        {
            self.note(&parts, first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.tokens(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let files = files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect();
        let imports = of(&files).unwrap_or_default();
        imports
            .iter()
            .map(|import| format!("{}:{} {}", import.from, import.line, import.to))
            .collect()
    }

    #[test]
    fn use_lines_paths_and_macro_texts_are_imports() {
        let found = edges(&[
            ("a.rs", "use crate::b::{B, c::C};\nfn f() { crate::d::g() }"),
            ("b.rs", "pub mod c;\npub struct B;"),
            ("b/c.rs", "use super::B;\npub struct C;"),
            (
                "d.rs",
                "macro_rules! m {\n() => { $crate::a::f() };\n}\npub fn g() {}",
            ),
        ]);
        assert_eq!(
            found,
            [
                "a.rs:1 b.rs",
                "a.rs:1 b/c.rs",
                "a.rs:2 d.rs",
                "b/c.rs:1 b.rs",
                "d.rs:2 a.rs"
            ]
        );
    }

    #[test]
    fn reexports_are_followed_to_the_definition() {
        let found = edges(&[
            ("lib.rs", "mod a; mod b; pub use b::deep::D;"),
            ("a.rs", "use crate::D;\nuse crate::b::D as E;"),
            ("b.rs", "mod deep;\npub use deep::D;"),
            ("b/deep.rs", "pub struct D;"),
        ]);
        assert_eq!(found, ["a.rs:1 b/deep.rs"]);
    }

    #[test]
    fn tests_may_import_anything() {
        let found = edges(&[
            (
                "a.rs",
                "pub fn f() {}\n#[cfg(test)]\nmod tests { use crate::b::g; }",
            ),
            ("b.rs", "pub fn g() {}"),
            ("b/tests.rs", "use crate::a::f;"),
            ("c.rs", "#[cfg(all(test, feature = \"x\"))]\nmod against_b;"),
            ("c/against_b.rs", "use crate::b::g;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_module_from_another_file_has_its_declared_path() {
        let found = edges(&[
            (
                "lib.rs",
                "#[path = \"generated/mod.rs\"]\npub mod pve;\nmod a;",
            ),
            ("generated/mod.rs", "pub mod nodes;"),
            ("generated/nodes.rs", "use crate::a::f;"),
            ("a.rs", "pub fn f() {}\nfn g() { crate::pve::nodes::h() }"),
        ]);
        assert_eq!(
            found,
            ["a.rs:2 generated/nodes.rs", "generated/nodes.rs:1 a.rs"]
        );
    }
}
