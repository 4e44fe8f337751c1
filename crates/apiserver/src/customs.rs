//! Custom resource definitions at work: what is served because of them, and what goes with them.

use crate::resource::Resource;
use crate::server::Inner;
use serde_json::Value;
use std::sync::Arc;

pub(crate) fn is_definition(resource: &Resource) -> bool {
    &*resource.group == "apiextensions.k8s.io" && &*resource.plural == "customresourcedefinitions"
}

pub(crate) fn settle(_: &Arc<Inner>, _: &Value, _: bool) {}

pub(crate) fn is_terminating(_: &Inner, _: &Resource) -> bool {
    false
}

pub(crate) fn object_gone(_: &Arc<Inner>, _: &Resource) {}

pub(crate) fn begin_deletion(_: &mut Value, _: &Inner) {}

pub(crate) fn convert(_: &mut Value, _: &Resource) {}
