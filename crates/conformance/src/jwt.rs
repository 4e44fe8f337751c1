//! What the tokens of service accounts say.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The header and the claims of a token. Times are told as seconds since it was issued.
pub fn claims(token: &str) -> Option<Value> {
    let part =
        |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let mut parts = token.split('.');
    let (header, mut claims) = (part(parts.next()?)?, part(parts.next()?)?);
    let issued = claims["iat"].as_i64()?;
    for path in ["/exp", "/nbf", "/iat", "/kubernetes.io/warnafter"] {
        if let Some(time) = claims.pointer_mut(path) {
            *time = json!(time.as_i64()? - issued);
        }
    }
    Some(json!({"header": header, "claims": claims}))
}
