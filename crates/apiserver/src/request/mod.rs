//! What a request asks for: its path, its query, its headers and its body, each read by the rules of the API.

pub(crate) mod body;
pub(crate) mod gojson;
pub(crate) mod media;
pub(crate) mod options;
pub(crate) mod path;
pub(crate) mod protobuf;
pub(crate) mod query;
