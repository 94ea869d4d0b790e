//! From the API and its names to files.

mod catalog;
mod docs;
mod endpoint;
mod example;
mod expectations;
mod item;
mod links;
mod openapi;
mod permissions;
mod sample;
mod search;

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::facts::Facts;
use crate::ir::Api;
use crate::names::{self, Names};
use crate::overlay::{Area, Overlay};
use crate::place::Place;
use crate::render;
use crate::union::Presence;

pub(crate) use catalog::catalog;
pub(crate) use endpoint::has_setters;
pub(crate) use expectations::expectations;
pub(crate) use openapi::openapi;

/// The home of items that several areas share.
const SHARED: &str = "types";

/// The module that lists all calls.
const INDEX: &str = "index";

/// The home of code outside of the generated crate.
const OUTSIDE: &str = "";

/// The emitted files.
#[derive(Debug)]
pub(crate) struct Emitted {
    /// By path below the generated folder.
    pub(crate) files: BTreeMap<String, String>,
    /// Feature and the features it needs, for the crate's manifest.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// Endpoints without a summary.
    pub(crate) undescribed: BTreeSet<String>,
    /// Fields, keys and parameters.
    pub(crate) documented: usize,
    /// Those of them without words.
    pub(crate) undocumented: usize,
    /// Their places.
    pub(crate) undocumented_places: BTreeSet<String>,
}

pub(crate) struct Emitter<'a> {
    api: &'a Api,
    names: &'a Names,
    overlay: &'a Overlay,
    /// The source of values in examples.
    releases: &'a [Facts],
    item_areas: Vec<String>,
    /// The area being written.
    current: String,
    undescribed: BTreeSet<String>,
    documented: usize,
    undocumented: usize,
    undocumented_places: BTreeSet<String>,
}

/// Writes every file.
pub(crate) fn emit(api: &Api, names: &Names, overlay: &Overlay, releases: &[Facts]) -> Emitted {
    let mut emitter = Emitter::new(api, names, overlay);
    emitter.releases = releases;
    let mut files = BTreeMap::new();
    let mut features = BTreeMap::new();
    let mut modules = Vec::new();
    for area in overlay.areas() {
        let body = emitter.area(&area.name);
        files.insert(
            format!("{}.rs", area.name),
            render::file(&emitter.area_text(area), &body, overlay),
        );
        let module = ident(&area.name);
        if area.always {
            modules.push(quote!(pub mod #module;));
            continue;
        }
        let feature = area.name.replace('_', "-");
        modules.push(quote! {
            #[cfg(feature = #feature)]
            pub mod #module;
        });
        // The methods to a path are in the areas of the paths above it.
        let above = area.prefix.rsplit_once('/').map_or("", |(above, _)| above);
        let needs = overlay
            .area(above)
            .filter(|above| !above.always && above.name != area.name);
        features.insert(
            feature,
            needs
                .map(|above| above.name.replace('_', "-"))
                .into_iter()
                .collect(),
        );
    }
    let body = emitter.area(SHARED);
    files.insert(
        format!("{SHARED}.rs"),
        render::file(
            &["Types that several areas share.".to_owned()],
            &body,
            overlay,
        ),
    );
    files.insert(format!("{INDEX}.rs"), emitter.index_file());
    files.insert("mod.rs".to_owned(), root_file(api, overlay, &modules));
    Emitted {
        files,
        features,
        undescribed: emitter.undescribed,
        documented: emitter.documented,
        undocumented: emitter.undocumented,
        undocumented_places: emitter.undocumented_places,
    }
}

/// The module with the path tree's root, which declares all other modules.
fn root_file(api: &Api, overlay: &Overlay, modules: &[TokenStream]) -> String {
    let (shared, index) = (ident(SHARED), ident(INDEX));
    let releases = api.releases.iter().map(|release| {
        let (major, minor) = (release.major, release.minor);
        let major = proc_macro2::Literal::u8_unsuffixed(major);
        let minor = proc_macro2::Literal::u8_unsuffixed(minor);
        quote!(Release::new(#major, #minor))
    });
    let about_releases = format!(
        " The {} releases whose schemas this crate is made of, oldest first.",
        api.product.title
    );
    let root = quote! {
        #(#modules)*
        pub mod #shared;

        #[cfg(doc)]
        pub mod #index;

        use crate::support::{PathNode, Client, Release};

        #[doc = #about_releases]
        pub const RELEASES: &[Release] = &[#(#releases),*];

        /// The root of the path tree.
        #[derive(Clone, Debug)]
        pub struct Root(pub(crate) PathNode);

        impl Root {
            /// A tree without a client: its requests are plain values, to be sent with
            /// [`Client::send`](crate::Client::send).
            #[must_use]
            pub fn detached() -> Self {
                Self(PathNode::root(None))
            }
        }

        impl Client {
            /// The path tree, bound to this client.
            #[must_use]
            pub fn api(&self) -> Root {
                Root(PathNode::root(Some(self)))
            }
        }
    };
    let about = [
        "Every endpoint: the path tree, its requests and their types, by area.",
        "",
        "[`index`] lists all calls by their path, and each area those of its own.",
    ];
    let about = about.map(str::to_owned);
    render::file(&about, &root, overlay)
}

/// A name that `check` refused is replaced: nothing is written then, but further problems are
/// found.
pub(crate) fn ident(name: &str) -> Ident {
    let name = match names::is_plain(name) {
        true => name,
        false => "refused",
    };
    Ident::new(name, proc_macro2::Span::call_site())
}

impl<'a> Emitter<'a> {
    fn new(api: &'a Api, names: &'a Names, overlay: &'a Overlay) -> Self {
        let mut emitter = Self {
            api,
            names,
            overlay,
            releases: &[],
            item_areas: Vec::new(),
            current: OUTSIDE.to_owned(),
            undescribed: BTreeSet::new(),
            documented: 0,
            undocumented: 0,
            undocumented_places: BTreeSet::new(),
        };
        emitter.item_areas = api
            .items
            .iter()
            .map(|item| emitter.home(&item.places))
            .collect();
        emitter
    }
}

impl Emitter<'_> {
    /// The module of the generated code, and the name of the client in examples.
    fn module(&self) -> Ident {
        ident(self.api.product.name)
    }

    /// The page that lists all calls.
    fn index_file(&mut self) -> String {
        INDEX.clone_into(&mut self.current);
        let mut about = vec![
            "All calls of the API, by path.".to_owned(),
            String::new(),
            "Each leads to the page that says what it does, takes, gives and needs. The code starts at a [`Client`](crate::Client). \
             Dots stand for privileges that only some calls need.".to_owned(),
            String::new(),
        ];
        about.extend(self.table_of_calls(None));
        render::file(&about, &TokenStream::new(), self.overlay)
    }

    fn all_releases(&self) -> Presence {
        self.api
            .endpoints
            .iter()
            .fold(Presence::default(), |all, endpoint| {
                all.or(endpoint.presence)
            })
    }

    fn path_area(&self, path: &str) -> String {
        self.overlay
            .area(path)
            .map(|area| area.name.clone())
            .unwrap_or_default()
    }

    /// The area of all places, or the shared one.
    fn home(&self, places: &[Place]) -> String {
        let areas: BTreeSet<String> = places.iter().map(|at| self.path_area(&at.path)).collect();
        match areas.into_iter().collect::<Vec<_>>().as_slice() {
            [only] => only.clone(),
            _ => SHARED.to_owned(),
        }
    }

    /// The head of an area's module: its description, and its calls.
    fn area_text(&mut self, area: &Area) -> Vec<String> {
        area.name.clone_into(&mut self.current);
        let mut lines = vec![area.about.clone(), String::new()];
        lines.extend(self.table_of_calls(Some(&area.name)));
        lines
    }

    fn area(&mut self, name: &str) -> TokenStream {
        name.clone_into(&mut self.current);
        let mut paths: BTreeSet<&str> = BTreeSet::new();
        let api = self.api;
        for endpoint in &api.endpoints {
            let mut path = endpoint.path.as_str();
            while !path.is_empty() {
                if self.path_area(path) == name {
                    paths.insert(path);
                } else if self.path_area(path).is_empty() && path.rfind('/') == Some(0) {
                    self.overlay.problem(format!(
                        "{path} belongs to no area of areas.toml: `[[area]]`, `name = \"…\"`, `prefix = \"{path}\"`, \
                         `about = \"What it is.\"`"
                    ));
                }
                path = path.rfind('/').map_or("", |cut| &path[..cut]);
            }
        }
        let nodes: Vec<TokenStream> = paths.into_iter().map(|path| self.path_node(path)).collect();
        let mut items: Vec<usize> = (0..api.items.len())
            .filter(|id| self.item_areas[*id] == name)
            .collect();
        items.sort_by(|left, right| self.names.items[*left].cmp(&self.names.items[*right]));
        let items: Vec<TokenStream> = items.into_iter().map(|id| self.item(id)).collect();
        quote! {
            use crate::support::*;

            #(#nodes)*
            #(#items)*
        }
    }
}
