//! The spec of a CRD: group, scope, versions, names, subresources, columns.

use super::{fieldpath, flag, list, names, openapi, shown, text, webhook};
use crate::field::{FieldError, FieldErrors, Kind, Path};
use crate::metadata::names::{label_1035, subdomain};
use serde_json::{Value, json};

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const MAX_SELECTABLE: i64 = 8;

/// What all versions have in common, and so stands above them in the internal form.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Common<'a> {
    versions: &'a [Value],
    pub schema: bool,
    pub subresources: bool,
    pub columns: bool,
    pub selectable: bool,
}

impl<'a> Common<'a> {
    fn of(versions: &'a [Value]) -> Self {
        let same = |key: &str| {
            versions
                .iter()
                .all(|version| version.get(key) == versions[0].get(key))
        };
        Self {
            versions,
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }

    /// The places of `key`: above the versions when they have it in common, else in each.
    fn places(&self, key: &str, common: bool, spec: &Path, above: &str) -> Vec<(&'a Value, Path)> {
        let own = |(index, version): (usize, &'a Value)| {
            (&version[key], spec.child("versions").index(index).child(key))
        };
        match (common, self.versions.first()) {
            (true, Some(first)) => vec![(&first[key], spec.child(above))],
            (true, None) => Vec::new(),
            (false, _) => self.versions.iter().enumerate().map(own).collect(),
        }
    }
}

pub(super) fn validate(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let versions = list(&spec["versions"]);
    let common = Common::of(versions);
    group(spec, &path, errors);
    scope(spec, &path, errors);
    let without = |version: &Value| {
        version["schema"]
            .get("openAPIV3Schema")
            .is_none_or(Value::is_null)
    };
    for (index, _) in versions
        .iter()
        .enumerate()
        .filter(|(_, version)| without(version))
    {
        let path = path.child("versions").index(index).child("schema");
        errors.push(FieldError::required(&path.child("openAPIV3Schema"), ""));
    }
    let preserve = flag(spec, "preserveUnknownFields");
    if preserve
        && versions
            .iter()
            .any(|version| openapi::has_default(&version["schema"]["openAPIV3Schema"]))
    {
        errors.push(FieldError::invalid(
            &path.child("preserveUnknownFields"),
            &json!(true),
            "must be false in order to use defaults in the schema",
        ));
    }
    for (index, version) in versions.iter().enumerate() {
        version_name(version, &path.child("versions").index(index), errors);
        parts(version, &common, &path.child("versions").index(index), errors);
    }
    counts(spec, &common, &path, errors);
    wanted_names(spec, &path, errors);
    shared(versions, &common, &path, errors);
    webhook::validate(spec, preserve, &path.child("conversion"), errors);
}

fn group(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let group = text(spec, "group");
    let path = path.child("group");
    let why = subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if !why.is_empty() {
        errors.push(FieldError::invalid(&path, &json!(group), why.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            &path,
            &json!(group),
            "should be a domain with at least one dot",
        ));
    }
}

fn scope(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("scope");
    match text(spec, "scope") {
        "" => errors.push(FieldError::required(&path, "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported(
            &path,
            &json!(other),
            &["Cluster", "Namespaced"],
        )),
    }
}

fn version_name(version: &Value, path: &Path, errors: &mut FieldErrors) {
    let name = text(version, "name");
    let why = label_1035(name);
    if !why.is_empty() {
        errors.push(FieldError::invalid(
            &path.child("name"),
            &json!(name),
            why.join(","),
        ));
    }
}

fn deprecation(version: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let mut said = Vec::new();
    if flag(version, "deprecated") {
        if warning.len() > 256 {
            said.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            said.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning
            .char_indices()
            .find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '))
        {
            said.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    } else {
        said.push("can only be set for deprecated versions".to_owned());
    }
    for said in said {
        errors.push(FieldError::invalid(
            &path.child("deprecationWarning"),
            &json!(warning),
            said,
        ));
    }
}

/// What a version has of its own.
fn parts(version: &Value, common: &Common<'_>, path: &Path, errors: &mut FieldErrors) {
    deprecation(version, path, errors);
    if !common.schema {
        let status = version["subresources"].get("status").is_some();
        openapi::validate(&version["schema"], status, &path.child("schema"), errors);
    }
    if !common.subresources {
        subresources(&version["subresources"], &path.child("subresources"), errors);
    }
    if !common.columns {
        columns(
            &version["additionalPrinterColumns"],
            &path.child("additionalPrinterColumns"),
            errors,
        );
    }
    if !common.selectable {
        selectable(version, &path.child("selectableFields"), errors);
    }
}

fn counts(spec: &Value, common: &Common<'_>, path: &Path, errors: &mut FieldErrors) {
    let versions = list(&spec["versions"]);
    let there = spec.get("versions").is_some_and(Value::is_array);
    let path = path.child("versions");
    let mut refuse = |detail: &str| {
        let error = FieldError::invalid(&path, &Value::Null, detail);
        errors.push(if there {
            error.showing(shown::versions(versions, common))
        } else {
            error
        });
    };
    if (1..versions.len()).any(|at| versions[..at].iter().any(|v| v["name"] == versions[at]["name"])) {
        refuse("must contain unique version names");
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        refuse("must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first() {
        // The first version's name is that of the whole, too.
        let name = text(first, "name");
        let why = label_1035(name);
        if !name.is_empty() && !why.is_empty() {
            errors.push(FieldError::invalid(
                &Path::new("spec").child("version"),
                &json!(name),
                why.join(","),
            ));
        }
    }
}

fn wanted_names(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let wanted = &spec["names"];
    let path = path.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(wanted, key).is_empty() {
            errors.push(FieldError::required(&path.child(key), ""));
        }
    }
    names::validate(wanted, &path, errors);
}

/// What the versions have in common.
fn shared(versions: &[Value], common: &Common<'_>, path: &Path, errors: &mut FieldErrors) {
    let Some(first) = versions.first() else { return };
    if common.schema {
        let status = versions
            .iter()
            .any(|version| version["subresources"].get("status").is_some());
        openapi::validate(&first["schema"], status, &path.child("validation"), errors);
    }
    if common.subresources {
        for (value, path) in common.places("subresources", true, path, "subresources") {
            subresources(value, &path, errors);
        }
    }
    if common.columns {
        for (value, path) in common.places("additionalPrinterColumns", true, path, "additionalPrinterColumns")
        {
            columns(value, &path, errors);
        }
    }
    if common.selectable {
        selectable(first, &path.child("selectableFields"), errors);
    }
}

fn simple_path(value: &Value, path: &Path, errors: &mut FieldErrors) -> bool {
    let good = value.as_str().is_some_and(|path| path.starts_with('.'));
    if !good {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be a simple json path starting with .",
        ));
    }
    good
}

fn subresources(value: &Value, path: &Path, errors: &mut FieldErrors) {
    let Some(scale) = value.get("scale") else { return };
    for (key, under, detail) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        (
            "statusReplicasPath",
            ".status.",
            "should be a json path under .status",
        ),
    ] {
        let path = path.child("scale").child(key);
        let value = &scale[key];
        if text(scale, key).is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if simple_path(value, &path, errors) && !text(scale, key).starts_with(under) {
            errors.push(FieldError::invalid(&path, value, detail));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    let path = path.child("scale").child("labelSelectorPath");
    let value = &scale["labelSelectorPath"];
    if !selector.is_empty()
        && simple_path(value, &path, errors)
        && !selector.starts_with(".spec.")
        && !selector.starts_with(".status.")
    {
        errors.push(FieldError::invalid(
            &path,
            value,
            "should be a json path under either .spec or .status",
        ));
    }
}

fn columns(value: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, column) in list(value).iter().enumerate() {
        let path = path.index(index);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        let kind = text(column, "type");
        let types = format!("must be one of {}", TYPES.join(","));
        if kind.is_empty() {
            errors.push(FieldError::required(&path.child("type"), types));
        } else if !TYPES.contains(&kind) {
            errors.push(FieldError::invalid(&path.child("type"), &json!(kind), types));
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            errors.push(FieldError::invalid(&path.child("format"), &json!(format), detail));
        }
        let path = path.child("JSONPath");
        if text(column, "jsonPath").is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            simple_path(&column["jsonPath"], &path, errors);
        }
    }
}

fn selectable(version: &Value, path: &Path, errors: &mut FieldErrors) {
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut seen: Vec<Path> = Vec::new();
    for (index, field) in list(&version["selectableFields"]).iter().enumerate() {
        let path = path.index(index).child("jsonPath");
        let wanted = text(field, "jsonPath");
        let value = json!(wanted);
        if wanted.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let (found, schema) = match fieldpath::follow(wanted, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(
                    &path,
                    &value,
                    format!("is an invalid path: {why}"),
                ));
                continue;
            }
        };
        if found.as_str().split(['.', '[']).next() == Some("metadata") {
            errors.push(FieldError::invalid(
                &path,
                &value,
                "must not point to fields in metadata",
            ));
        }
        if !["string", "boolean", "integer"].contains(&text(schema, "type")) {
            errors.push(FieldError::invalid(
                &path,
                &value,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if seen.contains(&found) {
            errors.push(FieldError::new(Kind::Duplicate, &path, &value, ""));
        } else {
            seen.push(found);
        }
    }
    if i64::try_from(seen.len()).is_ok_and(|count| count > MAX_SELECTABLE) {
        errors.push(FieldError::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}
