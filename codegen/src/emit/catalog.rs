//! The catalog of all calls, from the API and its names.

use super::Emitter;
use super::endpoint::argument_place;
use crate::catalog::{Argument, Call, Catalog};
use crate::ir::{Api, Endpoint, ItemKind, Parameter, Returns, Ty};
use crate::names::{self, Names};
use crate::overlay::Overlay;
use crate::union::Presence;

/// Collects every call.
pub(crate) fn catalog(api: &Api, names: &Names, overlay: &Overlay) -> Catalog {
    let mut emitter = Emitter::new(api, names, overlay);
    Catalog {
        product: api.product,
        synonyms: overlay.synonyms().clone(),
        ranks: overlay.ranks().clone(),
        releases: api.releases.iter().map(ToString::to_string).collect(),
        areas: overlay
            .areas()
            .iter()
            .map(|area| (area.name.clone(), area.about.clone()))
            .collect(),
        calls: api
            .endpoints
            .iter()
            .map(|endpoint| emitter.catalog_call(endpoint))
            .collect(),
    }
}

impl Emitter<'_> {
    fn catalog_call(&mut self, endpoint: &Endpoint) -> Call {
        let mut paragraphs = self.endpoint_text(endpoint);
        // The summary and the key have members of their own.
        paragraphs.drain(..2);
        let answer_type = match &endpoint.returns {
            Returns::Data(ty) => self.item_in(ty),
            _ => None,
        };
        Call {
            verb: endpoint.method.to_string(),
            path: endpoint.path.clone(),
            area: self.path_area(&endpoint.path),
            summary: self.summary(endpoint),
            aliases: self.phrases(endpoint),
            rust: format!("{}.{}.await?", self.api.product, self.rust_call(endpoint)),
            request: super::has_setters(endpoint)
                .then(|| names::request(self.overlay, &endpoint.path, endpoint.method)),
            page: match super::has_setters(endpoint) {
                true => format!(
                    "struct.{}.html",
                    names::request(self.overlay, &endpoint.path, endpoint.method)
                ),
                false => format!(
                    "struct.{}.html#method.{}",
                    names::path_node(self.overlay, &endpoint.path),
                    names::verb(endpoint.method).to_lowercase()
                ),
            },
            answer: self.answer_text(&endpoint.returns),
            answer_type,
            task: matches!(endpoint.returns, Returns::Task { .. }),
            token: endpoint.allowtoken,
            privileges: paragraphs,
            releases: self.indexes(endpoint.presence),
            parameters: endpoint
                .placeholders
                .iter()
                .map(|parameter| (parameter, true))
                .chain(
                    endpoint
                        .parameters
                        .iter()
                        .map(|parameter| (parameter, false)),
                )
                .map(|(parameter, in_path)| self.catalog_argument(endpoint, parameter, in_path))
                .collect(),
        }
    }

    fn catalog_argument(
        &mut self,
        endpoint: &Endpoint,
        parameter: &Parameter,
        in_path: bool,
    ) -> Argument {
        let at = argument_place(endpoint, &parameter.name);
        let about = self.value_text(
            std::slice::from_ref(&at),
            &parameter.name,
            &parameter.facts,
            parameter.presence,
            endpoint.presence,
        );
        let releases = match parameter.presence.covers(endpoint.presence) {
            true => Vec::new(),
            false => self.indexes(parameter.presence),
        };
        Argument {
            name: parameter.name.clone(),
            in_path,
            required: in_path || parameter.required,
            ty: self.type_text(&parameter.ty),
            about,
            values: self.known_values(&parameter.ty),
            releases,
        }
    }

    fn indexes(&self, presence: Presence) -> Vec<usize> {
        (0..self.api.releases.len())
            .filter(|index| presence.has(*index))
            .collect()
    }

    fn answer_text(&self, returns: &Returns) -> String {
        match returns {
            Returns::Nothing => "nothing".to_owned(),
            Returns::Data(ty) => self.type_text(ty),
            Returns::Task { optional: false } => "a task".to_owned(),
            Returns::Task { optional: true } => {
                "a task, or nothing if the call completed with the answer".to_owned()
            }
            Returns::Bytes => "bytes".to_owned(),
        }
    }

    fn type_text(&self, ty: &Ty) -> String {
        match ty {
            Ty::Boolean => "boolean".to_owned(),
            Ty::Integer => "integer".to_owned(),
            Ty::GuestNumber => "guest number".to_owned(),
            Ty::Bytes => "bytes".to_owned(),
            Ty::Time => "time".to_owned(),
            Ty::Number => "number".to_owned(),
            Ty::Text => "text".to_owned(),
            Ty::TextType(name) => name.clone(),
            Ty::Secret => "secret".to_owned(),
            Ty::Json => "any JSON".to_owned(),
            Ty::List(of) | Ty::Array(of) => format!("list of {}", self.type_text(of)),
            Ty::Map(of) => format!("map to {}", self.type_text(of)),
            Ty::Optional(of) | Ty::Pending(of) => self.type_text(of),
            Ty::Item(id) => self.names.items[*id].clone(),
        }
    }

    fn item_in(&self, ty: &Ty) -> Option<(String, String)> {
        match ty {
            Ty::List(of) | Ty::Array(of) | Ty::Map(of) | Ty::Optional(of) | Ty::Pending(of) => {
                self.item_in(of)
            }
            Ty::Item(id) => {
                let kind = match &self.api.items[*id].kind {
                    ItemKind::Enum(_) => "enum",
                    ItemKind::PropertyString(_) | ItemKind::Struct(_) => "struct",
                };
                let page = format!("{kind}.{}", self.names.items[*id]);
                Some((self.item_areas[*id].clone(), page))
            }
            _ => None,
        }
    }

    fn known_values(&self, ty: &Ty) -> Vec<String> {
        match ty {
            Ty::List(of) | Ty::Array(of) | Ty::Optional(of) | Ty::Pending(of) => {
                self.known_values(of)
            }
            Ty::Item(id) => match &self.api.items[*id].kind {
                ItemKind::Enum(values) => values.iter().map(|(text, _)| text.clone()).collect(),
                ItemKind::PropertyString(string) => string
                    .members
                    .iter()
                    .map(|member| format!("{}=", member.name))
                    .collect(),
                ItemKind::Struct(_) => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}
