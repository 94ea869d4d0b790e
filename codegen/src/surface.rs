//! The public interface of the generated crate, for finding what a new release breaks.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;

/// Public things by their path, such as `qemu::QemuConfig::cores`, with their type or signature.
pub type Surface = BTreeMap<String, String>;

/// Collects the public interface of generated files.
///
/// # Errors
/// The name of a file that is not Rust.
pub fn collect(files: &BTreeMap<String, String>) -> Result<Surface, String> {
    let mut surface = Surface::new();
    for (name, text) in files {
        let file = syn::parse_file(text).map_err(|error| format!("{name}: {error}"))?;
        let module = name.trim_end_matches(".rs");
        for item in &file.items {
            add(item, module, &mut surface);
        }
    }
    Ok(surface)
}

fn add(item: &syn::Item, module: &str, surface: &mut Surface) {
    match item {
        syn::Item::Struct(item) => {
            let name = format!("{module}::{}", item.ident);
            for field in item.fields.iter().filter(|field| is_public(&field.vis)) {
                if let Some(field_name) = &field.ident {
                    surface.insert(format!("{name}::{field_name}"), text(&field.ty));
                }
            }
            surface.insert(name, "struct".to_owned());
        }
        syn::Item::Enum(item) => {
            let name = format!("{module}::{}", item.ident);
            for variant in &item.variants {
                surface.insert(format!("{name}::{}", variant.ident), "variant".to_owned());
            }
            surface.insert(name, "enum".to_owned());
        }
        syn::Item::Impl(item) if item.trait_.is_none() => {
            let holder = text(&item.self_ty).replace(' ', "");
            for member in &item.items {
                if let syn::ImplItem::Fn(function) = member
                    && is_public(&function.vis)
                {
                    let name = &function.sig.ident;
                    let mut signature = text(&function.sig);
                    let sent = wire_names(&function.block);
                    if !sent.is_empty() {
                        signature.push_str(&format!(" sends {}", sent.join(", ")));
                    }
                    surface.insert(format!("{module}::{holder}::{name}"), signature);
                }
            }
        }
        syn::Item::Impl(item) => {
            // The type of an awaited request is part of its signature.
            for member in &item.items {
                if let syn::ImplItem::Type(output) = member {
                    let holder = text(&item.self_ty);
                    surface.insert(
                        format!("{module}::{holder}::{}", output.ident),
                        text(&output.ty),
                    );
                }
            }
        }
        _ => {}
    }
}

/// The texts that a function passes on: the names that it sends. Those of constants describe the
/// endpoint.
fn wire_names(block: &syn::Block) -> Vec<String> {
    fn literals(tokens: proc_macro2::TokenStream, found: &mut Vec<String>) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => literals(group.stream(), found),
                proc_macro2::TokenTree::Literal(literal) => {
                    let literal = literal.to_string();
                    if literal.starts_with('"') {
                        found.push(literal);
                    }
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    for statement in &block.stmts {
        if !matches!(statement, syn::Stmt::Item(_)) {
            literals(statement.to_token_stream(), &mut found);
        }
    }
    found
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}

/// Changes that can break code for the old interface, and the number of additions.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub added: usize,
    /// One line each.
    pub breaks: Vec<String>,
}

/// Compares two interfaces.
pub fn compare(old: &Surface, new: &Surface) -> Change {
    let gone: BTreeSet<&String> = old.keys().filter(|name| !new.contains_key(*name)).collect();
    let mut breaks: Vec<String> = gone
        .iter()
        // Members of removed items are not listed.
        .filter(|name| {
            !name
                .rsplit_once("::")
                .is_some_and(|(holder, _)| gone.contains(&holder.to_owned()))
        })
        .map(|name| format!("`{name}` is gone"))
        .collect();
    breaks.extend(old.iter().filter_map(|(name, was)| {
        let is = new.get(name).filter(|is| *is != was)?;
        Some(format!("`{name}`: `{}` is now `{}`", tidy(was), tidy(is)))
    }));
    Change {
        added: new.keys().filter(|name| !old.contains_key(*name)).count(),
        breaks,
    }
}

/// Tokens in the usual notation.
fn tidy(tokens: &str) -> String {
    tokens
        .replace(" :: ", "::")
        .replace(" < ", "<")
        .replace(" >", ">")
        .replace(" ,", ",")
        .replace("& ", "&")
        .replace(" (", "(")
        .replace("( ", "(")
        .replace(" )", ")")
        .replace(" :", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(text: &str) -> Surface {
        collect(&BTreeMap::from([("a.rs".to_owned(), text.to_owned())])).unwrap()
    }

    #[test]
    fn a_setter_with_another_wire_name_is_a_breaking_change() {
        let old = surface(r#"impl S { pub fn limit(self) -> Self { self.set("max_workers") } }"#);
        let new = surface(r#"impl S { pub fn limit(self) -> Self { self.set("max-workers") } }"#);
        assert_eq!(
            compare(&old, &new).breaks,
            [
                "`a::S::limit`: `fn limit(self) -> Self sends \"max_workers\"` is now `fn limit(self) -> Self sends \"max-workers\"`"
            ]
        );
    }

    #[test]
    fn only_changes_that_affect_existing_code_are_breaking() {
        let old = surface(
            "pub struct S { pub a: i64, pub b: String, hidden: u8 } impl S { pub fn f(&self) {} }
             pub enum E { One } pub struct Gone { pub x: i64 }",
        );
        let new = surface(
            "pub struct S { pub a: Option<i64>, pub b: String, pub c: bool } impl S { pub fn f(&self, n: i64) {} }
             pub enum E { One, Two }",
        );
        let change = compare(&old, &new);
        assert_eq!(change.added, 2, "S::c and E::Two");
        assert_eq!(
            change.breaks,
            [
                "`a::Gone` is gone",
                "`a::S::a`: `i64` is now `Option<i64>`",
                "`a::S::f`: `fn f(&self)` is now `fn f(&self, n: i64)`",
            ]
        );
    }
}
