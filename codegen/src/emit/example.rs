//! A call in Rust, with values that the schema accepts.

use std::cell::RefCell;
use std::collections::BTreeSet;

use quote::quote;

use super::docs::example_block;
use super::expectations::SampleContext;
use super::{Emitter, ident};
use crate::facts::Schemas;
use crate::ir::{Endpoint, Returns, Ty};
use crate::names;

impl Emitter<'_> {
    /// The shortest form of a call: its path and its required parameters.
    pub(super) fn example(&self, endpoint: &Endpoint) -> String {
        let Some(facts) = self.releases.get(endpoint.presence.last()) else {
            return String::new();
        };
        let known = facts.endpoints.get(&endpoint.path);
        let known = known.and_then(|methods| methods.get(&endpoint.method));
        let empty = Schemas::new();
        let used = RefCell::new(BTreeSet::new());
        let context = SampleContext {
            formats: &facts.formats,
            siblings: known.map_or(&empty, |endpoint| &endpoint.parameters.properties),
            earlier: self.releases,
            separator: ',',
            inside: false,
            owner: "",
            path: false,
            named_types: Some(&used),
        };
        let module = self.module();
        let mut code = match endpoint.path.as_str() {
            "/" => quote!(#module.api()),
            _ => quote!(#module),
        };
        for segment in endpoint.path.split('/').filter(|part| !part.is_empty()) {
            let placeholder = segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            let method = ident(&names::step(self.overlay, placeholder.unwrap_or(segment)));
            code = match placeholder {
                None => quote!(#code.#method()),
                Some(name) => {
                    let value = self.placeholder(endpoint, name, &context).code;
                    quote!(#code.#method(#value))
                }
            };
        }
        let verb = ident(&names::verb(endpoint.method).to_lowercase());
        let required = endpoint
            .parameters
            .iter()
            .filter(|parameter| parameter.required);
        let steps = required
            .clone()
            .map(|parameter| ident(&names::setter_of(self.overlay, parameter)));
        let arguments =
            required.map(|parameter| self.parameter(endpoint, parameter, &context).code);
        let code = match self.api.is_named(endpoint) {
            true => quote!(#code.#verb()#(.#steps(#arguments))*.await?),
            false => quote!(#code.#verb(#(#arguments),*).await?),
        };
        let statements = match &endpoint.returns {
            Returns::Nothing => quote!(#code;),
            Returns::Task { .. } => quote!(let task = #code; task.wait().await?;),
            Returns::Bytes => quote!(let bytes = #code;),
            Returns::Data(Ty::Array(_)) => quote!(let list = #code;),
            Returns::Data(_) => quote!(let answer = #code;),
        };
        let used = used.into_inner();
        let imports = used.iter().map(|id| {
            let (area, name) = (ident(&self.item_areas[*id]), ident(&self.names.items[*id]));
            quote!(use proxmox_api::#module::#area::#name;)
        });
        let file = syn::parse2(quote!(#(#imports)* fn example() { #statements }));
        let text = file
            .map(|file| prettyplease::unparse(&file))
            .unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| !matches!(*line, "fn example() {" | "}"));
        let lines: Vec<&str> = lines
            .map(|line| line.strip_prefix("    ").unwrap_or(line))
            .collect();
        example_block(self.api.product, &lines.join("\n"), true)
    }
}
