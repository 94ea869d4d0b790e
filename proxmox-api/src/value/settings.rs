//! A configuration as one value: the parameters that a request accepts of it, and differences
//! between two configurations.

use std::fmt;
use std::marker::PhantomData;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::value::api_value::{Object, ObjectSchema, Scalar, View, text_of};
use crate::value::encode::ParamValue;
use crate::value::problem::Problem;
use crate::value::serialize::{Field, record};
use crate::value::{ApiValue, compare, list, property_string};

/// A value that the `settings` method of a request of type `R` accepts as a whole; its `changes`
/// method accepts parts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not hold the settings of `{R}`",
    label = "not what this request sets"
)]
pub trait Settings<R>: Object {
    /// Members that the request does not accept.
    #[doc(hidden)]
    const LEFT_OUT: &'static [&'static str];

    /// Arrays that it accepts as lists in one text.
    #[doc(hidden)]
    const LISTS: &'static [&'static str] = &[];

    /// Whether the request can remove settings.
    #[doc(hidden)]
    const REMOVES: bool;

    #[doc(hidden)]
    const ACCEPTANCE: Acceptance = Acceptance {
        left_out: Self::LEFT_OUT,
        lists: Self::LISTS,
        removes: Self::REMOVES,
    };
}

/// The way in which a request accepts a value.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Acceptance {
    left_out: &'static [&'static str],
    lists: &'static [&'static str],
    pub(crate) removes: bool,
}

impl Acceptance {
    /// Whether the request accepts the member of this name. Names of indexed members end in `[n]`.
    pub(crate) fn accepts(&self, name: &str) -> bool {
        let is = |other: &&&str| match other.strip_suffix("[n]") {
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|index| {
                !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
            }),
            None => **other == name,
        };
        !self.left_out.iter().any(|other| is(&other))
    }

    /// A member in the form for the request.
    pub(crate) fn form(&self, name: &str, written: Written) -> Written {
        match written.value {
            ParamValue::Many(texts) if self.lists.contains(&name) => Written {
                problem: (written.problem)
                    .or_else(|| texts.iter().find_map(|text| list::not_one_item(text))),
                value: ParamValue::One(texts.join(",")),
            },
            _ => written,
        }
    }
}

/// The digest of a configuration.
pub(crate) const DIGEST: &str = "digest";

/// The text of a setting, and the reason why a server would misread it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) value: ParamValue,
    pub(crate) problem: Option<Problem>,
}

/// One setting that differs.
#[derive(Clone)]
pub struct Change {
    name: String,
    before: Option<ParamValue>,
    after: Option<Written>,
    secret: bool,
}

impl Change {
    /// The name of the setting on the wire, as `net0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its present text; `None` if it is not set.
    #[must_use]
    pub fn before(&self) -> Option<&ParamValue> {
        self.before.as_ref()
    }

    /// Its wanted text; `None` if it is to be removed.
    #[must_use]
    pub fn after(&self) -> Option<&ParamValue> {
        self.after.as_ref().map(|written| &written.value)
    }

    pub(crate) fn written(&self) -> Option<&Written> {
        self.after.as_ref()
    }
}

/// `cores: 2 -> 4`; values of secrets are not shown.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printed = |value: Option<&ParamValue>| match value {
            None => "not set".to_owned(),
            Some(_) if self.secret => "…".to_owned(),
            Some(value) => value.texts().join(", "),
        };
        let (before, after) = (printed(self.before()), printed(self.after()));
        write!(f, "{}: {before} -> {after}", self.name)
    }
}

/// `{"name":"cores","before":"2","after":"4"}`; values of secrets are left out.
impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = |value: Option<&ParamValue>| match value {
            None => Value::Null,
            Some(_) if self.secret => Value::from("…"),
            Some(ParamValue::One(text)) => Value::from(text.as_str()),
            Some(ParamValue::Many(texts)) => Value::from(texts.as_slice()),
        };
        let (before, after) = (written(self.before()), written(self.after()));
        let fields: &[(&str, &dyn Field)] =
            &[("name", &self.name), ("before", &before), ("after", &after)];
        record(fields, serializer)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({self})")
    }
}

/// The changes that turn a configuration of type `T` into another, or make it hold the members of
/// another.
///
/// The `changes` method of a request applies them: it sets values, names removed ones in `delete`,
/// and sends the digest of the compared configuration, so that the server refuses them if it was
/// changed in between.
///
/// ```
/// # #[cfg(feature = "qemu")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use proxmox_api::pve::qemu::{QemuConfig, QemuNet};
/// use serde_json::json;
///
/// let wanted = QemuConfig::new().cores(4).net(0, QemuNet::virtio().bridge("vmbr1"));
/// let found = QemuConfig::from_json(json!({
///     "cores": 2, "memory": 2048, "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
/// }))?;
///
/// let drift = found.drift(&wanted);
/// let lines: Vec<String> = drift.iter().map(ToString::to_string).collect();
/// assert_eq!(lines, [
///     "cores: 2 -> 4",
///     "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0 -> virtio=BC:24:11:00:00:01,bridge=vmbr1",
/// ]);
///
/// # let pve = proxmox_api::pve::Root::detached();
/// let request = pve.nodes().node("pve1").qemu().vmid(101).config().put().changes(&drift);
/// assert_eq!(request.call().params().encode(), "cores=4&net0=virtio%3DBC%3A24%3A11%3A00%3A00%3A01%2Cbridge%3Dvmbr1");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "qemu"))]
/// # fn main() {}
/// ```
pub struct Changes<T> {
    all: Vec<Change>,
    digest: Option<String>,
    object: PhantomData<fn() -> T>,
}

impl<T> Changes<T> {
    /// Each setting that differs, in the order of the configuration.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.all.iter()
    }

    /// The number of settings that differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Keeps the changes for which `keep` returns true.
    pub fn retain(&mut self, keep: impl FnMut(&Change) -> bool) {
        self.all.retain(keep);
    }

    /// The digest of the configuration to change, if the server sent one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

if_any_area! {
    impl<T> Changes<T> {
        pub(crate) fn as_slice(&self) -> &[Change] {
            &self.all
        }
    }
}

/// The list of changes.
impl<T> Serialize for Changes<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl<T> Clone for Changes<T> {
    fn clone(&self) -> Self {
        Self {
            all: self.all.clone(),
            digest: self.digest.clone(),
            object: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

/// A line for each change.
impl<T> fmt::Display for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, change) in self.all.iter().enumerate() {
            let newline = if position == 0 { "" } else { "\n" };
            write!(f, "{newline}{change}")?;
        }
        Ok(())
    }
}

impl<'a, T> IntoIterator for &'a Changes<T> {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> IntoIterator for Changes<T> {
    type Item = Change;
    type IntoIter = std::vec::IntoIter<Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

/// The members that are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All members of both.
    AllMembers,
    /// Only the members of the other.
    OnlyGiven,
}

/// The changes that turn `before` into `after`.
#[doc(hidden)]
pub fn diff<T: Object>(before: &T, after: &T) -> Changes<T> {
    changes_between(before, after, Extent::AllMembers)
}

/// The changes that make `before` hold the members of `desired`.
#[doc(hidden)]
pub fn drift<T: Object>(before: &T, desired: &T) -> Changes<T> {
    changes_between(before, desired, Extent::OnlyGiven)
}

fn changes_between<T: Object>(before: &T, after: &T, extent: Extent) -> Changes<T> {
    let (all, digest) = differences(before, after, extent);
    Changes {
        all,
        digest,
        object: PhantomData,
    }
}

fn differences(
    before: &dyn Object,
    after: &dyn Object,
    extent: Extent,
) -> (Vec<Change>, Option<String>) {
    let (mut all, mut digest) = (Vec::new(), None);
    before.fields(&mut |schema, before| {
        after.fields(&mut |_, after| {
            let before = members(schema, before);
            let mut after = members(schema, after);
            if extent == Extent::OnlyGiven {
                after.retain(|(name, view)| !is_not_given(schema, name, view));
            }
            digest =
                (before.iter()).find_map(|(name, view)| (name == DIGEST).then(|| view.text())?);
            all = compared(&before, &after, extent);
        });
    });
    (all, digest)
}

fn compared(
    before: &[(String, View<'_>)],
    after: &[(String, View<'_>)],
    extent: Extent,
) -> Vec<Change> {
    let find = |all: &[(String, View<'_>)], name: &str| all.iter().position(|(n, _)| n == name);
    let mut changes = Vec::new();
    let mut add = |name: &str, old: Option<&View<'_>>, new: Option<Written>, secret: bool| {
        let before = old.and_then(written).map(|written| written.value);
        let same = before.as_ref() == new.as_ref().map(|new| &new.value);
        if !same {
            changes.push(Change {
                name: name.to_owned(),
                before,
                after: new,
                secret,
            });
        }
    };
    let given = after.iter().filter(|(name, _)| name != DIGEST);
    for (name, new) in given {
        let old = find(before, name).map(|place| &before[place].1);
        let secret = matches!(new, View::Secret(_)) || crate::value::secret::is_secret(name);
        match (old, new, extent) {
            // The server does not show the present value.
            (_, View::Secret(_), Extent::OnlyGiven) => {}
            (Some(old), new, _) if compare::views(old, new) => {}
            (Some(View::Object(old)), View::Object(new), Extent::OnlyGiven) => {
                if let Some(text) = property_string::merged(*old, *new) {
                    let value = ParamValue::One(text);
                    let problem = property_string::problem(*new);
                    add(
                        name,
                        Some(&View::Object(*old)),
                        Some(Written { value, problem }),
                        secret,
                    );
                }
            }
            (old, new, _) => {
                if let Some(new) = written(new) {
                    add(name, old, Some(new), secret);
                }
            }
        }
    }
    if extent == Extent::AllMembers {
        let gone = before.iter().filter(|(name, view)| {
            name != DIGEST && find(after, name).is_none() && written(view).is_some()
        });
        for (name, view) in gone {
            add(name, Some(view), None, matches!(view, View::Secret(_)));
        }
    }
    changes
}

/// All present members of an object, by their names on the wire, with indexed and extra ones.
fn members<'a>(schema: &ObjectSchema, fields: &[&'a dyn ApiValue]) -> Vec<(String, View<'a>)> {
    let mut found = Vec::new();
    let names = schema.names().map(Some).chain([None]);
    for (name, field) in names.zip(fields) {
        match (name, field.view()) {
            (_, View::Absent | View::AbsentSecret) => {}
            (Some(name), View::Indexed(members)) => {
                let members = members.entries().into_iter();
                found.extend(members.map(|(index, view)| (format!("{name}{index}"), view.view())));
            }
            (Some(name), view) => found.push((name.to_owned(), view)),
            (None, View::Extra(extra)) => {
                let extra = extra.iter();
                found.extend(extra.map(|(name, value)| (name.clone(), View::Json(value))));
            }
            (None, _) => {}
        }
    }
    found
}

/// Whether a member that answers always have still has its initial value.
fn is_not_given(schema: &ObjectSchema, name: &str, view: &View<'_>) -> bool {
    let is_blank = match view {
        View::Scalar(Scalar::Bool(value)) => !value,
        View::Scalar(Scalar::Int(value)) => *value == 0,
        View::Scalar(Scalar::Text(text)) => text.is_empty(),
        View::Secret(text) => text.is_empty(),
        _ => false,
    };
    is_blank && schema.required.contains(&name)
}

/// A member as a parameter; `None` without such a form.
fn written(view: &View<'_>) -> Option<Written> {
    let value = match view {
        View::List(items) => ParamValue::One(items.joined(",")),
        View::Array(items) => {
            let texts = items.iter().map(|item| item.view().text());
            ParamValue::Many(texts.collect::<Option<_>>()?)
        }
        View::Json(serde_json::Value::Array(items)) => {
            ParamValue::Many(items.iter().map(text_of).collect::<Option<_>>()?)
        }
        View::Json(value) => ParamValue::One(text_of(value)?),
        view => ParamValue::One(view.text()?),
    };
    let problem = match view {
        View::Array(items) => items.iter().find_map(|item| item.view().problem()),
        view => view.problem(),
    };
    Some(Written { value, problem })
}

/// All settings of a value.
pub(crate) fn all(value: &dyn Object) -> Vec<(String, Written)> {
    let mut found = Vec::new();
    value.fields(&mut |schema, fields| {
        let members = members(schema, fields).into_iter();
        // An empty text of a required member was not set; the request has its own.
        let members = members.filter(|(name, view)| {
            let is_empty = view.text().is_some_and(|text| text.is_empty());
            name != DIGEST && !(is_empty && is_not_given(schema, name, view))
        });
        found.extend(members.filter_map(|(name, view)| Some((name, written(&view)?))));
    });
    found
}

#[cfg(all(test, feature = "qemu"))]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pve::Root;
    use crate::pve::qemu::{QemuConfig, QemuDrive, QemuNet};

    fn found() -> QemuConfig {
        QemuConfig::from_json(json!({
            "digest": "1f", "cores": 2, "memory": "2048", "tags": "a;b", "meta": "creation-qemu=9.0",
            "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1", "scsi0": "local:disk,size=1024G",
            "future": 7,
        }))
        .expect("a configuration")
    }

    fn lines(changes: &Changes<QemuConfig>) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_does_not_differ_from_itself() {
        assert!(found().diff(&found()).is_empty());
        assert!(found().drift(&found()).is_empty());
        assert_eq!(found().diff(&found()).digest(), Some("1f"));
    }

    #[test]
    fn a_member_of_one_side_only_is_a_difference() {
        let desired = found().cores(4).onboot(true);
        let desired = QemuConfig {
            memory: None,
            ..desired
        };
        let changes = found().diff(&desired);
        assert_eq!(
            lines(&changes),
            [
                "cores: 2 -> 4",
                "onboot: not set -> 1",
                "memory: 2048 -> not set"
            ]
        );
        let request = Root::detached().nodes().node("pve1").qemu().vmid(1);
        let request = request.config().put().changes(&changes);
        assert_eq!(
            request.call().params().encode(),
            "cores=4&onboot=1&delete=memory&digest=1f"
        );
    }

    #[test]
    fn members_that_are_not_set_are_not_compared() {
        let drive = QemuDrive::new("local:disk").size("1T");
        let desired = QemuConfig::new()
            .memory(2048)
            .scsi(0, drive)
            .net(0, QemuNet::virtio().bridge("vmbr0"))
            .cipassword("tiger");
        assert_eq!(lines(&found().drift(&desired)), [] as [&str; 0]);
        let desired = QemuConfig::new().net(0, QemuNet::virtio().bridge("vmbr1"));
        assert_eq!(
            lines(&found().drift(&desired)),
            ["net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1 -> \
                 virtio=BC:24:11:00:00:01,bridge=vmbr1,firewall=1"]
        );
    }

    #[test]
    fn a_secret_is_sent_and_not_printed() {
        let desired = QemuConfig::new().cipassword("tiger");
        let changes = QemuConfig::new().diff(&desired);
        assert_eq!(changes.to_string(), "cipassword: not set -> …");
        assert!(!format!("{changes:?}").contains("tiger"));
        let request = Root::detached().nodes().node("pve1").qemu().post(1);
        let request = request.settings(&desired);
        assert_eq!(request.call().params().encode(), "vmid=1&cipassword=tiger");
    }

    #[test]
    fn a_request_takes_the_members_that_it_accepts() {
        let request = Root::detached().nodes().node("pve1").qemu().post(1);
        let request = request.settings(&found());
        assert_eq!(
            request.call().params().encode(),
            "vmid=1&cores=2&memory=2048&tags=a%2Cb&net0=virtio%3DBC%3A24%3A11%3A00%3A00%3A01%2Cbridge%3Dvmbr0\
             %2Cfirewall%3D1&scsi0=local%3Adisk%2Csize%3D1024G&future=7"
        );
    }
}
