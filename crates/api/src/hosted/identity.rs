//! Who may sign in to a hosted cluster, and how long its certificates live.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// An OIDC provider whose tokens the hosted cluster accepts; its issuer URL is the key in the map.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OidcProvider {
    /// PEM certificates that the provider's own certificate is verified with; the system's if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// A token has to be for one of these.
    #[schemars(length(min = 1))]
    pub audiences: Vec<String>,
    /// How claims become a user.
    pub claim_mappings: ClaimMappings,
    /// What else has to hold for a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_validation_rules: Vec<ClaimValidationRule>,
}

/// How the claims of a token become a user.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMappings {
    /// CEL expression of the user's name.
    pub username: String,
    /// CEL expression of the user's groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
}

/// A rule that a token's claims have to keep.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimValidationRule {
    /// CEL expression that has to be true.
    pub expression: String,
    /// What is said when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How long certificates of authorities are valid.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "duration(has(self.rootCaCertificateDuration) ? self.rootCaCertificateDuration : '48h') >= duration(has(self.caCertificateDuration) ? self.caCertificateDuration : '48h')",
    "message": "rootCaCertificateDuration may not be shorter than caCertificateDuration (48h each if not given)",
}]))]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// The root's, as a Go duration.
    #[schemars(schema_with = "schema::duration")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_ca_certificate_duration: Option<String>,
    /// The other authorities', as a Go duration.
    #[schemars(schema_with = "schema::duration")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate_duration: Option<String>,
}
