//! What it costs to be allowed: reads of one object through the tower service by a user whom 1000 bindings of others
//! stand beside, with rules and without, and with a token of a service account.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clusterwright_apiserver::{ApiServer, User};
use clusterwright_benches::{cpu_time, figure, median};
use http::Request;
use http_body_util::{BodyExt, Empty};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tower::ServiceExt;

const ROUNDS: usize = 5;
const READS: u32 = 20_000;
const BINDINGS: usize = 1000;
const GROUP: &str = "rbac.authorization.k8s.io";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut open, mut rules, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let server = ApiServer::new();
        runtime.block_on(fill(&server, false))?;
        open.push(runtime.block_on(read(&server, user(), None))?);
        let server = ApiServer::builder().rbac().build();
        let token = runtime.block_on(fill(&server, true))?;
        rules.push(runtime.block_on(read(&server, user(), None))?);
        tokens.push(runtime.block_on(read(&server, User::anonymous(), Some(&token)))?);
    }
    let (open, rules, tokens) = (median(open), median(rules), median(tokens));
    figure::report("access.read", open, "us");
    figure::at_most("access.read_by_rules", rules - open, "us more", 2.0);
    figure::report("access.read_by_token", tokens - open, "us more");
    Ok(())
}

/// Five groups, as a user of an identity provider has.
fn user() -> User {
    User::new("user-500", (0..5).map(|number| format!("group-{number}")))
}

/// One object to read, and with `rules` bindings for many users; returns the token of a service account.
async fn fill(server: &ApiServer, rules: bool) -> Result<String> {
    let client = server.client();
    let params = PostParams::default();
    let map = serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"k": "v"}}))?;
    Api::<ConfigMap>::default_namespaced(client.clone())
        .create(&params, &map)
        .await?;
    if !rules {
        return Ok(String::new());
    }
    let role = serde_json::from_value(
        json!({"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}),
    )?;
    Api::<ClusterRole>::all(client.clone())
        .create(&params, &role)
        .await?;
    let binding = |name: &str, subject: Value| json!({"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "reader"}, "subjects": [subject]});
    for number in 0..BINDINGS {
        let subject = json!({"kind": "User", "apiGroup": GROUP, "name": format!("user-{number}")});
        let object = serde_json::from_value(binding(&format!("user-{number}"), subject))?;
        Api::<RoleBinding>::default_namespaced(client.clone())
            .create(&params, &object)
            .await?;
    }
    let subject = json!({"kind": "ServiceAccount", "namespace": "default", "name": "a"});
    let object = serde_json::from_value(binding("accounts", subject))?;
    Api::<ClusterRoleBinding>::all(client.clone())
        .create(&params, &object)
        .await?;
    let post = |path: &str, body: Value| Request::post(path).body(body.to_string().into_bytes());
    let path = "/api/v1/namespaces/default/serviceaccounts";
    let account = post(path, json!({"metadata": {"name": "a"}}))?;
    client.request::<Value>(account).await?;
    let asked = post(&format!("{path}/a/token"), json!({"spec": {}}))?;
    let answer = client.request::<Value>(asked).await?;
    let token = answer["status"]["token"].as_str();
    Ok(token.context("there is no token in the answer")?.to_owned())
}

/// The CPU time of a read, in microseconds.
async fn read(server: &ApiServer, user: User, token: Option<&str>) -> Result<f64> {
    let service = server.service_as(user);
    let begin = (Instant::now(), cpu_time()?);
    for _ in 0..READS {
        let mut request = Request::get("/api/v1/namespaces/default/configmaps/a");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<bytes::Bytes>::new())?;
        let answer = service.clone().oneshot(request).await?;
        anyhow::ensure!(answer.status() == 200, "refused: {}", answer.status());
        answer.into_body().collect().await?;
    }
    let took: Duration = cpu_time()?.saturating_sub(begin.1).min(begin.0.elapsed());
    Ok(took.as_secs_f64() * 1e6 / f64::from(READS))
}
