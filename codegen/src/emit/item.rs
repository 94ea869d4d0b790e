//! Enums, property strings and response structs.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::docs::{aliased, aliases as found_by, doc, within};
use super::endpoint::{self, Input};
use super::{Emitter, OUTSIDE, ident};
use crate::facts::Method;
use crate::ir::{Endpoint, ItemId, ItemKind, Member, PropertyString, Ty};
use crate::names;
use crate::place::Place;
use crate::union::Presence;

impl Emitter<'_> {
    pub(super) fn item(&mut self, id: ItemId) -> TokenStream {
        let api = self.api;
        let item = &api.items[id];
        match &item.kind {
            ItemKind::Enum(values) => self.open_enum(id, values),
            ItemKind::PropertyString(string) => self.property_string(id, string),
            ItemKind::Struct(members) => self.response(id, members),
        }
    }

    fn open_enum(&mut self, id: ItemId, values: &[(String, Presence)]) -> TokenStream {
        let api = self.api;
        let name = ident(&self.names.items[id]);
        let all = values
            .iter()
            .fold(Presence::default(), |all, (_, presence)| all.or(*presence));
        let places = &api.items[id].places;
        let about = match self.type_meaning(id) {
            Some(meaning) => meaning,
            None => format!("A value of `{}`.", leaf(places)),
        };
        let about = doc(&[about, self.calls_with_type(places)]);
        let texts: Vec<&String> = values.iter().map(|(text, _)| text).collect();
        let variants: Vec<_> = texts
            .iter()
            .map(|text| ident(&names::variant(self.overlay, text)))
            .collect();
        let docs = values.iter().map(|(text, presence)| {
            let availability = self.availability(*presence, all);
            let line = format!("The value `{text}`. {availability}");
            let line = format!("{} {}", line.trim_end(), self.set_by(places, text));
            let about = doc(&[line.trim_end().to_owned()]);
            let name = names::variant(self.overlay, text);
            let aliases = aliased(&found_by(&name, [text.as_str()]));
            quote!(#about #aliases)
        });
        quote! {
            #about
            #[derive(Clone, PartialEq, Hash)]
            #[non_exhaustive]
            pub enum #name {
                #(#docs #variants,)*
                /// Any other value; `as_str` returns it.
                UnknownValue(UnknownValue),
            }
            open_enum_impls!(#name { #(#texts #variants),* });
        }
    }

    fn property_string(&mut self, id: ItemId, string: &PropertyString) -> TokenStream {
        let api = self.api;
        let name = ident(&string.name);
        let places = &api.items[id].places;
        let about = match self.type_meaning(id) {
            Some(meaning) => meaning,
            None => format!("A value of `{}`.", leaf(places)),
        };
        let kind = "A property string: it is written and read as one text.".to_owned();
        let about = doc(&[about, kind, self.calls_with_type(places)]);
        let inside: Vec<Place> = (places.iter().cloned())
            .map(|at| Place {
                owner: Some(string.name.clone()),
                ..at
            })
            .collect();
        let (required, optional): (Vec<&Member>, Vec<&Member>) =
            string.members.iter().partition(|member| member.required);
        let mut fields = Vec::new();
        let mut setters = Vec::new();
        for member in &string.members {
            let field = ident(&names::field_of(self.overlay, member));
            let setter = ident(&property_setter(self.overlay, &member.name));
            let ty = self.ty(&member.ty);
            let docs = self.member_doc(&inside, member);
            let field_type = match member.required {
                true => quote!(#ty),
                false => quote!(Option<#ty>),
            };
            fields.push(quote!(#docs pub #field: #field_type));
            let Input { generic, bound, .. } = self.input(&member.ty, member.required, "How");
            let set = set(member);
            let wire = &member.name;
            let aliases = aliased(&found_by(&setter.to_string(), [wire.as_str()]));
            setters.push(quote! {
                #docs
                #aliases
                #[inline]
                #[must_use]
                pub fn #setter<#generic>(mut self, value: impl #bound) -> Self {
                    set::#set(&mut self.#field, &mut self.unknown, #wire, value);
                    self
                }
            });
        }
        let new = self.constructor(&required);
        let shortcuts = self.shortcuts(string, &required);
        let plain_value = self.plain_value(string, &required);
        let members = |members: &[&Member]| -> Vec<(String, String)> {
            members
                .iter()
                .map(|member| (member.name.clone(), names::field_of(self.overlay, *member)))
                .collect()
        };
        let (required, optional) = (members(&required), members(&optional));
        let rules = self.property_string_rules(string);
        let table = self.table(&string.name, &required, &optional, &[], &rules, "unknown");
        quote! {
            #about
            #[non_exhaustive]
            pub struct #name {
                #(#fields,)*
                /// Unknown keys, or the whole text if it did not parse.
                pub unknown: UnknownKeys,
            }
            impl #name {
                #new
                #shortcuts
                #(#setters)*
            }
            #plain_value
            #table
            property_string_impls!(#name);
        }
    }

    /// The constructor of a property string.
    fn constructor(&self, required: &[&Member]) -> TokenStream {
        let inputs: Vec<Input> = (required.iter().enumerate())
            .map(|(position, member)| self.input(&member.ty, true, &format!("How{position}")))
            .collect();
        let hows = inputs.iter().map(|input| &input.generic);
        let generics = (!required.is_empty()).then(|| quote!(<#(#hows),*>));
        let arguments = required.iter().zip(&inputs).map(|(member, input)| {
            let field = ident(&names::field_of(self.overlay, *member));
            let bound = &input.bound;
            quote!(#field: impl #bound)
        });
        let initial = required.iter().map(|member| {
            let field = ident(&names::field_of(self.overlay, *member));
            let (set, wire) = (set(member), &member.name);
            quote!(set::#set(&mut new.#field, &mut new.unknown, #wire, #field);)
        });
        let start = match required.is_empty() {
            true => quote!(<Self as Object>::empty()),
            false => quote! {
                let mut new = <Self as Object>::empty();
                #(#initial)*
                new
            },
        };
        quote! {
            /// Starts a value from its required keys.
            #[inline]
            #[must_use]
            pub fn new #generics(#(#arguments),*) -> Self {
                #start
            }
        }
    }

    /// What the core needs to know of a property string apart from its keys.
    fn property_string_rules(&self, string: &PropertyString) -> TokenStream {
        let default_key = match &string.default_key {
            Some(key) => quote!(Some(#key)),
            None => quote!(None),
        };
        let aliases = string
            .aliases
            .iter()
            .map(|(alias, key)| quote!((#alias, #key)));
        let limits = self.key_limits(string);
        let between = self.between(string);
        let key_aliases = string
            .key_aliases
            .iter()
            .map(|(name, value, kind)| quote!((#name, #value, #kind)));
        quote! {
            property_string: {
                default_key: #default_key,
                aliases: &[#(#aliases),*],
                key_aliases: &[#(#key_aliases),*],
                limits: &[#(#limits),*],
                between: &[#(#between),*],
            },
        }
    }

    /// The accepted values of the keys of a property string.
    fn key_limits(&self, string: &PropertyString) -> Vec<TokenStream> {
        let members = string.members.iter();
        let mut limits: Vec<TokenStream> = members
            .flat_map(|member| {
                endpoint::limits(self.overlay, &member.name, &member.ty, &member.limits)
            })
            .collect();
        for member in &string.members {
            if let Ty::Item(id) = &member.ty
                && matches!(self.api.items[*id].kind, ItemKind::Enum(_))
            {
                let (key, ty) = (&member.name, self.ty(&member.ty));
                limits.push(quote!((#key, Takes::OneOf(<#ty as OpenEnum>::KNOWN_VALUES.0))));
            }
        }
        for rule in self.overlay.rules(&string.name) {
            let Some(key) = &rule.key else { continue };
            let values = rule.values.iter();
            limits.extend(values.map(|values| quote!((#key, Takes::OneOf(&[#(#values),*])))));
            let format = rule.format.iter();
            limits.extend(format.map(|format| quote!((#key, Takes::Format(#format)))));
            if rule.minimum.is_some() || rule.maximum.is_some() {
                let number = |n| {
                    let n = proc_macro2::Literal::i64_unsuffixed(n);
                    quote!(#n)
                };
                let least = rule.minimum.map_or(quote!(i64::MIN), number);
                let most = rule.maximum.map_or(quote!(i64::MAX), number);
                limits.push(quote!((#key, Takes::Integer(#least, #most))));
            }
            let Some(pattern) = &rule.pattern else {
                continue;
            };
            let mut patterns = vec![pattern.clone()];
            if let Some(place) = &rule.or_values_of {
                let found = self.api.endpoints.iter().find_map(|endpoint| {
                    let name = place.strip_prefix(&format!("{}?", endpoint.key()))?;
                    let mut parameters = endpoint.parameters.iter();
                    parameters.find(|parameter| parameter.name == name)
                });
                match found.map(|parameter| &parameter.ty) {
                    Some(Ty::Item(id)) => {
                        if let ItemKind::Enum(values) = &self.api.items[*id].kind {
                            let texts: Vec<String> = (values.iter())
                                .map(|(text, _)| text.replace('.', "\\."))
                                .collect();
                            patterns.push(format!("(?:{})", texts.join("|")));
                        }
                    }
                    // Without values nothing can be refused; a run with fewer releases may lack
                    // them.
                    _ => continue,
                }
            }
            limits.push(quote!((#key, Takes::Pattern(&[#(#patterns),*]))));
        }
        limits
    }

    /// Rules between keys.
    fn between(&self, string: &PropertyString) -> Vec<TokenStream> {
        let members = string.members.iter();
        let mut found: Vec<TokenStream> = members
            .filter_map(|member| {
                let (key, needs) = (&member.name, member.facts.requires.as_ref()?);
                Some(quote!(Between::With(#key, #needs)))
            })
            .collect();
        for rule in self.overlay.rules(&string.name) {
            let keys = rule.needed.iter().map(|key| quote!(Between::Needed(#key)));
            let keys = keys.chain(rule.never.iter().map(|key| quote!(Between::Never(#key))));
            let keys = keys.chain(rule.alone.iter().map(|key| quote!(Between::Alone(#key))));
            let pairs = rule.with.iter();
            let pairs = pairs.map(|(key, needs)| quote!(Between::With(#key, #needs)));
            found.extend(keys.chain(pairs));
        }
        found
    }

    /// Conversion from a plain number or flag, if that is a complete property string:
    /// `memory(4096)`.
    fn plain_value(&self, string: &PropertyString, required: &[&Member]) -> TokenStream {
        let default = string.members.iter().find(|member| {
            Some(&member.name) == string.default_key.as_ref()
                && required.iter().all(|other| other.name == member.name)
                && matches!(member.ty, Ty::Boolean | Ty::Integer | Ty::Number)
        });
        let Some(member) = default else {
            return TokenStream::new();
        };
        let name = ident(&string.name);
        let field = ident(&names::field_of(self.overlay, member));
        let ty = self.ty(&member.ty);
        let field_value = match member.required {
            true => quote!(value),
            false => quote!(Some(value)),
        };
        let integers = (member.ty == Ty::Integer).then(|| {
            quote! {
                impl FromInteger for #name {
                    #[inline]
                    fn from_integer(value: i64) -> Self {
                        value.into()
                    }
                }
            }
        });
        quote! {
            impl From<#ty> for #name {
                #[inline]
                fn from(value: #ty) -> Self {
                    Self { #field: #field_value, ..<Self as Object>::empty() }
                }
            }
            #integers
        }
    }

    /// Constructors for keys that stand for a value of another: `QemuNet::virtio()`.
    fn shortcuts(&self, string: &PropertyString, required: &[&Member]) -> TokenStream {
        let [only] = required else {
            return TokenStream::new();
        };
        let functions = string
            .key_aliases
            .iter()
            .filter(|(.., kind)| *kind == only.name)
            .map(|(name, _, kind)| {
                let function = ident(&names::field(self.overlay, name));
                let about = doc(&[format!("Starts a value whose `{kind}` is `{name}`.")]);
                quote! {
                    #about
                    #[inline]
                    #[must_use]
                    pub fn #function() -> Self {
                        Self::new(#name)
                    }
                }
            });
        quote!(#(#functions)*)
    }

    fn response(&mut self, id: ItemId, members: &[Member]) -> TokenStream {
        let api = self.api;
        let name = ident(&self.names.items[id]);
        let places = &api.items[id].places;
        let about = match self.type_meaning(id) {
            Some(meaning) => meaning,
            None if places.first().is_some_and(|at| at.element) => {
                format!("One element of {}{}.", origin(places), self.purpose(places))
            }
            None if places.iter().any(|at| at.fields.is_empty()) => {
                let mut answer = origin(places);
                answer.replace_range(..1, "T");
                format!("{answer}{}.", self.purpose(places))
            }
            None => format!("Part of {}.", origin(places)),
        };
        let mut about = vec![about, self.calls_with_type(places)];
        let calls = self.calls_with_settings(id, None);
        if !calls.is_empty() {
            about.push(format!("Accepted as `settings` by {}.", calls.join(", ")));
        }
        let about = doc(&about);
        let mut fields = Vec::new();
        // In the order of the schema.
        let (mut required, mut optional, mut indexed) = (Vec::new(), Vec::new(), Vec::new());
        for member in members {
            let wire = &member.name;
            let field = ident(&names::field_of(self.overlay, member));
            let ty = self.ty(&member.ty);
            let docs = self.member_doc(places, member);
            let (group, field_type) = if member.indexed {
                (&mut indexed, quote!(IndexedMap<#ty>))
            } else if member.required {
                (&mut required, quote!(#ty))
            } else {
                (&mut optional, quote!(Option<#ty>))
            };
            let aliases = aliased(&found_by(&field.to_string(), [wire.as_str()]));
            fields.push(quote!(#docs #aliases pub #field: #field_type));
            group.push((wire, field));
        }
        if required.len() > 64 {
            self.overlay.problem(format!(
                "{name} has more required members than the core can count"
            ));
        }
        let pairs = |members: &[(&String, proc_macro2::Ident)]| -> Vec<(String, String)> {
            members
                .iter()
                .map(|(wire, field)| ((*wire).clone(), field.to_string()))
                .collect()
        };
        let table = self.table(
            &self.names.items[id],
            &pairs(&required),
            &pairs(&optional),
            &pairs(&indexed),
            &TokenStream::new(),
            "extra",
        );
        let building = self.building(id, members);
        quote! {
            #about
            #[non_exhaustive]
            pub struct #name {
                #(#fields,)*
                /// Members that the crate does not declare, and values that did not fit their field.
                pub extra: Extra,
            }
            #building
            #table
        }
    }

    /// The setter for a value that is the name of an indexed parameter, such as `scsi0`.
    fn set_by(&self, places: &[Place], value: &str) -> String {
        let Some(prefix) = value.strip_suffix('0').filter(|name| !name.is_empty()) else {
            return String::new();
        };
        let indexed = format!("{prefix}[n]");
        let near = |path: &str| {
            places
                .iter()
                .any(|at| self.path_area(&at.path) == self.path_area(path))
        };
        let takes = |call: &&Endpoint| {
            call.method != Method::Get && call.parameters.iter().any(|p| p.name == indexed)
        };
        let calls: Vec<String> = (self.api.endpoints.iter())
            .filter(takes)
            .filter(|call| near(&call.path))
            .map(|call| self.call_link(call))
            .collect();
        match calls.is_empty() {
            true => String::new(),
            false => format!("Set by {}.", calls.join(", ")),
        }
    }

    /// The effect of the call whose answer has this type.
    fn purpose(&self, places: &[Place]) -> String {
        let at = places.first().filter(|at| at.fields.is_empty());
        let summary = at.and_then(|at| self.overlay.summary(&at.endpoint()));
        let summary = summary.and_then(|text| text.split(['.', ';', ',']).next());
        summary.map_or_else(String::new, |text| format!(", which {}", within(text)))
    }

    /// The constructors and setters of an answer's type: for tests, and for values that are written
    /// back.
    fn building(&self, id: ItemId, members: &[Member]) -> TokenStream {
        let name = ident(&self.names.items[id]);
        let required: Vec<&Member> = members.iter().filter(|member| member.required).collect();
        let texts = required
            .iter()
            .filter(|member| self.api.is_text(&member.ty));
        // Several texts could be confused.
        let by_place = texts.count() < 2 && required.len() <= 3;
        let inputs: Vec<Input> = (required.iter().enumerate())
            .map(|(position, member)| self.input(&member.ty, true, &format!("How{position}")))
            .collect();
        let field = |member: &Member| ident(&names::field_of(self.overlay, member));
        let new = match (required.is_empty(), by_place) {
            (true, _) => quote! {
                /// A value with nothing set.
                #[inline]
                #[must_use]
                pub fn new() -> Self {
                    <Self as Object>::empty()
                }
            },
            (_, false) => quote! {
                /// A value with nothing set; members that answers always have are empty, zero or
                /// false.
                #[inline]
                #[must_use]
                #[expect(clippy::new_without_default, reason = "a default has a value")]
                pub fn new() -> Self {
                    <Self as Object>::empty()
                }
            },
            (_, true) => {
                let hows = inputs.iter().map(|input| &input.generic);
                let arguments = required.iter().zip(&inputs).map(|(member, input)| {
                    let (field, bound) = (field(member), &input.bound);
                    quote!(#field: impl #bound)
                });
                let initial = required.iter().map(|member| {
                    let (field, set, wire) = (field(member), set(member), &member.name);
                    quote!(set::#set(&mut new.#field, &mut new.extra, #wire, #field);)
                });
                quote! {
                    /// A value with the members that answers always have.
                    #[inline]
                    #[must_use]
                    pub fn new<#(#hows),*>(#(#arguments),*) -> Self {
                        let mut new = <Self as Object>::empty();
                        #(#initial)*
                        new
                    }
                }
            }
        };
        let is_settings = (self.api.endpoints.iter())
            .any(|endpoint| endpoint.settings.iter().any(|settings| settings.item == id));
        // Types that are only read have `with`: setters for all of them would be a seventh of the
        // cost of checking the crate.
        let settable = members.iter().filter(|_| is_settings);
        let setters = settable.map(|member| {
            let (field, ty, wire) = (field(member), self.ty(&member.ty), &member.name);
            let setter = ident(&property_setter(self.overlay, &field.to_string()));
            let subject = match member.indexed {
                true => format!("one of `{wire}0` and so on"),
                false => format!("`{wire}`"),
            };
            let calls = self.calls_with_settings(id, Some(&member.full_name()));
            let about = doc(&[match calls.is_empty() {
                true => format!("Sets {subject}."),
                false => format!("Sets {subject}, for {}.", calls.join(", ")),
            }]);
            if member.indexed {
                return quote! {
                    #about
                    #[inline]
                    #[must_use]
                    pub fn #setter<Which, How>(
                        mut self,
                        index: impl IntoValue<u8, Which>,
                        value: impl IntoSetting<#ty, How>,
                    ) -> Self {
                        set::set_member(&mut self.#field, &mut self.extra, #wire, index, value);
                        self
                    }
                };
            }
            let Input { generic, bound, .. } = self.input(&member.ty, member.required, "How");
            let set = set(member);
            quote! {
                #about
                #[inline]
                #[must_use]
                pub fn #setter<#generic>(mut self, value: impl #bound) -> Self {
                    set::#set(&mut self.#field, &mut self.extra, #wire, value);
                    self
                }
            }
        });
        let difference = is_settings.then(|| {
            quote! {
                /// The changes that turn this into `other`; the digests are ignored.
                #[must_use]
                pub fn diff(&self, other: &Self) -> Changes<Self> {
                    settings::diff(self, other)
                }

                /// The changes that make this hold all settings of `wanted`. Settings and keys of
                /// property strings that `wanted` leaves out may have any value; secrets are not
                /// compared, because no server returns them.
                #[must_use]
                pub fn drift(&self, wanted: &Self) -> Changes<Self> {
                    settings::drift(self, wanted)
                }
            }
        });
        quote! {
            impl #name {
                #new
                #(#setters)*
                #difference
            }
        }
    }

    /// The list of an object's members: their names on the wire and their fields.
    fn table(
        &self,
        name: &str,
        required: &[(String, String)],
        optional: &[(String, String)],
        indexed: &[(String, String)],
        rules: &TokenStream,
        others: &str,
    ) -> TokenStream {
        let list = |name: &str, members: &[(String, String)]| {
            if members.is_empty() {
                return TokenStream::new();
            }
            let name = ident(name);
            let members = members.iter().map(|(wire, field)| {
                let field = ident(field);
                quote!(#wire #field)
            });
            quote!(#name: [#(#members),*],)
        };
        let default = required.is_empty().then(|| {
            let name = ident(name);
            quote! {
                impl Default for #name {
                    #[inline]
                    fn default() -> Self {
                        <Self as Object>::empty()
                    }
                }
            }
        });
        let (name, others) = (ident(name), ident(others));
        let required = list("required", required);
        let optional = list("optional", optional);
        let indexed = list("indexed", indexed);
        quote! {
            object!(#name {
                #required
                #optional
                #indexed
                #rules
                others: #others,
            });
            #default
        }
    }

    fn member_doc(&mut self, places: &[Place], member: &Member) -> TokenStream {
        let name = member.full_name();
        let places: Vec<Place> = places.iter().map(|at| at.down(&name)).collect();
        self.value_doc(
            &places,
            &name,
            &member.facts,
            member.presence,
            member.owner_presence,
        )
    }

    /// A type reference.
    pub(super) fn ty(&self, ty: &Ty) -> TokenStream {
        match ty {
            Ty::Boolean => quote!(bool),
            Ty::Integer => quote!(i64),
            Ty::GuestNumber => quote!(u32),
            Ty::Bytes => quote!(u64),
            Ty::Time => quote!(Timestamp),
            Ty::Number => quote!(f64),
            Ty::Text => quote!(String),
            Ty::TextType(name) => {
                let name = ident(name);
                quote!(#name)
            }
            Ty::Secret => quote!(Secret),
            Ty::Json => quote!(Value),
            Ty::List(of) if **of == Ty::Text => quote!(List),
            Ty::List(of) => {
                let of = self.ty(of);
                quote!(List<#of>)
            }
            Ty::Array(of) => {
                let of = self.ty(of);
                quote!(Vec<#of>)
            }
            Ty::Map(of) => {
                let of = self.ty(of);
                quote!(BTreeMap<String, #of>)
            }
            Ty::Optional(of) => {
                let of = self.ty(of);
                quote!(Option<#of>)
            }
            Ty::Pending(of) => {
                let of = self.ty(of);
                quote!(Pending<#of>)
            }
            Ty::Item(id) => self.item_path(*id),
        }
    }

    fn item_path(&self, id: ItemId) -> TokenStream {
        let name = ident(&self.names.items[id]);
        match self.item_areas[id].as_str() {
            home if home == self.current => quote!(#name),
            home => {
                let home = format_ident!("{}", home);
                match self.current.as_str() {
                    OUTSIDE => {
                        let module = self.module();
                        quote!(#module::#home::#name)
                    }
                    _ => quote!(super::#home::#name),
                }
            }
        }
    }
}

/// The function of the core that sets a key.
fn set(member: &Member) -> proc_macro2::Ident {
    ident(match (&member.ty, member.required) {
        (Ty::List(_) | Ty::Array(_), true) => "put_list",
        (Ty::List(_) | Ty::Array(_), false) => "set_list",
        (_, true) => "put",
        (_, false) => "set",
    })
}

/// Setters share their namespace with `new` and the trait methods in scope.
pub(super) fn property_setter(overlay: &crate::overlay::Overlay, wire: &str) -> String {
    let name = names::field(overlay, wire);
    match name.as_str() {
        "clone" | "default" | "diff" | "drift" | "eq" | "fmt" | "from_json" | "new"
        | "without_identity" | "unknown" | "with" => {
            format!("{name}_")
        }
        _ => name,
    }
}

fn leaf(places: &[Place]) -> &str {
    places
        .first()
        .and_then(|at| at.fields.last())
        .map_or("the answer", String::as_str)
}

fn origin(places: &[Place]) -> String {
    match places.first() {
        Some(at) if at.fields.is_empty() => format!("the answer to `{} {}`", at.method, at.path),
        Some(at) => format!("`{}` in `{} {}`", at.fields.join("."), at.method, at.path),
        None => "an answer".to_owned(),
    }
}
