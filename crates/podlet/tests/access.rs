//! Who may ask a kubelet's endpoints, as the API server says.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use clusterwright_apiserver::{ApiServer, User};
use clusterwright_clock::Clock;
use clusterwright_podlet::endpoints::{Access, Endpoints, Identity, Served};
use clusterwright_podlet::registry::Registry;
use clusterwright_testkit::{Authority, Client};
use common::machines;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

/// The code and the words of an answer to whoever has this token.
async fn ask(port: u16, ca: &str, token: &str, method: &'static str, path: &'static str) -> (u16, String) {
    let client = Client::new(port, ca, token).unwrap();
    let answer = tokio::task::spawn_blocking(move || client.send(method, path, "text/plain", "").unwrap());
    let answer = answer.await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_rights() {
    for machine in machines!() {
        let server = ApiServer::builder()
            .rbac()
            .token("of-reader", User::new("reader", ["readers"]))
            .token("of-nobody", User::new("nobody", ["nobodies"]))
            .build();
        let role = json!({
            "metadata": {"name": "reads-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"], "resourceNames": ["node"]}],
        });
        let binding = json!({
            "metadata": {"name": "reads-nodes"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reads-nodes"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"}],
        });
        let roles: Api<ClusterRole> = Api::all(server.client());
        let role = serde_json::from_value(role).unwrap();
        roles.create(&PostParams::default(), &role).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(server.client());
        let binding = serde_json::from_value(binding).unwrap();
        bindings.create(&PostParams::default(), &binding).await.unwrap();

        let authority = Authority::new().unwrap();
        let (ca, pair) = (authority.certificate(), authority.serving().unwrap());
        let identity = Identity::from_pem(&pair.certificate, &pair.key).unwrap();
        let pods = Served {
            registry: Registry::default(),
            isolation: machine.isolation.clone(),
            clock: Clock::system(),
        };
        let access = Access::new("node".to_owned(), Some(server.client()));
        let address = "127.0.0.1:0".parse().unwrap();
        let endpoints = Endpoints::start(address, identity, Some(&ca), access, pods);
        let endpoints = endpoints.await.unwrap();
        let port = endpoints.address().port();
        let of = async |token, method, path| ask(port, &ca, token, method, path).await;

        assert_eq!(of("of-reader", "GET", "/healthz").await, (200, "ok".to_owned()));
        let unknown = (401, "Unauthorized".to_owned());
        assert_eq!(of("of-somebody", "GET", "/healthz").await, unknown);
        let forbidden = of("of-nobody", "GET", "/healthz").await;
        let why = "Forbidden (user=nobody, verb=get, resource=nodes, subresource(s)=[proxy])";
        assert_eq!(forbidden, (403, why.to_owned()));
        // To have a command run is more than to read.
        let (code, why) = of(
            "of-reader",
            "POST",
            "/exec/default/pod/container?command=true&output=1",
        )
        .await;
        assert_eq!(code, 403, "{why}");
        assert!(why.contains("verb=create"), "{why}");
        let (code, why) = of("of-reader", "GET", "/containerLogs/default/pod/container").await;
        assert_eq!((code, why.as_str()), (404, "pod \"pod\" does not exist"));
        assert_eq!(of("of-reader", "GET", "/portForward/default/pod").await.0, 404);
        assert_eq!(of("of-reader", "GET", "/nothing").await.0, 404);
    }
}
