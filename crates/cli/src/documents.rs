//! Where the documents are out of which `kubectl explain` gets its descriptions: `cargo xtask tools openapi` puts them
//! into the folder of components. Nothing is read of them before somebody asks.

use crate::tools;
use clusterwright_apiserver::builtin::KUBERNETES_VERSION;
use std::path::PathBuf;

/// The folder of the documents, where it is there.
pub fn folder() -> Option<PathBuf> {
    let version = KUBERNETES_VERSION.trim_start_matches('v');
    let folder = tools::folder()?.join(format!("openapi-{version}/openapi-spec/v3"));
    folder.is_dir().then_some(folder)
}

#[cfg(test)]
mod tests {
    use clusterwright_apiserver::ApiServer;
    use serde_json::{Value, json};

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
