//! The answers that requests accept as a whole.

use std::collections::BTreeMap;

use super::{Endpoint, Item, ItemId, ItemKind, Parameter, Returns, Settings, Ty};
use crate::facts::Method;
use crate::overlay::Overlay;
use crate::union::Union;

/// Sets the answers that each request accepts as a whole.
pub(super) fn with_settings(
    mut endpoints: Vec<Endpoint>,
    union: &Union,
    items: &[Item],
    overlay: &Overlay,
) -> Vec<Endpoint> {
    let item_of = |endpoint: &Endpoint| match &endpoint.returns {
        Returns::Data(Ty::Item(id)) => Some(*id),
        Returns::Data(Ty::Array(of)) => match **of {
            Ty::Item(id) => Some(id),
            _ => None,
        },
        _ => None,
    };
    let answers: BTreeMap<String, ItemId> = (endpoints.iter())
        .filter(|endpoint| endpoint.method == Method::Get)
        .filter_map(|endpoint| Some((endpoint.path.clone(), item_of(endpoint)?)))
        .collect();
    for pair in &union.settings_pairs {
        let is_of =
            |endpoint: &&mut Endpoint| endpoint.path == pair.path && endpoint.method == pair.method;
        let Some(endpoint) = endpoints.iter_mut().find(is_of) else {
            continue;
        };
        let Some(item) = answers.get(&pair.get).copied() else {
            continue;
        };
        let ItemKind::Struct(members) = &items[item].kind else {
            continue;
        };
        let known = endpoint.settings.iter().any(|known| known.item == item);
        // A request without parameters to set has no setters at all.
        if known
            || endpoint
                .parameters
                .iter()
                .all(|parameter| parameter.required)
        {
            continue;
        }
        let key = endpoint.key();
        let (mut left_out, mut lists) = (Vec::new(), Vec::new());
        for member in members {
            let name = member.full_name();
            let parameter = endpoint.parameters.iter().find(|p| p.name == name);
            match parameter {
                Some(_)
                    if overlay.is_apart(&format!("{key}?{name}"))
                        || overlay.is_apart(&format!("GET {}#{name}", pair.get)) =>
                {
                    left_out.push(name);
                }
                Some(parameter) if settable_type(&parameter.ty) != settable_type(&member.ty) => {
                    overlay.mismatch(format!(
                        "{key}?{name}: is of another type than what GET {} answers; patch one of them, or say in \
                         settings.toml why they are apart: `\"{key}?{name}\" = \"…\"` under [apart]",
                        pair.get
                    ));
                    left_out.push(name);
                }
                Some(Parameter {
                    ty: Ty::List(_), ..
                }) if matches!(member.ty, Ty::Array(_)) => lists.push(name),
                Some(_) => {}
                None => left_out.push(name),
            }
        }
        endpoint.settings.push(Settings {
            item,
            left_out,
            lists,
        });
    }
    endpoints
}

/// A type as far as its values can be set: a list counts as an array.
fn settable_type(ty: &Ty) -> (bool, &Ty) {
    match ty {
        Ty::List(of) | Ty::Array(of) => (true, of),
        Ty::Optional(of) => settable_type(of),
        ty => (false, ty),
    }
}
