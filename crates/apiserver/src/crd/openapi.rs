//! OpenAPI v3 documents of custom resources.
