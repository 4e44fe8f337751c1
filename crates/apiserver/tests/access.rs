//! Who is let in, and to what: what the builder says, on the clock that the test holds.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use clusterwright_apiserver::{ApiServer, ApiService, SigningKey, User};
use clusterwright_clock::Clock;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct Client(ApiService, String);

impl Client {
    fn admin(server: &ApiServer) -> Self {
        Self(server.service(), String::new())
    }

    fn with_token(server: &ApiServer, token: &str) -> Self {
        Self(server.service_as(User::anonymous()), format!("Bearer {token}"))
    }

    fn nobody(server: &ApiServer) -> Self {
        Self(server.service_as(User::anonymous()), String::new())
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !self.1.is_empty() {
            request = request.header(header::AUTHORIZATION, &self.1);
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = self.0.clone().oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> u16 {
        self.send("GET", path, Value::Null).await.0
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.send("POST", path, body).await;
        assert_eq!(code, 201, "{path}: {answer}");
        answer
    }
}

/// A token of the service account `builder`, which is made where it is missing.
async fn token(server: &ApiServer, seconds: i64) -> String {
    let admin = Client::admin(server);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "builder"}});
    let (code, _) = admin.send("POST", accounts, account).await;
    assert!([201, 409].contains(&code));
    let asked = json!({"spec": {"expirationSeconds": seconds}});
    let answer = admin.post(&format!("{accounts}/builder/token"), asked).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_by_the_servers_clock() {
    let start = "2030-01-01T00:00:00Z".parse().unwrap();
    let server = ApiServer::builder().clock(Clock::at(start)).build();
    let token = token(&server, 3600).await;
    let builder = Client::with_token(&server, &token);
    assert_eq!(builder.get("/api/v1/namespaces").await, 200);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // Clocks may be a minute apart.
    assert_eq!(builder.get("/api/v1/namespaces").await, 200);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(builder.get("/api/v1/namespaces").await, 401);
}

#[tokio::test]
async fn a_token_is_of_one_server_unless_they_share_a_key() {
    let first = SigningKey::generate().unwrap();
    let key = || SigningKey::from_pem(first.to_pem()).unwrap();
    let one = ApiServer::builder().signing_key(key()).build();
    let same = ApiServer::builder().signing_key(key()).build();
    let other = ApiServer::new();
    let made = token(&one, 3600).await;
    let jwks = |server: &ApiServer| {
        let admin = Client::admin(server);
        async move { admin.send("GET", "/openid/v1/jwks", Value::Null).await.1 }
    };
    assert_eq!(jwks(&one).await, jwks(&same).await);
    assert_ne!(jwks(&one).await, jwks(&other).await);
    let error = |server: &ApiServer| {
        let admin = Client::admin(server);
        let review = json!({"spec": {"token": made}});
        async move {
            let answer = admin
                .post("/apis/authentication.k8s.io/v1/tokenreviews", review)
                .await;
            answer["status"]["error"].as_str().unwrap().to_owned()
        }
    };
    // The key is right; the account is not there.
    assert!(
        error(&same)
            .await
            .ends_with("serviceaccounts \"builder\" not found]")
    );
    assert!(error(&other).await.ends_with("no keys found]"));
}

#[tokio::test]
async fn roles_say_who_may_do_what_only_when_asked_to() {
    let (open, strict) = (ApiServer::new(), ApiServer::builder().rbac().build());
    let maps = "/api/v1/namespaces/default/configmaps";
    for (server, code) in [(&open, 200), (&strict, 403)] {
        let token = token(server, 3600).await;
        assert_eq!(Client::with_token(server, &token).get(maps).await, code);
        assert_eq!(Client::nobody(server).get(maps).await, 403);
        assert_eq!(Client::nobody(server).get("/readyz").await, 200);
        let roles = Client::admin(server)
            .send("GET", &format!("{RBAC}/clusterroles/cluster-admin"), Value::Null)
            .await;
        assert_eq!(roles.0, if code == 403 { 200 } else { 404 });
    }
    // A grant holds from the moment that it is answered, and no longer than that.
    let builder = Client::with_token(&strict, &token(&strict, 3600).await);
    let admin = Client::admin(&strict);
    let binding = json!({
        "metadata": {"name": "builder"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "builder"}],
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    for _ in 0..3 {
        assert_eq!(builder.get(maps).await, 403);
        admin.post(&bindings, binding.clone()).await;
        assert_eq!(builder.get(maps).await, 200);
        assert_eq!(
            builder.get("/api/v1/namespaces/kube-system/configmaps").await,
            403
        );
        admin
            .send("DELETE", &format!("{bindings}/builder"), Value::Null)
            .await;
    }
}

#[tokio::test]
async fn nobody_can_be_refused_everything() {
    for builder in [ApiServer::builder(), ApiServer::builder().rbac()] {
        let server = builder.anonymous(false).build();
        for path in ["/readyz", "/version", "/api", "/api/v1/namespaces"] {
            assert_eq!(Client::nobody(&server).get(path).await, 401, "{path}");
            assert_eq!(Client::admin(&server).get(path).await, 200, "{path}");
        }
    }
}

/// Whatever order writers and their notices come in, the index has what is stored in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_follow_writes_that_race() {
    let server = ApiServer::builder().rbac().build();
    let eve = Client(server.service_as(User::new("eve", ["team"])), String::new());
    let role = |verb: &str| json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]});
    let roles = format!("{RBAC}/namespaces/default/roles");
    let admin = Client::admin(&server);
    admin.post(&roles, role("get")).await;
    let binding = json!({
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "team"}],
    });
    admin
        .post(&format!("{RBAC}/namespaces/default/rolebindings"), binding)
        .await;
    for _ in 0..50 {
        let writers = ["get", "list"].map(|verb| {
            let (admin, path, role) = (Client::admin(&server), format!("{roles}/r"), role(verb));
            tokio::spawn(async move { admin.send("PUT", &path, role).await })
        });
        for writer in writers {
            assert_eq!(writer.await.unwrap().0, 200);
        }
        let (_, stored) = admin.send("GET", &format!("{roles}/r"), Value::Null).await;
        let lists = stored["rules"][0]["verbs"][0] == "list";
        let maps = "/api/v1/namespaces/default/configmaps";
        assert_eq!(eve.get(maps).await, if lists { 200 } else { 403 });
        assert_eq!(eve.get(&format!("{maps}/x")).await, if lists { 403 } else { 404 });
    }
}
