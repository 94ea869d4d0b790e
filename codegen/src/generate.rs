//! The whole generation: from schema and overlay to files and a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::catalog::{Call, Catalog};
use crate::facts::{Facts, Release};
use crate::ir::{Api, ItemKind, Returns, Ty};
use crate::overlay::{Location, Overlay};
use crate::product::Product;
use crate::union::{self, Kind, Node, Properties, Union};
use crate::{check, emit, facts_json, ir, names, settings};

/// The input texts, by file name; the output depends on nothing else.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// `schema/<product>/*.json`
    pub releases: BTreeMap<String, String>,
    /// `schema/<product>/overlay/**`, by path below it.
    pub overlay: BTreeMap<String, String>,
    /// `schema/<product>/names.lock`
    pub lock: Option<String>,
    /// The crate's `Cargo.toml`, whose features have to name the areas; not checked if it is
    /// absent.
    pub manifest: Option<String>,
    /// Some releases are omitted, so overlay entries that match nothing are not a problem.
    pub partial: bool,
}

/// The generated files.
#[derive(Debug)]
pub struct Output {
    /// By path below `src/generated`.
    pub files: BTreeMap<String, String>,
    /// The expectations of the tests, by path below `src/generated` of `tests/e2e`.
    pub expectations: BTreeMap<String, String>,
    pub lock: String,
    /// Features of the crate and what they need.
    pub features: BTreeMap<String, Vec<String>>,
    pub report: Report,
}

/// Counts for the report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub releases: Vec<String>,
    pub paths: usize,
    pub endpoints: usize,
    /// Endpoints of the newest release.
    pub newest_endpoints: usize,
    /// Endpoints of each release.
    pub endpoints_by_release: BTreeMap<String, usize>,
    /// Named formats that become a type of their own.
    pub formats_mapped: BTreeSet<String>,
    /// Named formats that stay plain text.
    pub formats_plain: BTreeSet<String>,
    pub request_types: usize,
    pub parameters: usize,
    /// Parameters without a type, which accept any text.
    pub parameters_untyped: usize,
    pub response_types: usize,
    pub enums: usize,
    pub property_strings: usize,
    pub tasks: usize,
    pub returns_typed: usize,
    /// Endpoints whose answer has no type, with the overlay's reason.
    pub returns_open: BTreeMap<String, String>,
    /// Endpoints whose answer has no type yet.
    pub returns_untyped: BTreeSet<String>,
    /// Members of answers that hold any JSON.
    pub members_untyped: usize,
    pub documented: usize,
    pub undocumented: usize,
    /// The places of undocumented values.
    pub undocumented_places: BTreeSet<String>,
    /// Endpoints without a summary.
    pub undescribed: BTreeSet<String>,
    /// Members of answers that always come, with a reason in the overlay.
    pub required: usize,
    /// Members that the dumps require and for which the overlay has no reason: they are optional.
    pub required_without_reason: BTreeSet<String>,
    /// Checks of handlers that the dumps do not declare.
    pub privileges: usize,
    /// Endpoints of the newest release whose handler checks are described neither in the dump nor
    /// in the overlay.
    pub privileges_unreviewed: BTreeSet<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "releases          {} ({})",
            self.releases.len(),
            self.releases.join(" ")
        )?;
        writeln!(f, "paths             {}", self.paths)?;
        writeln!(
            f,
            "endpoints         {} ({} in the newest)",
            self.endpoints, self.newest_endpoints
        )?;
        writeln!(f, "request types     {}", self.request_types)?;
        writeln!(
            f,
            "parameters        {} ({} untyped)",
            self.parameters, self.parameters_untyped
        )?;
        writeln!(f, "response types    {}", self.response_types)?;
        writeln!(f, "enums             {}", self.enums)?;
        writeln!(f, "property strings  {}", self.property_strings)?;
        writeln!(f, "tasks             {}", self.tasks)?;
        writeln!(
            f,
            "returns           {} typed, {} open, {} untyped",
            self.returns_typed,
            self.returns_open.len(),
            self.returns_untyped.len()
        )?;
        writeln!(f, "untyped members   {}", self.members_untyped)?;
        write!(
            f,
            "undocumented      {} of {} endpoints, {} of {} fields and parameters",
            self.undescribed.len(),
            self.endpoints,
            self.undocumented,
            self.documented
        )
    }
}

/// Generates everything, or returns all problems.
///
/// # Errors
/// All problems of the run, each naming its file and place.
pub fn generate(input: &Input) -> Result<Output, Vec<String>> {
    let overlay = Overlay::read(&input.overlay, input.partial);
    let Prepared {
        releases,
        union,
        api,
        names,
    } = prepare(input, &overlay, true)?;
    check::check(&api, &names, &overlay);
    // Continues after any problem, because writing the crate also finds unused entries of the
    // overlay.
    let emitted = emit::emit(&api, &names, &overlay, &releases);
    let expectations = emit::expectations(&api, &names, &overlay, &releases);
    let mut report = count(&api, &overlay);
    for (format, mapped) in formats(&union, &overlay) {
        match mapped {
            true => report.formats_mapped.insert(format),
            false => report.formats_plain.insert(format),
        };
    }
    report.documented = emitted.documented;
    report.undocumented = emitted.undocumented;
    report.undocumented_places = emitted.undocumented_places;
    report.undescribed = emitted.undescribed;
    let mut problems = overlay.finish();
    if let Some(manifest) = &input.manifest {
        problems.extend(wrong_features(manifest, &emitted.features));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Output {
        files: emitted.files,
        expectations,
        lock: names.lock,
        features: emitted.features,
        report,
    })
}

/// The manifest is written by hand; reports what its features lack.
fn wrong_features(manifest: &str, wanted: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let name = "proxmox-api/Cargo.toml";
    let manifest: toml::Table = match toml::from_str(manifest) {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let list = |feature: &str| -> Option<Vec<String>> {
        let list = features?.get(feature)?.as_array()?;
        let names = list.iter().filter_map(toml::Value::as_str);
        Some(names.map(str::to_owned).collect())
    };
    let mut problems = Vec::new();
    let full = list("full").unwrap_or_default();
    for (feature, needs) in wanted {
        if list(feature).as_ref() != Some(needs) {
            problems.push(format!(
                "{name}: the features do not match the areas: `{feature} = {needs:?}` under [features]"
            ));
        }
        if !full.contains(feature) {
            problems.push(format!("{name}: `full` lacks \"{feature}\""));
        }
    }
    problems
}

/// Every call as data, for pages that list and search them.
///
/// # Errors
/// All problems of the run, as of [`generate`].
pub fn catalog(input: &Input) -> Result<Catalog, Vec<String>> {
    with_prepared(input, true, |api, names, overlay, _| {
        Ok(emit::catalog(api, names, overlay))
    })
}

/// The explanation of one endpoint.
#[derive(Debug)]
pub struct Explanation {
    /// The overlay entries with an effect on it: entry, file below the overlay's folder, and line.
    pub entries: Vec<(String, String, usize)>,
    /// Oldest first.
    pub releases: Vec<String>,
    /// The merged description of all releases.
    pub call: Call,
}

/// The entries of the overlay about an endpoint, such as `GET /nodes`, and its merged description.
///
/// # Errors
/// All problems of the run, as of [`generate`], or that there is no such endpoint.
pub fn explain(input: &Input, endpoint: &str) -> Result<Explanation, Vec<String>> {
    with_prepared(input, true, |api, names, overlay, releases| {
        // Documentation is looked up while the crate is written.
        emit::emit(api, names, overlay, releases);
        let catalog = emit::catalog(api, names, overlay);
        let mut calls = catalog.calls.into_iter();
        let call = calls
            .find(|call| format!("{} {}", call.verb, call.path) == endpoint)
            .ok_or_else(|| vec![format!("no release has {endpoint}")])?;
        let used = overlay.used_for(endpoint).into_iter();
        Ok(Explanation {
            entries: used
                .map(|(entry, Location { file, line })| (entry, file, line))
                .collect(),
            releases: catalog.releases,
            call,
        })
    })
}

/// The API as an OpenAPI 3.1 document: of one release, or of all of them together.
///
/// # Errors
/// All problems of the run, as of [`generate`], or a release that is not among those given.
pub fn openapi(input: &Input, release: Option<Release>) -> Result<serde_json::Value, Vec<String>> {
    // A document of one release has the names of that release.
    with_prepared(input, release.is_none(), |api, names, overlay, _| {
        let index = match release {
            None => None,
            Some(release) => {
                let index = api.releases.iter().position(|known| *known == release);
                Some(index.ok_or_else(|| {
                    let known: Vec<String> = api.releases.iter().map(ToString::to_string).collect();
                    vec![format!(
                        "release {release} is not tracked; known are {}",
                        known.join(", ")
                    )]
                })?)
            }
        };
        Ok(emit::openapi(api, names, overlay, index))
    })
}

/// The API with its names, and what it was made from.
struct Prepared {
    releases: Vec<Facts>,
    union: Union,
    api: Api,
    names: names::Names,
}

/// The steps before anything is written; with `renamed`, parameters have the names that callers
/// know.
fn prepare(input: &Input, overlay: &Overlay, renamed: bool) -> Result<Prepared, Vec<String>> {
    let (product, mut releases) = corrected(input, overlay)?;
    if renamed {
        overlay.rename(&mut releases);
    }
    let mut union = union::merge(product, &releases);
    settings::unify(&mut union, overlay);
    let api = ir::lower::lower(&union, overlay);
    let names = names::decide(&api, overlay, input.lock.as_deref());
    Ok(Prepared {
        releases,
        union,
        api,
        names,
    })
}

/// Passes on the API once its names are decided.
fn with_prepared<T>(
    input: &Input,
    renamed: bool,
    then: impl FnOnce(&Api, &names::Names, &Overlay, &[Facts]) -> Result<T, Vec<String>>,
) -> Result<T, Vec<String>> {
    let overlay = Overlay::read(&input.overlay, input.partial);
    let prepared = prepare(input, &overlay, renamed)?;
    let problems = overlay.problems();
    match problems.is_empty() {
        true => then(&prepared.api, &prepared.names, &overlay, &prepared.releases),
        false => Err(problems),
    }
}

/// The releases as corrected by the overlay, oldest first: the expected shape of every answer.
///
/// # Errors
/// The schema files that cannot be read.
pub fn expected(input: &Input) -> Result<Vec<Facts>, Vec<String>> {
    let (_, releases) = corrected(input, &Overlay::read(&input.overlay, input.partial))?;
    Ok(releases)
}

fn corrected(
    input: &Input,
    overlay: &Overlay,
) -> Result<(&'static Product, Vec<Facts>), Vec<String>> {
    let mut problems = overlay.unreadable();
    let mut releases: Vec<Facts> = Vec::new();
    for (name, text) in &input.releases {
        match facts_json::read(text) {
            Ok(facts) if *name != format!("{}.json", facts.release) => problems.push(format!(
                "{name}: has release {}; a file must be named after its release",
                facts.release
            )),
            Ok(facts) => releases.push(facts),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    let product = releases.first().map(|facts| facts.product);
    let others = releases
        .iter()
        .filter(|facts| Some(facts.product) != product);
    problems.extend(others.map(|facts| {
        let (of, release) = (facts.product, facts.release);
        format!("{release}.json: is of {of}, and the others are of another product")
    }));
    if input.releases.is_empty() {
        problems.push("there is no release to generate from".to_owned());
    }
    let Some(product) = product.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    releases.sort_by_key(|facts| facts.release);
    overlay.patch(&mut releases);
    Ok((product, releases))
}

fn count(api: &Api, overlay: &Overlay) -> Report {
    let newest = api.releases.len() - 1;
    let mut report = Report {
        releases: api.releases.iter().map(ToString::to_string).collect(),
        paths: api
            .endpoints
            .iter()
            .map(|endpoint| &endpoint.path)
            .collect::<BTreeSet<_>>()
            .len(),
        endpoints: api.endpoints.len(),
        newest_endpoints: api
            .endpoints
            .iter()
            .filter(|e| e.presence.has(newest))
            .count(),
        request_types: api
            .endpoints
            .iter()
            .filter(|endpoint| emit::has_setters(endpoint))
            .count(),
        ..Report::default()
    };
    report.required = api.required_with_reason;
    report
        .required_without_reason
        .clone_from(&api.required_without_reason);
    for (index, release) in api.releases.iter().enumerate() {
        let count = api
            .endpoints
            .iter()
            .filter(|e| e.presence.has(index))
            .count();
        report
            .endpoints_by_release
            .insert(release.to_string(), count);
    }
    for item in &api.items {
        match &item.kind {
            ItemKind::Enum(_) => report.enums += 1,
            ItemKind::PropertyString(_) => report.property_strings += 1,
            ItemKind::Struct(members) => {
                report.response_types += 1;
                report.members_untyped +=
                    members.iter().filter(|member| is_open(&member.ty)).count();
            }
        }
    }
    for endpoint in &api.endpoints {
        report.parameters += endpoint.parameters.len() + endpoint.placeholders.len();
        report.parameters_untyped += endpoint
            .parameters
            .iter()
            .filter(|parameter| is_open(&parameter.ty))
            .count();
        let key = endpoint.key();
        report.privileges += endpoint.privileges.len();
        if endpoint.unreviewed {
            report.privileges_unreviewed.insert(key.clone());
        }
        match &endpoint.returns {
            Returns::Task { .. } => {
                report.tasks += 1;
                report.returns_typed += 1;
            }
            Returns::Data(ty) if is_open(ty) => match overlay.untyped_reason(&key) {
                Some(reason) => {
                    report.returns_open.insert(key, reason.to_owned());
                }
                None => {
                    report.returns_untyped.insert(key);
                }
            },
            _ => {
                report.returns_typed += 1;
                if let Some(reason) = overlay.untyped_reason(&key) {
                    report.returns_open.insert(key, reason.to_owned());
                    report.returns_typed -= 1;
                }
            }
        }
    }
    report
}

/// Every named format of the API, and whether its values get a type of their own.
fn formats(union: &Union, overlay: &Overlay) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for endpoint in union.endpoints.values() {
        for field in endpoint.parameters.values() {
            collect_formats(&field.node, overlay, &mut found);
        }
        collect_formats(&endpoint.returns, overlay, &mut found);
    }
    found
}

fn collect_formats(node: &Node, overlay: &Overlay, found: &mut BTreeMap<String, bool>) {
    if let Some(format) = &node.format {
        let mapped = match node.kind {
            Kind::Integer => overlay.has_guest_numbers(format),
            Kind::String => overlay.text_type(format).is_some() || format.ends_with("-list"),
            _ => true,
        };
        *found.entry(format.clone()).or_default() |= mapped;
    }
    match &node.kind {
        Kind::Array(inner) | Kind::Map(inner) => collect_formats(inner, overlay, found),
        Kind::Object(fields) | Kind::Properties(Properties { fields, .. }) => {
            fields
                .values()
                .for_each(|field| collect_formats(&field.node, overlay, found));
        }
        _ => {}
    }
}

fn is_open(ty: &Ty) -> bool {
    match ty {
        Ty::Json => true,
        Ty::Array(of) | Ty::Optional(of) | Ty::Map(of) | Ty::Pending(of) => is_open(of),
        _ => false,
    }
}
