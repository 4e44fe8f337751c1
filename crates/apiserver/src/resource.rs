//! What the server serves: one [`Resource`] for each group, version and plural, built-in or custom.

use crate::field::FieldErrors;
use crate::schema::SchemaRef;
use crate::status::ApiResult;
use clusterwright_clock::Clock;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A served resource: what discovery says of it and how its objects are treated.
#[derive(Clone)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: Arc<str>,
    /// The version, as `v1`.
    pub version: Arc<str>,
    /// The kind, as `Deployment`.
    pub kind: Arc<str>,
    /// The kind of a list of them, as `DeploymentList`.
    pub list_kind: Arc<str>,
    /// The lower-case plural, as `deployments`.
    pub plural: Arc<str>,
    /// The lower-case singular.
    pub singular: Arc<str>,
    /// Short names, as `deploy`.
    pub short_names: Vec<Arc<str>>,
    /// Categories, as `all`.
    pub categories: Vec<Arc<str>>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs on the resource itself, sorted. Empty for what has subresources or creations only.
    pub verbs: Vec<Arc<str>>,
    /// Subresources that are served.
    pub subresources: Vec<Subresource>,
    /// The fields of its objects.
    pub schema: SchemaRef,
    /// Defaults, immutable parts and rules that the schema does not say.
    pub strategy: Arc<dyn Strategy>,
    /// For custom resources: uid and definition, to tell one generation of a CRD from the next.
    pub custom: Option<Arc<Custom>>,
}

/// What only custom resources have.
#[derive(Clone, Debug)]
pub struct Custom {
    /// The `CustomResourceDefinition` itself, as last seen.
    pub definition: Arc<Value>,
    /// This version's entry of `spec.versions`.
    pub version: Arc<Value>,
    /// Field paths that field selectors may name, as `.spec.color`.
    pub selectable_fields: Vec<Arc<str>>,
}

/// A subresource such as `status` or `scale`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name, as `status`.
    pub name: Arc<str>,
    /// The kind that requests carry, where it differs from the resource's (group, version, kind).
    pub kind: Option<(Arc<str>, Arc<str>, Arc<str>)>,
    /// Verbs, sorted.
    pub verbs: Vec<Arc<str>>,
    /// For `scale` of custom resources: JSON paths of replicas in spec and status, and of the selector.
    pub scale: Option<ScalePaths>,
}

/// Where a scale subresource reads and writes.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    /// As `.spec.replicas`.
    pub spec_replicas: Arc<str>,
    /// As `.status.replicas`.
    pub status_replicas: Arc<str>,
    /// As `.status.selector`.
    pub selector: Option<Arc<str>>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The subresource of this name, where it is served.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| &*s.name == name)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.plural, self.group, self.version)
    }
}

/// What a strategy may ask of the server while it prepares or validates an object. The lookups see the store as it
/// is at that moment.
pub trait Surroundings: Send + Sync {
    /// The server's clock.
    fn clock(&self) -> Clock;

    /// Whether what is prepared is only shown, not stored.
    fn dry_run(&self) -> bool {
        false
    }

    /// An object of another kind, or none. `namespace` is empty for kinds of the cluster.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;

    /// All objects of a kind, of one namespace or (empty) of all.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
}

/// The formats of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain (RFC 1123).
    #[default]
    Subdomain,
    /// A DNS label (RFC 1123).
    Label1123,
    /// A DNS label (RFC 1035), which starts with a letter.
    Label1035,
    /// A part of a path.
    PathSegment,
}

/// How objects of a kind are prepared and judged, beyond their schema. Objects are in the version that was asked
/// for. The order on create is: `default`, `prepare_create`, `validate_create`; on update the same with `…_update`.
/// `subresource` is empty for the object itself, else for example `status`.
pub trait Strategy: Send + Sync {
    /// Fills in what is missing. Done for stored objects too, when they are read by another version.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// What the real server's admission plugins do by default: changes an object, or refuses it. Called after
    /// `default` and before `prepare_…`; `old` is none on create.
    ///
    /// # Errors
    /// The refusal, for example of a pod whose service account is not there.
    fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        subresource: &str,
        around: &dyn Surroundings,
    ) -> ApiResult<()> {
        let _ = (object, old, subresource, around);
        Ok(())
    }

    /// Clears what a client may not set and fills in what the server allocates (as cluster IPs).
    fn prepare_create(&self, object: &mut Value, around: &dyn Surroundings) {
        let _ = (object, around);
    }

    /// Judges a new object.
    fn validate_create(&self, object: &Value, around: &dyn Surroundings) -> FieldErrors {
        let _ = (object, around);
        FieldErrors::new()
    }

    /// Puts back what this request may not change (as the status) and raises the generation where it must.
    fn prepare_update(&self, object: &mut Value, old: &Value, subresource: &str, around: &dyn Surroundings);

    /// Judges a changed object.
    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        subresource: &str,
        around: &dyn Surroundings,
    ) -> FieldErrors {
        let _ = (object, old, subresource, around);
        FieldErrors::new()
    }

    /// Warnings for the client, each sent as a `Warning` header; `old` is none on create.
    fn warnings(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
        let _ = (object, old, subresource);
        Vec::new()
    }

    /// The format of names.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Group and plural of the kind under which objects are stored, where another kind shares them (as the events
    /// of `events.k8s.io` are those of the core group).
    fn stored_as(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Turns an object that was stored in another version into this one. `apiVersion` and `kind` are set after.
    fn convert(&self, object: &mut Value, from: &str) {
        let _ = (object, from);
    }

    /// Whether new objects start at generation 1 and count.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether an update with no resourceVersion is taken as unconditional.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// Whether PUT may create.
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// Seconds of grace of a deletion that asks for `asked` (none: for no certain number); none where deletion is
    /// at once.
    fn default_grace_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let _ = (object, asked);
        None
    }

    /// Whether a deletion is answered with the object rather than with a Status.
    fn returns_deleted_object(&self) -> bool {
        false
    }

    /// Called after a deletion was committed, to free what was allocated.
    fn released(&self, object: &Value) {
        let _ = object;
    }

    /// The fields a field selector may name beyond `metadata.name` and `metadata.namespace`, with their values.
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let _ = object;
        Vec::new()
    }
}
