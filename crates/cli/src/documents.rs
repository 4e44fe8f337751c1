//! Where the documents are out of which `kubectl explain` gets its descriptions: `cargo xtask tools openapi` puts them
//! into the folder of components. Nothing is read of them before somebody asks.

use clusterwright_apiserver::builtin::KUBERNETES_VERSION;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder of the documents, where it is there.
pub fn folder() -> Option<PathBuf> {
    let folder = place(|name| env::var_os(name))?;
    folder.is_dir().then_some(folder)
}

/// The place by the environment: `CLUSTERWRIGHT_TOOLS`, or the user's cache folder.
fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let tools = variable("CLUSTERWRIGHT_TOOLS").map(PathBuf::from).or_else(|| {
        let cache = variable("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute());
        let cache = match cache {
            Some(cache) => PathBuf::from(cache),
            None => PathBuf::from(variable("HOME")?).join(".cache"),
        };
        Some(cache.join("clusterwright/tools"))
    })?;
    let version = KUBERNETES_VERSION.trim_start_matches('v');
    Some(tools.join(format!("openapi-{version}/openapi-spec/v3")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clusterwright_apiserver::ApiServer;
    use serde_json::{Value, json};

    #[test]
    fn the_environment_says_where() {
        let place = |set: &[(&str, &str)]| {
            let found = place(|name| {
                let (_, value) = set.iter().find(|(key, _)| *key == name)?;
                Some(OsString::from(value))
            });
            found.map(|path| path.display().to_string())
        };
        let end = "openapi-1.36.3/openapi-spec/v3";
        assert_eq!(
            place(&[("HOME", "/h")]),
            Some(format!("/h/.cache/clusterwright/tools/{end}"))
        );
        assert_eq!(
            place(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Some(format!("/x/clusterwright/tools/{end}"))
        );
        assert_eq!(
            place(&[("HOME", "/h"), ("CLUSTERWRIGHT_TOOLS", "/t")]),
            Some(format!("/t/{end}"))
        );
        assert_eq!(place(&[]), None);
    }

    /// What the server says that a ConfigMap is.
    async fn explained(server: &ApiServer) -> Value {
        let request = http::Request::get("/openapi/v3/api/v1").body(Vec::new()).unwrap();
        let document: Value = server.client().request(request).await.unwrap();
        document["components"]["schemas"]["io.k8s.api.core.v1.ConfigMap"].clone()
    }

    #[tokio::test]
    async fn descriptions_are_there_where_the_documents_are() {
        let folder = tempfile::tempdir().unwrap();
        let document = json!({"components": {"schemas": {"io.k8s.api.core.v1.ConfigMap": {
            "description": "A map.", "properties": {"data": {"description": "The data."}},
        }}}});
        std::fs::write(folder.path().join("api__v1_openapi.json"), document.to_string()).unwrap();
        let described = explained(&ApiServer::builder().documents(folder.path()).build()).await;
        assert_eq!(described["description"], "A map.");
        assert_eq!(described["properties"]["data"]["description"], "The data.");

        let bare = explained(&ApiServer::new()).await;
        assert_eq!(bare["properties"]["data"]["type"], "object");
        assert!(!bare.to_string().contains("\"description\""), "{bare}");
    }
}
