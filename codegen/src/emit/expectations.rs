//! The expectations of `tests/e2e`: for every endpoint a request with all parameters set, and its
//! expected parameters on the wire; for every answer its shape and a function that reads its
//! decoded values.
//!
//! The expected parameters come from the facts, without the crate's own encoding.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use heck::ToSnakeCase;
use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use serde_json::{Value, json};

use super::{Emitter, ident, item, sample};
use crate::facts::{Facts, Format, Schema, Schemas};
use crate::ir::{Endpoint, ItemKind, Member, Parameter, PropertyString, Returns, Ty};
use crate::names::{self, Names};
use crate::overlay::Overlay;
use crate::render;

/// Writes every file, by path below the generated folder of the tests.
pub(crate) fn expectations(
    api: &crate::ir::Api,
    names: &Names,
    overlay: &Overlay,
    releases: &[Facts],
) -> BTreeMap<String, String> {
    let emitter = Emitter::new(api, names, overlay);
    let mut files = BTreeMap::new();
    let (calls, requests) = emitter.requests(releases);
    let about =
        "Every endpoint called with everything it takes; requests.json has what must arrive.";
    files.insert(
        "requests.rs".to_owned(),
        render::file(&[about.to_owned()], &calls, overlay),
    );
    files.insert("requests.json".to_owned(), requests);
    files.insert(
        "answers.rs".to_owned(),
        render::file(
            &["How to decode the answer of every endpoint and to look into it.".to_owned()],
            &emitter.answers(),
            overlay,
        ),
    );
    files.insert(
        "settings.rs".to_owned(),
        render::file(
            &["Every answer that a request takes as a whole, set as a whole and member by member.".to_owned()],
            &emitter.write_backs(releases),
            overlay,
        ),
    );
    files.insert("shapes.json".to_owned(), emitter.shapes());
    files
}

/// A value in Rust, and its expected form on the wire.
pub(super) struct Sample {
    pub(super) code: TokenStream,
    sent: Sent,
}

pub(super) enum Sent {
    One(String),
    /// A property string, its parts in any order.
    Parts(Vec<String>),
    Many(Vec<Sent>),
}

impl Sent {
    /// A text, the parts of one as an object, or several as an array.
    fn json(&self) -> Value {
        match self {
            Self::One(text) => json!(text),
            Self::Parts(parts) => json!({ "parts": parts }),
            Self::Many(all) => all.iter().map(Self::json).collect(),
        }
    }

    fn one(code: TokenStream, text: impl Into<String>) -> Sample {
        Sample {
            code,
            sent: Self::One(text.into()),
        }
    }
}

/// The schema around a value.
pub(super) struct SampleContext<'a> {
    pub(super) formats: &'a BTreeMap<String, Schemas>,
    pub(super) siblings: &'a Schemas,
    /// The facts of older releases, for values that the newest one lacks.
    pub(super) earlier: &'a [Facts],
    /// The separator of a list in one text.
    pub(super) separator: char,
    /// The value is a key of a property string.
    pub(super) inside: bool,
    /// The property string, if the value is one of its keys.
    pub(super) owner: &'a str,
    /// The value is part of the path.
    pub(super) path: bool,
    /// If the value is for people, plain and short: the types that it names.
    pub(super) named_types: Option<&'a RefCell<BTreeSet<usize>>>,
}

impl SampleContext<'_> {
    /// The tagged alternative that matches the tag's sample.
    fn choose<'s>(&self, schema: &'s Schema) -> &'s Schema {
        let Some(choices) = &schema.one_of else {
            return schema;
        };
        let tag = schema
            .type_property
            .as_ref()
            .and_then(|name| self.siblings.get(name)?.values.as_ref()?.first());
        let fits = |choice: &&Schema| {
            let types = choice.instance_types.iter().flatten();
            tag.is_some_and(|tag| types.into_iter().any(|ty| ty == tag))
        };
        choices
            .iter()
            .find(fits)
            .or(choices.first())
            .unwrap_or(schema)
    }

    fn keys<'s>(&'s self, schema: &'s Schema) -> Option<&'s Schemas> {
        match schema.format.as_ref()? {
            Format::Keys(keys) => Some(keys),
            Format::Name(name) => self.formats.get(name),
            Format::List(_) => None,
        }
    }
}

/// The context of an endpoint's parameters.
fn context<'a>(
    endpoint: &Endpoint,
    releases: &'a [Facts],
    empty: &'a Schemas,
) -> SampleContext<'a> {
    let facts = &releases[endpoint.presence.last()];
    let known = (facts.endpoints.get(&endpoint.path))
        .and_then(|methods| methods.get(&endpoint.method))
        .map(|endpoint| &endpoint.parameters.properties);
    SampleContext {
        formats: &facts.formats,
        siblings: known.unwrap_or(empty),
        earlier: releases,
        separator: ',',
        inside: false,
        owner: "",
        path: false,
        named_types: None,
    }
}

impl Emitter<'_> {
    /// The code of all calls, and as JSON the expected requests, one parameter a line.
    fn requests(&self, releases: &[Facts]) -> (TokenStream, String) {
        let mut functions = Vec::new();
        let mut calls = Vec::new();
        let mut requests = Vec::new();
        let empty = Schemas::new();
        for endpoint in &self.api.endpoints {
            let facts = &releases[endpoint.presence.last()];
            let context = context(endpoint, releases, &empty);
            let (function, path, sent) = self.complete(endpoint, &context);
            let name = ident(
                &names::request(self.overlay, &endpoint.path, endpoint.method).to_snake_case(),
            );
            functions.push(quote! {
                fn #name() -> Call {
                    #function.call().clone()
                }
            });
            let key = endpoint.key();
            calls.push(quote!((#key, #name)));
            // Omitted for the newest release, so that a further release changes one line and not
            // all.
            let release = match endpoint.presence.has(releases.len() - 1) {
                true => String::new(),
                false => format!(", \"release\": {}", json!(facts.release.to_string())),
            };
            let sent: Vec<String> = sent.iter().map(|sent| format!("\n {sent}")).collect();
            requests.push(format!(
                "{}: {{\"path\": {}{release}, \"parameters\": [{}]}}",
                json!(key),
                json!(path),
                sent.join(",")
            ));
        }
        let newest = releases.last().map(|facts| facts.release.to_string());
        let module = self.module();
        let calls = quote! {
            use proxmox_api::#module::{self, Root};
            use proxmox_api::request::Call;

            use crate::request::Build;

            /// By path and verb.
            pub(crate) static CALLS: &[(&str, Build)] = &[#(#calls),*];

            #(#functions)*
        };
        let requests = format!(
            "{{\"newest\": {}, \"requests\": {{\n{}\n}}}}\n",
            json!(newest),
            requests.join(",\n")
        );
        (calls, requests)
    }

    /// A request with its required parameters, its path, and the expected parameters on the wire.
    fn begun(
        &self,
        endpoint: &Endpoint,
        context: &SampleContext<'_>,
    ) -> (TokenStream, String, Vec<Value>) {
        let mut code = quote!(Root::detached());
        let mut path = String::new();
        for segment in endpoint.path.split('/').filter(|part| !part.is_empty()) {
            let placeholder = segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let method = ident(&names::step(self.overlay, placeholder.unwrap_or(segment)));
            path.push('/');
            match placeholder {
                None => {
                    path.push_str(segment);
                    code = quote!(#code.#method());
                }
                Some(name) => {
                    let value = self.placeholder(endpoint, name, context);
                    if let Sent::One(text) = &value.sent {
                        path.push_str(&escape(text));
                    }
                    let value = value.code;
                    code = quote!(#code.#method(#value));
                }
            }
        }
        let verb = ident(&names::verb(endpoint.method).to_lowercase());
        let mut sent = Vec::new();
        let mut arguments = Vec::new();
        for parameter in endpoint.parameters.iter().filter(|p| p.required) {
            let value = self.parameter(endpoint, parameter, context);
            sent.push(self.arrival(&parameter.name, parameter, context, &value.sent));
            arguments.push(value.code);
        }
        let code = match self.api.is_named(endpoint) {
            false => quote!(#code.#verb(#(#arguments),*)),
            true => {
                let required = endpoint.parameters.iter().filter(|p| p.required);
                let steps = required.map(|p| ident(&names::setter_of(self.overlay, p)));
                quote!(#code.#verb()#(.#steps(#arguments))*)
            }
        };
        (code, path, sent)
    }

    /// A request with all its parameters, its path, and the expected parameters.
    fn complete(
        &self,
        endpoint: &Endpoint,
        context: &SampleContext<'_>,
    ) -> (TokenStream, String, Vec<Value>) {
        let (mut code, path, mut sent) = self.begun(endpoint, context);
        let optional = endpoint.parameters.iter().filter(|p| !p.required);
        let unset = super::endpoint::unset(endpoint).is_some();
        for parameter in optional {
            let setter = ident(&names::setter_of(self.overlay, parameter));
            let mut value = self.parameter(endpoint, parameter, context);
            let given = value.code;
            match parameter.name.strip_suffix("[n]") {
                Some(prefix) => {
                    let name = format!("{prefix}1");
                    code = quote!(#code.#setter(1, #given));
                    sent.push(self.arrival(&name, parameter, context, &value.sent));
                }
                None => {
                    code = quote!(#code.#setter(#given));
                    if unset && parameter.name == "delete" {
                        let name = sample::unset(
                            self.overlay,
                            context
                                .siblings
                                .get("delete")
                                .map(|schema| context.choose(schema)),
                            context.siblings,
                        );
                        code = quote!(#code.unset(#name));
                        match &mut value.sent {
                            Sent::Many(all) => all.push(Sent::One(name)),
                            Sent::One(text) => text.push_str(&format!(",{name}")),
                            Sent::Parts(_) => {}
                        }
                    }
                    sent.push(self.arrival(&parameter.name, parameter, context, &value.sent));
                }
            }
        }
        (code, path, sent)
    }

    /// The value of a path segment.
    pub(super) fn placeholder(
        &self,
        endpoint: &Endpoint,
        name: &str,
        context: &SampleContext<'_>,
    ) -> Sample {
        let parameter = endpoint.placeholders.iter().find(|p| p.name == name);
        let ty = parameter.map_or(&Ty::Text, |parameter| &parameter.ty);
        let ty = match ty {
            Ty::GuestNumber | Ty::Integer => ty,
            // Any displayable value is accepted; strings are the most common.
            _ => &Ty::Text,
        };
        match sample::in_path(self.overlay, name) {
            Some(text) if *ty == Ty::Text => Sent::one(quote!(#text), text),
            _ => {
                let context = SampleContext {
                    path: true,
                    ..*context
                };
                self.value(name, ty, context.siblings.get(name), &context)
            }
        }
    }

    /// Each answer that a request accepts: set as a whole, and by the setters of its members, which
    /// shows that both have the same type.
    fn write_backs(&self, releases: &[Facts]) -> TokenStream {
        let empty = Schemas::new();
        let mut functions = Vec::new();
        let mut entries = Vec::new();
        for endpoint in &self.api.endpoints {
            let context = context(endpoint, releases, &empty);
            for settings in &endpoint.settings {
                let ItemKind::Struct(members) = &self.api.items[settings.item].kind else {
                    continue;
                };
                let item = &self.names.items[settings.item];
                let (begun, ..) = self.begun(endpoint, &context);
                let request = names::request(self.overlay, &endpoint.path, endpoint.method);
                let name = ident(&format!("{request}Of{item}").to_snake_case());
                let mut singly = Vec::new();
                for member in members {
                    let full = member.full_name();
                    let parameter = endpoint.parameters.iter().find(|p| p.name == full);
                    let optional = parameter.is_some_and(|parameter| !parameter.required);
                    if !optional || full == "digest" || settings.left_out.contains(&full) {
                        continue;
                    }
                    let Some(parameter) = parameter else {
                        continue;
                    };
                    let setter = ident(&names::setter_of(self.overlay, parameter));
                    let field = ident(&names::field_of(self.overlay, member));
                    singly.push(match member.indexed {
                        true => quote! {
                            for (index, member) in &value.#field {
                                singly = singly.#setter(index, member);
                            }
                        },
                        false => quote!(singly = singly.#setter(&value.#field);),
                    });
                }
                let of = self.home_path(settings.item, &context);
                let mutable = (!singly.is_empty()).then(|| quote!(mut));
                functions.push(quote! {
                    fn #name(answer: Value) -> Result<Written, DecodeError> {
                        let value = #of::from_json(answer)?;
                        let whole = #begun.settings(&value);
                        let unchanged = #begun.changes(&value.diff(&value));
                        let #mutable singly = #begun;
                        #(#singly)*
                        Ok(Written {
                            whole: whole.call().clone(),
                            singly: singly.call().clone(),
                            unchanged: unchanged.call().clone(),
                        })
                    }
                });
                let key = endpoint.key();
                entries.push(quote!(WriteBack { endpoint: #key, of: #item, write: #name }));
            }
        }
        let module = self.module();
        quote! {
            use proxmox_api::Value;
            use proxmox_api::#module::{self, Root};
            use proxmox_api::value::decode::DecodeError;

            use crate::request::{WriteBack, Written};

            /// By path and verb of the request.
            pub static WRITE_BACKS: &[WriteBack] = &[#(#entries),*];

            #(#functions)*
        }
    }

    fn arrival(
        &self,
        name: &str,
        parameter: &Parameter,
        context: &SampleContext<'_>,
        sent: &Sent,
    ) -> Value {
        let ty = match &parameter.ty {
            Ty::Array(of) => of,
            ty => ty,
        };
        let mut out = json!({ "name": name, "sent": sent.json() });
        if !context.siblings.contains_key(&parameter.name) {
            out["known"] = json!(false);
        }
        if let Ty::Item(id) = ty
            && let ItemKind::PropertyString(string) = &self.api.items[*id].kind
        {
            out["of"] = json!(string.name);
        }
        out
    }

    pub(super) fn parameter(
        &self,
        endpoint: &Endpoint,
        parameter: &Parameter,
        context: &SampleContext<'_>,
    ) -> Sample {
        let schema = context.siblings.get(&parameter.name).or_else(|| {
            let releases = context.earlier.iter().rev();
            releases.into_iter().find_map(|facts| {
                let endpoint = facts.endpoints.get(&endpoint.path)?.get(&endpoint.method)?;
                endpoint.parameters.properties.get(&parameter.name)
            })
        });
        let context = SampleContext {
            separator: parameter.separator.unwrap_or(context.separator),
            ..*context
        };
        self.value(&parameter.name, &parameter.ty, schema, &context)
    }

    fn value(
        &self,
        name: &str,
        ty: &Ty,
        schema: Option<&Schema>,
        context: &SampleContext<'_>,
    ) -> Sample {
        let schema = schema.map(|schema| context.choose(schema));
        let known = sample::key(self.overlay, context.owner, name);
        match ty {
            Ty::Boolean => Sent::one(quote!(true), "1"),
            Ty::Integer | Ty::Bytes | Ty::Time => {
                let known = known.and_then(|text| text.parse().ok());
                let value = known.unwrap_or_else(|| sample::integer(self.overlay, schema));
                let literal = match context.named_types {
                    Some(_) => Literal::i64_unsuffixed(value),
                    None => Literal::i64_suffixed(value),
                };
                Sent::one(quote!(#literal), value.to_string())
            }
            Ty::GuestNumber if context.named_types.is_some() => Sent::one(quote!(100), "100"),
            Ty::GuestNumber => Sent::one(quote!(100_u32), "100"),
            Ty::Number => {
                let value = sample::number(schema);
                let literal = Literal::f64_suffixed(value);
                Sent::one(quote!(#literal), value.to_string())
            }
            Ty::List(of) => {
                let separator = context.separator.to_string();
                let separator = separator.as_str();
                match **of {
                    Ty::GuestNumber if context.named_types.is_some() => {
                        Sent::one(quote!([100, 101]), "")
                    }
                    Ty::GuestNumber => {
                        let text = ["100", "101"].join(separator);
                        Sent::one(quote!([100_u32, 101_u32]), text)
                    }
                    _ => {
                        let text = known.map_or_else(
                            || sample::item(self.overlay, name, schema, context.siblings),
                            str::to_owned,
                        );
                        let sent = [text.as_str(), text.as_str()].join(separator);
                        match context.named_types {
                            Some(_) => {
                                let text = sample::readable(self.overlay, name, &text);
                                Sent::one(quote!([#text]), text)
                            }
                            None => Sent::one(quote!([#text, #text]), sent),
                        }
                    }
                }
            }
            Ty::Array(of) => {
                let items = schema.and_then(|schema| schema.items.as_deref());
                let (first, second) = (
                    self.value(name, of, items, context),
                    self.value(name, of, items, context),
                );
                let (one, two) = (first.code, second.code);
                let code = match context.named_types {
                    Some(_) => quote!([#one]),
                    None => quote!([#one, #two]),
                };
                Sample {
                    code,
                    sent: Sent::Many(vec![first.sent, second.sent]),
                }
            }
            Ty::Item(id) => match &self.api.items[*id].kind {
                ItemKind::Enum(values) => {
                    let text = schema
                        .and_then(|schema| schema.values.as_ref()?.first())
                        .or(values.first().map(|(text, _)| text))
                        .cloned()
                        .unwrap_or_default();
                    let home = self.home_path(*id, context);
                    let variant = ident(&names::variant(self.overlay, &text));
                    Sent::one(quote!(#home::#variant), text)
                }
                ItemKind::PropertyString(string) => {
                    let keys = schema.and_then(|schema| context.keys(schema));
                    self.property_value(*id, string, keys, context)
                }
                ItemKind::Struct(_) => Sent::one(quote!(""), ""),
            },
            // The core encodes it.
            Ty::TextType(name) if name == "EncodedText" => match context.named_types {
                Some(_) => Sent::one(quote!("abcd"), "abcd"),
                None => Sent::one(quote!("abc d"), "abc%20d"),
            },
            _ => {
                let inside = context.inside || context.named_types.is_some();
                let mut text = known.map_or_else(
                    || sample::text(self.overlay, name, schema, inside),
                    str::to_owned,
                );
                if context.named_types.is_some() {
                    text = sample::readable(self.overlay, name, &text);
                }
                if context.path {
                    // No server accepts white space in a path.
                    text.retain(|c| !matches!(c, '/' | ' '));
                }
                Sent::one(quote!(#text), text)
            }
        }
    }

    /// A property string with every key that the release knows.
    fn property_value(
        &self,
        id: usize,
        string: &PropertyString,
        keys: Option<&Schemas>,
        context: &SampleContext<'_>,
    ) -> Sample {
        let empty = Schemas::new();
        let keys = keys.unwrap_or(&empty);
        let inside = SampleContext {
            formats: context.formats,
            siblings: keys,
            earlier: &[],
            separator: ';',
            inside: true,
            owner: &string.name,
            path: false,
            named_types: context.named_types,
        };
        let mut set: Vec<(&str, String)> = Vec::new();
        let mut arguments = Vec::new();
        let mut code = TokenStream::new();
        let members = string.members.iter().filter(|member| {
            (member.required || context.named_types.is_none() && keys.contains_key(&member.name))
                && !self.overlay.is_omitted(&string.name, &member.name)
        });
        for member in members {
            let value = self.value(&member.name, &member.ty, keys.get(&member.name), &inside);
            let given = value.code;
            if member.required {
                arguments.push(given);
            } else {
                let setter = ident(&item::property_setter(self.overlay, &member.name));
                code = quote!(#code.#setter(#given));
            }
            if let Sent::One(text) = value.sent {
                set.push((&member.name, text));
            }
        }
        let home = self.home_path(id, context);
        let value = |set: &[(&str, String)], key: &str| {
            set.iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.clone())
        };
        let mut parts = Vec::new();
        // The server's form: `virtio=MAC` stands for a model and an address.
        for (name, holder, kind) in &string.key_aliases {
            if let (Some(held), Some(of)) = (value(&set, holder), value(&set, kind))
                && of == *name
            {
                parts.push(format!("{name}={held}"));
                set.retain(|(key, _)| key != holder && key != kind);
            }
        }
        for (key, value) in set {
            let bare = string.default_key.as_deref() == Some(key) && !value.contains('=');
            parts.push(if bare {
                value
            } else {
                format!("{key}={value}")
            });
        }
        Sample {
            code: quote!(#home::new(#(#arguments),*)#code),
            sent: Sent::Parts(parts),
        }
    }

    /// The name of a type at the place of the value.
    fn home_path(&self, id: usize, context: &SampleContext<'_>) -> TokenStream {
        let Some(used) = context.named_types else {
            return self.outside_path(id);
        };
        used.borrow_mut().insert(id);
        let name = ident(&self.names.items[id]);
        quote!(#name)
    }

    fn outside_path(&self, id: usize) -> TokenStream {
        let module = self.module();
        let area = ident(&self.item_areas[id]);
        let name = ident(&self.names.items[id]);
        quote!(#module::#area::#name)
    }

    fn answers(&self) -> TokenStream {
        let entries = self.api.endpoints.iter().map(|endpoint| {
            let (method, path) = (endpoint.method.to_string(), &endpoint.path);
            let output = match &endpoint.returns {
                Returns::Bytes => quote!(Vec<u8>),
                _ => self.output(endpoint),
            };
            let how = match &endpoint.returns {
                Returns::Nothing => quote!(nothing),
                Returns::Data(_) => quote!(data),
                Returns::Task { .. } => quote!(task),
                Returns::Bytes => quote!(bytes),
            };
            let print = match &endpoint.returns {
                Returns::Data(_) => quote!(Of::<#output>::print),
                _ => quote!(answer::nothing),
            };
            quote!(Answer::new(#method, #path, Of::<#output>::#how, #print))
        });
        let mut shows = Vec::new();
        let mut property_strings = Vec::new();
        for (id, item) in self.api.items.iter().enumerate() {
            let path = self.outside_path(id);
            let name = &self.names.items[id];
            shows.push(match &item.kind {
                ItemKind::Enum(_) => quote! {
                    impl Show for #path {
                        fn show(&self) -> Option<Value> {
                            show::text(self.as_str(), matches!(self, Self::UnknownValue(_)))
                        }
                    }
                },
                ItemKind::PropertyString(string) => {
                    property_strings.push(quote! {
                        PropertyType { name: #name, read: property::read::<#path> }
                    });
                    let puts = self.puts(&string.members);
                    quote! {
                        impl Show for #path {
                            fn show(&self) -> Option<Value> {
                                let mut out = JsonObject::default();
                                #(#puts)*
                                out.unknown(&self.unknown)
                            }
                        }
                    }
                }
                ItemKind::Struct(members) => {
                    let puts = self.puts(members);
                    quote! {
                        impl Show for #path {
                            fn show(&self) -> Option<Value> {
                                let mut out = JsonObject::default();
                                #(#puts)*
                                out.extra(&self.extra)
                            }
                        }
                    }
                }
            });
        }
        let module = self.module();
        quote! {
            use std::collections::BTreeMap;

            use proxmox_api::value::formats::*;
            use proxmox_api::task::Task;
            use proxmox_api::{Value, #module};

            use crate::answer::{self, Answer, Of};
            use crate::property::{self, PropertyType};
            use crate::show::{self, Show, JsonObject};

            /// By path and verb.
            pub static ANSWERS: &[Answer] = &[#(#entries),*];

            /// Every type of property string.
            pub static PROPERTY_STRINGS: &[PropertyType] = &[#(#property_strings),*];

            #(#shows)*
        }
    }

    fn puts(&self, members: &[Member]) -> Vec<TokenStream> {
        members
            .iter()
            .map(|member| {
                let wire = &member.name;
                let field = format_ident!("{}", names::field_of(self.overlay, member));
                match member.indexed {
                    true => quote!(out.indexed(#wire, &self.#field);),
                    false => quote!(out.put(#wire, &self.#field);),
                }
            })
            .collect()
    }

    /// The shapes of items, answers and parameters, one a line.
    fn shapes(&self) -> String {
        let mut items: BTreeMap<&str, Value> = BTreeMap::new();
        for (id, item) in self.api.items.iter().enumerate() {
            let shape = match &item.kind {
                ItemKind::Enum(values) => {
                    let values: Vec<&String> = values.iter().map(|(text, _)| text).collect();
                    json!({ "enum": values })
                }
                ItemKind::PropertyString(string) => json!({
                    "keys": self.member_shapes(&string.members),
                    "default_key": string.default_key,
                    "aliases": string.aliases,
                    "key_aliases": string.key_aliases,
                }),
                ItemKind::Struct(members) => json!({ "struct": self.member_shapes(members) }),
            };
            items.insert(&self.names.items[id], shape);
        }
        let mut answers = BTreeMap::new();
        let mut parameters = BTreeMap::new();
        for endpoint in &self.api.endpoints {
            let key = endpoint.key();
            let answer = match &endpoint.returns {
                Returns::Nothing => json!("nothing"),
                Returns::Data(ty) => json!({ "data": self.ty_shape(ty) }),
                Returns::Task { optional: false } => json!("task"),
                Returns::Task { optional: true } => json!("optional task"),
                Returns::Bytes => json!("bytes"),
            };
            let taken: BTreeMap<&str, Value> = endpoint
                .parameters
                .iter()
                .map(|parameter| (parameter.name.as_str(), self.ty_shape(&parameter.ty)))
                .collect();
            parameters.insert(key.clone(), json!(taken));
            answers.insert(key, answer);
        }
        let items = items
            .into_iter()
            .map(|(name, shape)| (name.to_owned(), shape));
        let sections = [
            ("items", items.collect()),
            ("answers", answers),
            ("parameters", parameters),
        ];
        let sections: Vec<String> = sections
            .iter()
            .map(|(name, entries): &(&str, BTreeMap<String, Value>)| {
                let lines: Vec<String> = entries
                    .iter()
                    .map(|(key, shape)| format!("{}: {shape}", json!(key)))
                    .collect();
                format!("{}: {{\n{}\n}}", json!(name), lines.join(",\n"))
            })
            .collect();
        format!("{{\n{}\n}}\n", sections.join(",\n"))
    }

    fn member_shapes(&self, members: &[Member]) -> Value {
        members
            .iter()
            .map(|member| {
                let mut shape = json!({ "name": member.name, "ty": self.ty_shape(&member.ty) });
                for (flag, is) in [("indexed", member.indexed), ("required", member.required)] {
                    if is {
                        shape[flag] = Value::Bool(true);
                    }
                }
                shape
            })
            .collect()
    }

    fn ty_shape(&self, ty: &Ty) -> Value {
        match ty {
            Ty::Boolean => json!("boolean"),
            Ty::Integer | Ty::Time => json!("integer"),
            Ty::Bytes => json!("bytes"),
            Ty::GuestNumber => json!("vmid"),
            Ty::Number => json!("number"),
            Ty::Text | Ty::TextType(_) => json!("text"),
            Ty::Secret => json!("secret"),
            Ty::Json => json!("json"),
            Ty::List(of) => json!({ "list": self.ty_shape(of) }),
            Ty::Array(of) => json!({ "array": self.ty_shape(of) }),
            Ty::Map(of) => json!({ "map": self.ty_shape(of) }),
            Ty::Optional(of) => json!({ "optional": self.ty_shape(of) }),
            Ty::Pending(of) => json!({ "pending": self.ty_shape(of) }),
            Ty::Item(id) => json!({ "item": self.names.items[*id] }),
        }
    }
}

/// The expected form of a parameter, and whether the newest release with the endpoint knows it.
/// Percent-encodes all characters except the unreserved ones of RFC 3986.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
