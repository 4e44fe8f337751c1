//! The ServiceAccount of `deploy/install.yaml`, and who is told what it may not.

use std::sync::{Arc, Mutex};

use clusterwright_runtime::audit::Access;
use clusterwright_runtime::leader::LeaderElection;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

/// What users apply.
const INSTALL: &str = include_str!("../../../../../deploy/install.yaml");
/// What a token is asked to last, in seconds: longer than any test, whatever its clock does.
const LASTS: i64 = 10 * 365 * 24 * 60 * 60;
/// The account, its namespace and its Lease, as they are named there.
const NAME: &str = "clusterwright";
const NAMESPACE: &str = "clusterwright-system";

/// The account on a server.
pub struct Account {
    admin: Client,
    client: Client,
    denied: Arc<Mutex<Vec<String>>>,
}

impl Account {
    /// Applies the manifest, but for the Deployment whose place the test takes, and asks for a token; `connect` makes a
    /// client of one.
    pub async fn install(admin: Client, connect: impl AsyncFnOnce(&str) -> Client) -> Self {
        let documents: Vec<Value> = serde_saphyr::from_multiple(INSTALL).unwrap();
        for document in documents {
            let object: DynamicObject = serde_json::from_value(document).unwrap();
            let types = object.types.clone().unwrap();
            if types.kind == "Deployment" {
                continue;
            }
            let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
            let api: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(admin.clone(), &namespace, &resource),
                None => Api::all_with(admin.clone(), &resource),
            };
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LASTS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(NAME, &PostParams::default(), &request)
            .await
            .unwrap();
        let token = answer.status.unwrap().token.unwrap();
        Self {
            admin,
            client: connect(&token).await,
            denied: Arc::default(),
        }
    }

    /// A client of the account's. What it is denied is remembered.
    pub fn client(&self) -> Client {
        let inner = self.client.clone();
        let denied = Arc::clone(&self.denied);
        let service = tower::service_fn(move |request| {
            let (client, denied) = (inner.clone(), Arc::clone(&denied));
            async move {
                let access = Access::of(&request);
                let answer = client.send(request).await?;
                if matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
                    denied.lock().unwrap().push(access.to_string());
                }
                Ok::<_, tower::BoxError>(answer)
            }
        });
        Client::new(service, "default")
    }

    /// What its clients were denied so far.
    pub fn denied(&self) -> Vec<String> {
        self.denied.lock().unwrap().clone()
    }

    /// The election that the account may take part in, with a Lease that nobody holds.
    pub async fn election(&self) -> LeaderElection {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), NAMESPACE);
        match leases.delete(NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => drop(result.unwrap()),
        }
        LeaderElection::new(NAME, NAMESPACE)
    }
}
