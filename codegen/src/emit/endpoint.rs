//! The path tree and the requests.

use proc_macro2::TokenStream;
use quote::quote;

use super::docs::{aliased, aliases as found_by, doc};
use super::{Emitter, ident};
use crate::facts::{Check, Facts, Method, Permissions, Release};
use crate::ir::{Endpoint, Parameter, Returns, Ty};
use crate::limits::Limits;
use crate::names;
use crate::overlay::Overlay;
use crate::place::Place;
use crate::privileges::{Need, Privilege};

impl Emitter<'_> {
    /// A path node with its verbs, and the method of the node above that leads to it.
    pub(super) fn path_node(&mut self, path: &str) -> TokenStream {
        let api = self.api;
        let is_root = path == "/";
        let calls = self.calls_of(path);
        let mut about = vec![format!("The path `{path}`.")];
        about.push(match calls.is_empty() {
            true => "Its methods lead further down.".to_owned(),
            false => format!("Its calls: {}.", calls.join(", ")),
        });
        let about = doc(&about);
        let aliases = aliased(&[path.to_owned()]);
        let endpoints: Vec<&Endpoint> = api
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.path == path)
            .collect();
        let verbs: Vec<TokenStream> = endpoints
            .iter()
            .map(|endpoint| self.verb(endpoint))
            .collect();
        let node_type = match is_root {
            true => self.path_node_type(""),
            false => self.path_node_type(path),
        };
        let verbs = (!verbs.is_empty()).then(|| {
            quote! {
                impl #node_type {
                    #(#verbs)*
                }
            }
        });
        // The root is there whatever its calls.
        let node = (!is_root).then(|| {
            let step = self.step_to(path);
            quote! {
                #about
                #aliases
                #[derive(Clone, Debug)]
                pub struct #node_type(pub(crate) PathNode);
                #step
            }
        });
        let requests = endpoints
            .iter()
            .map(|endpoint| {
                let (stages, request) = (self.stages(endpoint), self.request(endpoint));
                quote!(#stages #request)
            })
            .collect::<Vec<_>>();
        quote! {
            #node
            #verbs
            #(#requests)*
        }
    }

    /// The method of the path node above that leads to `path`.
    fn step_to(&self, path: &str) -> TokenStream {
        let name = ident(&names::path_node(self.overlay, path));
        let (above, segment) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.path_node_type(above);
        let placeholder = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let step = names::step(self.overlay, placeholder.unwrap_or(segment));
        let words = segment.split(['{', '}']);
        let aliases = aliased(&found_by(&step, words));
        let method = ident(&step);
        let calls = self.calls_of(path);
        let leads = match calls.is_empty() {
            true => format!("Leads to `{path}`."),
            false => format!("Leads to {}.", calls.join(", ")),
        };
        let about = match placeholder {
            None => doc(&[leads]),
            Some(placeholder) => {
                // Any endpoint of the path or below it may document the value.
                let places: Vec<Place> = self
                    .api
                    .endpoints
                    .iter()
                    .filter(|endpoint| below(&endpoint.path, path))
                    .map(|endpoint| argument_place(endpoint, placeholder))
                    .collect();
                let meaning = self.meaning(&places).map(str::to_owned);
                let mut paragraphs = vec![leads];
                paragraphs.extend(meaning);
                doc(&paragraphs)
            }
        };
        let body = match placeholder {
            None => quote! {
                pub fn #method(&self) -> #name {
                    #name(self.0.literal(#segment))
                }
            },
            Some(placeholder) => {
                let ty = self.placeholder_type(path, placeholder);
                // The server takes the rest of the path as one value for these.
                let step = match placeholder {
                    name if self.overlay.takes_rest(name) => quote!(rest),
                    _ => quote!(value),
                };
                quote! {
                    pub fn #method(&self, #method: #ty) -> #name {
                        #name(self.0.#step(#placeholder, &#method))
                    }
                }
            }
        };
        // Most people use the client as the root.
        let shortcut = above.is_empty().then(|| {
            quote! {
                impl Client {
                    #about
                    #[inline]
                    #[must_use]
                    pub fn #method(&self) -> #name {
                        self.api().#method()
                    }
                }
            }
        });
        quote! {
            #shortcut
            impl #parent {
                #about
                #aliases
                #[inline]
                #[must_use]
                #body
            }
        }
    }

    fn placeholder_type(&self, path: &str, placeholder: &str) -> TokenStream {
        let parameter = self
            .api
            .endpoints
            .iter()
            .filter(|endpoint| below(&endpoint.path, path))
            .flat_map(|endpoint| &endpoint.placeholders)
            .find(|parameter| parameter.name == placeholder);
        match parameter.map(|parameter| &parameter.ty) {
            Some(Ty::GuestNumber) => quote!(u32),
            Some(Ty::Integer) => quote!(i64),
            _ => quote!(impl std::fmt::Display),
        }
    }

    /// The method that makes a request; required parameters are its arguments, or follow by name.
    fn verb(&mut self, endpoint: &Endpoint) -> TokenStream {
        let method = ident(&names::verb(endpoint.method).to_lowercase());
        let required: Vec<&Parameter> = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required)
            .collect();
        let own = has_setters(endpoint);
        let arguments = self.arguments(endpoint);
        let paragraphs = match own {
            true => {
                let (key, gives) = (endpoint.key(), self.answer_words(&endpoint.returns));
                let mut paragraphs = vec![self.summary(endpoint), format!("`{key}` → {gives}")];
                if !arguments.is_empty() {
                    paragraphs.push(arguments.join("\n"));
                }
                paragraphs
            }
            // There is no request type that could document the rest.
            false => self.call_text(endpoint, &arguments),
        };
        let aliases = aliased(&match own {
            true => Vec::new(),
            false => self.searched(endpoint),
        });
        let about = doc(&paragraphs);
        let reply = reply(&endpoint.returns);
        let description = self.description(endpoint);
        if self.api.is_named(endpoint) {
            let stage = ident(&names::stage(self.overlay, &endpoint.path, endpoint.method));
            return quote! {
                #about
                #aliases
                #[inline]
                pub fn #method(&self) -> #stage<0> {
                    const ENDPOINT: &Endpoint = &#description;
                    #stage(self.0.request(ENDPOINT, #reply))
                }
            };
        }
        let inputs: Vec<Input> = (required.iter().enumerate())
            .map(|(position, parameter)| self.input(&parameter.ty, true, &format!("How{position}")))
            .collect();
        let hows = inputs.iter().map(|input| &input.generic);
        let generics = (!required.is_empty()).then(|| quote!(<#(#hows),*>));
        let arguments = required.iter().zip(&inputs).map(|(parameter, input)| {
            let name = ident(&names::field_of(self.overlay, *parameter));
            let bound = &input.bound;
            quote!(#name: impl #bound)
        });
        let settings = required.iter().zip(&inputs).map(|(parameter, input)| {
            let name = ident(&names::field_of(self.overlay, *parameter));
            let (wire, set) = (&parameter.name, &input.set);
            quote!(request.call.#set(#wire, #name);)
        });
        let request = quote!(self.0.request(ENDPOINT, #reply));
        let output = self.output(endpoint);
        let (result, wrap) = match own {
            true => {
                let name = ident(&names::request(
                    self.overlay,
                    &endpoint.path,
                    endpoint.method,
                ));
                (quote!(#name), quote!(#name))
            }
            false => (quote!(Request<#output>), quote!()),
        };
        let body = match (required.is_empty(), own) {
            (true, true) => quote!(#wrap(#request)),
            (true, false) => request,
            (false, _) => {
                let done = match own {
                    true => quote!(#wrap(request)),
                    false => quote!(request),
                };
                quote! {
                    let mut request = #request;
                    #(#settings)*
                    #done
                }
            }
        };
        quote! {
            #about
            #aliases
            #[inline]
            pub fn #method #generics(&self, #(#arguments),*) -> #result {
                const ENDPOINT: &Endpoint = &#description;
                #body
            }
        }
    }

    /// A documentation line for each argument of the verb.
    fn arguments(&mut self, endpoint: &Endpoint) -> Vec<String> {
        let required = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required);
        let lines = required.map(|parameter| {
            let name = names::field_of(self.overlay, parameter);
            let at = argument_place(endpoint, &parameter.name);
            let text = self.value_text(
                std::slice::from_ref(&at),
                &parameter.name,
                &parameter.facts,
                parameter.presence,
                endpoint.presence,
            );
            format!("* `{name}`: {text}")
        });
        lines.collect()
    }

    /// The methods for required parameters that are given by name, one after the other.
    fn stages(&mut self, endpoint: &Endpoint) -> TokenStream {
        if !self.api.is_named(endpoint) {
            return TokenStream::new();
        }
        let name = ident(&names::stage(self.overlay, &endpoint.path, endpoint.method));
        let output = self.output(endpoint);
        let required: Vec<&Parameter> = (endpoint.parameters.iter())
            .filter(|parameter| parameter.required)
            .collect();
        let stage = |position: usize| {
            let position = proc_macro2::Literal::usize_unsuffixed(position);
            quote!(#name<#position>)
        };
        let mut steps = Vec::new();
        for (position, parameter) in required.iter().enumerate() {
            let wire = parameter.name.as_str();
            let method = ident(&names::setter_of(self.overlay, parameter));
            let about = self.value_doc(
                &[argument_place(endpoint, wire)],
                wire,
                &parameter.facts,
                parameter.presence,
                endpoint.presence,
            );
            let Input {
                generic,
                bound,
                set,
            } = self.input(&parameter.ty, true, "How");
            let last = position + 1 == required.len();
            let (result, done) = match (last, has_setters(endpoint)) {
                (false, _) => (stage(position + 1), quote!(#name(self.0))),
                (true, true) => {
                    let request = ident(&names::request(
                        self.overlay,
                        &endpoint.path,
                        endpoint.method,
                    ));
                    (quote!(#request), quote!(#request(self.0)))
                }
                (true, false) => (quote!(Request<#output>), quote!(self.0)),
            };
            let from = stage(position);
            steps.push(quote! {
                impl #from {
                    #about
                    #[inline]
                    pub fn #method<#generic>(mut self, #method: impl #bound) -> #result {
                        self.0.call.#set(#wire, #method);
                        #done
                    }
                }
            });
        }
        let about = doc(&[
            format!("`{}` before all required parameters are given.", endpoint.key()),
            "Several required parameters are texts, so each is given by its name, in this order. `GIVEN` is the number of \
             those that are given."
                .to_owned(),
        ]);
        quote! {
            #about
            #[derive(Clone, Debug)]
            #[must_use = "required parameters are missing"]
            pub struct #name<const GIVEN: usize>(Request<#output>);
            #(#steps)*
        }
    }

    /// The type of an answer.
    pub(super) fn output(&self, endpoint: &Endpoint) -> TokenStream {
        match &endpoint.returns {
            Returns::Nothing => quote!(()),
            Returns::Data(ty) => self.ty(ty),
            Returns::Task { .. } => quote!(Task),
            Returns::Bytes => quote!(Bytes),
        }
    }

    /// The request type with its setters, if there are any.
    fn request(&mut self, endpoint: &Endpoint) -> TokenStream {
        if !has_setters(endpoint) {
            return TokenStream::new();
        }
        let name = ident(&names::request(
            self.overlay,
            &endpoint.path,
            endpoint.method,
        ));
        let arguments = self.arguments(endpoint);
        let about = doc(&self.call_text(endpoint, &arguments));
        let aliases = aliased(&self.searched(endpoint));
        let output = self.output(endpoint);
        let mut setters = Vec::new();
        for parameter in endpoint
            .parameters
            .iter()
            .filter(|parameter| !parameter.required)
        {
            setters.push(self.setter(endpoint, parameter));
        }
        setters.extend(unset(endpoint));
        let settings = self.settings(endpoint);
        setters.extend(settings.as_ref().map(|(setters, _)| setters.clone()));
        let settings = settings.map(|(_, impls)| impls);
        quote! {
            #about
            #aliases
            #[derive(Clone)]
            #[must_use = "a request does nothing until it is awaited"]
            pub struct #name(pub(crate) Request<#output>);
            request_impls!(#name: #output);
            impl #name {
                #(#setters)*
            }
            #settings
        }
    }

    /// The traits for accepting answers as a whole, and the answers.
    fn settings(&self, endpoint: &Endpoint) -> Option<(TokenStream, TokenStream)> {
        if endpoint.settings.is_empty() {
            return None;
        }
        let name = ident(&names::request(
            self.overlay,
            &endpoint.path,
            endpoint.method,
        ));
        let removes = unset(endpoint).is_some();
        let impls = endpoint.settings.iter().map(|settings| {
            let (item, left_out) = (self.ty(&Ty::Item(settings.item)), &settings.left_out);
            let lists = &settings.lists;
            let lists = (!lists.is_empty())
                .then(|| quote!(const LISTS: &'static [&'static str] = &[#(#lists),*];));
            let gate = self.gate(&self.item_areas[settings.item]);
            quote! {
                #gate
                impl Settings<#name> for #item {
                    const LEFT_OUT: &'static [&'static str] = &[#(#left_out),*];
                    const REMOVES: bool = #removes;
                    #lists
                }
            }
        });
        let setters = quote! {
            /// Sets all members of a value, such as a configuration that was read or made, apart
            /// from those that this call does not accept and from the digest. Parameters set later
            /// replace those of the value.
            pub fn settings<T: Settings<Self>>(mut self, of: &T) -> Self {
                self.0.call.put_settings(of, T::ACCEPTANCE);
                self
            }

            /// Applies the changes that `diff` or `drift` found, apart from those that this call
            /// does not accept.
            pub fn changes<T: Settings<Self>>(mut self, changes: &Changes<T>) -> Self {
                let (all, digest) = (changes.as_slice(), changes.digest());
                self.0.call.put_changes(all, digest, T::ACCEPTANCE);
                self
            }
        };
        Some((setters, quote!(#(#impls)*)))
    }

    /// The condition that omits code for an area that may be disabled.
    fn gate(&self, area: &str) -> Option<TokenStream> {
        let area = self
            .overlay
            .areas()
            .iter()
            .find(|known| known.name == area)?;
        let needed = area.always || area.name == self.current;
        (!needed).then(|| {
            let feature = area.name.replace('_', "-");
            quote!(#[cfg(feature = #feature)])
        })
    }

    /// The first of the releases that want a parameter, up to the newest. It is a setter because
    /// older ones do not.
    fn required_since(&self, endpoint: &Endpoint, name: &str) -> Option<Release> {
        let wants = |facts: &Facts| {
            let methods = facts.endpoints.get(&endpoint.path)?;
            let parameters = &methods.get(&endpoint.method)?.parameters;
            Some(!parameters.properties.get(name)?.optional)
        };
        let wanting = self.releases.iter().rev();
        let wanting = wanting.take_while(|facts| wants(facts) == Some(true));
        wanting.last().map(|facts| facts.release)
    }

    fn setter(&mut self, endpoint: &Endpoint, parameter: &Parameter) -> TokenStream {
        let wire = parameter.name.as_str();
        let name = names::setter_of(self.overlay, parameter);
        let aliases = aliased(&self.wire_names(&endpoint.path, wire, &name));
        let name = ident(&name);
        let at = argument_place(endpoint, wire);
        let mut text = self.value_text(
            std::slice::from_ref(&at),
            wire,
            &parameter.facts,
            parameter.presence,
            endpoint.presence,
        );
        if let Some(release) = self.required_since(endpoint, wire) {
            text.push_str(&format!(" Required since {release}."));
        }
        let about = doc(&[text]);
        let input = self.input(&parameter.ty, false, "How");
        let Input {
            generic,
            bound,
            set,
        } = input;
        match wire.strip_suffix("[n]") {
            Some(prefix) => {
                let ty = self.ty(&parameter.ty);
                quote! {
                    #about
                    #aliases
                    #[inline]
                    pub fn #name<Which, How>(
                        mut self,
                        index: impl IntoValue<u8, Which>,
                        #name: impl IntoSetting<#ty, How>,
                    ) -> Self {
                        self.0.call.set_member::<#ty, Which, How>(#prefix, index, #name);
                        self
                    }
                }
            }
            None => quote! {
                #about
                #aliases
                #[inline]
                pub fn #name<#generic>(mut self, #name: impl #bound) -> Self {
                    self.0.call.#set(#wire, #name);
                    self
                }
            },
        }
    }

    /// The form in which a value of the type is passed.
    pub(super) fn input(&self, ty: &Ty, required: bool, how: &str) -> Input {
        let how = ident(how);
        let (of, items, array) = match ty {
            Ty::List(of) => (self.ty(of), true, false),
            Ty::Array(of) => (self.ty(of), true, true),
            ty => (self.ty(ty), false, false),
        };
        let bound = match (items, required) {
            (false, true) => quote!(IntoValue<#of, #how>),
            (false, false) => quote!(IntoSetting<#of, #how>),
            (true, true) => quote!(IntoItems<#of, #how>),
            (true, false) => quote!(IntoItemsSetting<#of, #how>),
        };
        let set = ident(match (items, array, required) {
            (false, _, true) => "set_as",
            (false, _, false) => "set_some",
            (true, false, true) => "set_list",
            (true, false, false) => "set_some_list",
            (true, true, true) => "set_all",
            (true, true, false) => "set_some_all",
        });
        Input {
            generic: match array {
                true => quote!(#how: Several),
                false => quote!(#how),
            },
            bound,
            set: quote!(#set::<#of, #how>),
        }
    }

    fn description(&self, endpoint: &Endpoint) -> TokenStream {
        let method = ident(names::verb(endpoint.method));
        let path = &endpoint.path;
        let permission = permission(endpoint.permissions.as_ref(), &endpoint.privileges);
        let mut description = quote!(Endpoint::new(Method::#method, #path, #permission));
        let known = self.all_releases();
        let release = |index: usize| {
            let release = self.api.releases[index];
            let major = proc_macro2::Literal::u8_unsuffixed(release.major);
            let minor = proc_macro2::Literal::u8_unsuffixed(release.minor);
            quote!(#major, #minor)
        };
        if endpoint.presence.first() > known.first() {
            let since = release(endpoint.presence.first());
            description = quote!(#description.since(#since));
        }
        if endpoint.presence.last() < known.last() {
            let until = release(endpoint.presence.last());
            description = quote!(#description.until(#until));
        }
        if !endpoint.allowtoken {
            description = quote!(#description.ticket_only());
        }
        if endpoint.download {
            description = quote!(#description.download());
        }
        let secrets: Vec<&str> = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.secret)
            .map(|parameter| parameter.name.as_str())
            .collect();
        if !secrets.is_empty() {
            description = quote!(#description.secrets(&[#(#secrets),*]));
        }
        let separators: Vec<TokenStream> = (endpoint.parameters.iter())
            .filter_map(|parameter| {
                let name = &parameter.name;
                let separator = parameter.separator.filter(|separator| *separator != ',')?;
                Some(quote!((#name, #separator)))
            })
            .collect();
        if !separators.is_empty() {
            description = quote!(#description.separators(&[#(#separators),*]));
        }
        let limits: Vec<TokenStream> = (endpoint.parameters.iter())
            .flat_map(|parameter| {
                let last = (parameter.name.ends_with("[n]"))
                    .then(|| self.overlay.last_index(&endpoint.path, &parameter.name))
                    .flatten();
                let name = &parameter.name;
                let last = last.map(|last| {
                    let last = proc_macro2::Literal::u8_unsuffixed(last);
                    quote!((#name, Takes::Index(#last)))
                });
                last.into_iter()
                    .chain(limits(self.overlay, name, &parameter.ty, &parameter.limits))
            })
            .collect();
        if !limits.is_empty() {
            description = quote!(#description.limits(&[#(#limits),*]));
        }
        let partial: Vec<TokenStream> = endpoint
            .parameters
            .iter()
            .filter(|parameter| {
                let (own, all) = (parameter.presence, endpoint.presence);
                own.first() > all.first() || own.last() < all.last()
            })
            .map(|parameter| {
                let name = &parameter.name;
                let bound = |differs: bool, index| match differs {
                    true => {
                        let bound = release(index);
                        quote!(Some(Release::new(#bound)))
                    }
                    false => quote!(None),
                };
                let (own, all) = (parameter.presence, endpoint.presence);
                let since = bound(own.first() > known.first(), own.first());
                let until = bound(own.last() < all.last(), own.last());
                quote!(Partial::new(#name, #since, #until))
            })
            .collect();
        if !partial.is_empty() {
            description = quote!(#description.partial(&[#(#partial),*]));
        }
        let renamed = endpoint.renamed.iter().map(|renamed| {
            let (old, new) = (&renamed.old, &renamed.new);
            let major = proc_macro2::Literal::u8_unsuffixed(renamed.since.major);
            let minor = proc_macro2::Literal::u8_unsuffixed(renamed.since.minor);
            quote!(Renamed::new(#old, #new, Release::new(#major, #minor)))
        });
        if !endpoint.renamed.is_empty() {
            description = quote!(#description.renamed(&[#(#renamed),*]));
        }
        description
    }

    fn path_node_type(&self, path: &str) -> TokenStream {
        let name = ident(&names::path_node(self.overlay, path));
        let home = self.path_area(path);
        if path.is_empty() {
            quote!(super::#name)
        } else if home == self.current {
            quote!(#name)
        } else {
            let home = ident(&home);
            quote!(super::#home::#name)
        }
    }
}

/// The form in which a value is passed: its generic parameter, its bound, and the core function
/// that sets it.
pub(super) struct Input {
    pub(super) generic: TokenStream,
    pub(super) bound: TokenStream,
    set: TokenStream,
}

/// The accepted values of a parameter or key, as data, with the formats that the library knows.
pub(super) fn limits(overlay: &Overlay, name: &str, ty: &Ty, limits: &Limits) -> Vec<TokenStream> {
    let ty = match ty {
        Ty::Array(of) => of,
        ty => ty,
    };
    let mut found = Vec::new();
    let bound = |number: &Option<serde_json::Number>| number.as_ref().and_then(|n| n.as_f64());
    match ty {
        Ty::Integer | Ty::GuestNumber | Ty::Bytes | Ty::Time => {
            let integer = |number: &Option<serde_json::Number>| {
                let number = number.as_ref()?;
                number.as_i64().or_else(|| Some(number.as_f64()? as i64))
            };
            let (least, most) = (integer(&limits.minimum), integer(&limits.maximum));
            if least.is_some() || most.is_some() {
                let literal = |bound: Option<i64>, open: &str| match bound {
                    Some(bound) => {
                        let bound = proc_macro2::Literal::i64_unsuffixed(bound);
                        quote!(#bound)
                    }
                    None => {
                        let open = ident(open);
                        quote!(i64::#open)
                    }
                };
                let (least, most) = (literal(least, "MIN"), literal(most, "MAX"));
                found.push(quote!((#name, Takes::Integer(#least, #most))));
            }
        }
        Ty::Number => {
            let (least, most) = (bound(&limits.minimum), bound(&limits.maximum));
            if least.is_some() || most.is_some() {
                let literal = |bound: Option<f64>, open: &str| match bound {
                    Some(bound) => {
                        let bound = proc_macro2::Literal::f64_unsuffixed(bound);
                        quote!(#bound)
                    }
                    None => {
                        let open = ident(open);
                        quote!(f64::#open)
                    }
                };
                let (least, most) = (literal(least, "NEG_INFINITY"), literal(most, "INFINITY"));
                found.push(quote!((#name, Takes::Number(#least, #most))));
            }
        }
        Ty::Text | Ty::TextType(_) | Ty::Secret | Ty::List(_) => {
            let length = |length: Option<u64>| length.and_then(|length| u32::try_from(length).ok());
            let (least, most) = (length(limits.min_length), length(limits.max_length));
            if least.is_some() || most.is_some() {
                let least = proc_macro2::Literal::u32_unsuffixed(least.unwrap_or(0));
                let most = match most {
                    Some(most) => {
                        let most = proc_macro2::Literal::u32_unsuffixed(most);
                        quote!(#most)
                    }
                    None => quote!(u32::MAX),
                };
                found.push(quote!((#name, Takes::Length(#least, #most))));
            }
            let patterns: Vec<String> = (limits.patterns.iter())
                .map(|pattern| crate::limits::translate(pattern))
                .collect();
            if !patterns.is_empty() {
                found.push(quote!((#name, Takes::Pattern(&[#(#patterns),*]))));
            }
            let format = limits.format.as_ref();
            if let Some(format) = format.filter(|format| overlay.is_checked(format)) {
                found.push(quote!((#name, Takes::Format(#format))));
            }
        }
        _ => {}
    }
    found
}

pub(super) fn argument_place(endpoint: &Endpoint, name: &str) -> Place {
    Place {
        path: endpoint.path.clone(),
        method: endpoint.method,
        fields: vec![name.to_owned()],
        element: false,
        result: false,
        owner: None,
    }
}

/// Whether `path` is `above` or lies below it.
fn below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The function that reads the answer.
fn reply(returns: &Returns) -> TokenStream {
    match returns {
        Returns::Nothing => quote!(reply::nothing),
        Returns::Data(_) => quote!(reply::data),
        Returns::Task { .. } => quote!(reply::task),
        Returns::Bytes => quote!(reply::bytes),
    }
}

/// Whether a request has anything to set, and so a type of its own.
pub(crate) fn has_setters(endpoint: &Endpoint) -> bool {
    let optional = |parameter: &Parameter| !parameter.required;
    endpoint.parameters.iter().any(optional) || unset(endpoint).is_some()
}

/// `unset`, for endpoints that take names of settings to remove.
pub(super) fn unset(endpoint: &Endpoint) -> Option<TokenStream> {
    let delete = endpoint
        .parameters
        .iter()
        .find(|parameter| parameter.name == "delete")?;
    let names = matches!(delete.ty, Ty::Text | Ty::List(_) | Ty::Array(_));
    (names && endpoint.method != Method::Delete && !delete.required).then(|| {
        quote! {
            /// Removes a setting, so that its default applies again; adds its wire name to `delete`.
            #[inline]
            pub fn unset(mut self, name: impl Into<String>) -> Self {
                self.0.call.unset(name.into());
                self
            }
        }
    })
}

fn permission(permissions: Option<&Permissions>, privileges: &[Privilege]) -> TokenStream {
    let Some(permissions) = permissions else {
        return quote!(Permission::Root);
    };
    let mut all: Vec<TokenStream> = permissions.check.iter().map(check_data).collect();
    all.extend(privileges.iter().map(privilege_data));
    match (&all[..], permissions.user.as_deref()) {
        ([], Some("world")) => quote!(Permission::World),
        ([], _) => quote!(Permission::Authenticated),
        ([one], _) => one.clone(),
        (all, _) => quote!(Permission::And(&[#(#all),*])),
    }
}

fn privilege_data(privilege: &Privilege) -> TokenStream {
    let mut needs = need_data(&privilege.check);
    if let Some(rows) = &privilege.rows {
        needs = quote!(Permission::Rows(#rows, &#needs));
    }
    let given = &privilege.given;
    let when = privilege.when.as_deref().unwrap_or_default();
    if !given.is_empty() || !when.is_empty() {
        needs = quote!(Permission::When(&[#(#given),*], #when, &#needs));
    }
    needs
}

fn need_data(need: &Need) -> TokenStream {
    match need {
        Need::And(needs) => {
            let needs = needs.iter().map(need_data);
            quote!(Permission::And(&[#(#needs),*]))
        }
        Need::Or(needs) => {
            let needs = needs.iter().map(need_data);
            quote!(Permission::Or(&[#(#needs),*]))
        }
        Need::Check(check) => check_data(check),
        Need::Root => quote!(Permission::Root),
        Need::Other(words) => quote!(Permission::Other(#words)),
    }
}

fn check_data(check: &Check) -> TokenStream {
    match check {
        Check::Or(checks) => {
            let checks = checks.iter().map(check_data);
            quote!(Permission::Or(&[#(#checks),*]))
        }
        Check::And(checks) => {
            let checks = checks.iter().map(check_data);
            quote!(Permission::And(&[#(#checks),*]))
        }
        Check::Perm {
            path,
            privileges,
            any,
            require_param,
        } => match (require_param, any) {
            (Some(parameter), _) => {
                quote!(Permission::Given(#parameter, #path, &[#(#privileges),*]))
            }
            (None, true) => quote!(Permission::Any(#path, &[#(#privileges),*])),
            (None, false) => quote!(Permission::All(#path, &[#(#privileges),*])),
        },
        Check::UserIdGroup { privileges, .. } => {
            quote!(Permission::UserGroup(&[#(#privileges),*]))
        }
        Check::UserIdParam(what) if what == "self" => quote!(Permission::SelfUser),
        Check::UserIdParam(privilege) => quote!(Permission::UserRealm(#privilege)),
        Check::PermModify(path) => quote!(Permission::Modify(#path)),
        Check::UserParam(_) | Check::Roles(_) => quote!(Permission::Authenticated),
    }
}
