//! Conversion between the versions of a custom resource with strategy `None`: only `apiVersion` changes; what the
//! other version does not know is pruned, its defaults are filled in.

use crate::resource::Resource;
use crate::schema::{apply_defaults, drop_nulls, prune};
use serde_json::{Value, json};

/// Turns an object into this version of its resource.
pub fn convert(object: &mut Value, to: &Resource) {
    let version = to.api_version();
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(version));
        map.insert("kind".to_owned(), json!(to.kind));
    }
    prune(&to.schema, object);
    drop_nulls(&to.schema, object);
    apply_defaults(&to.schema, object);
}
