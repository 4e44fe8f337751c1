//! Logs, commands and forwarded ports of pods go through to a kubelet: ours and the real server's alike.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use clusterwright_apiserver::{ApiServer, ApiService, KubeletClient, Serving, User};
use clusterwright_conformance::scenario::KUBECTL_VERSIONS;
use clusterwright_testkit::{Authority, ControlPlane, require, tools};
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::ServiceExt;

const TOKEN: &str = "secret";

/// A kubelet as far as these tests need one: it wants a certificate of the authority, tells of a log's second line
/// when it is told to, and echoes what it gets on an upgraded connection.
struct Kubelet {
    port: u16,
    authority: Authority,
    seen: Arc<Mutex<Vec<String>>>,
    more: Arc<Notify>,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(text: &'static str) -> Body {
    Full::from(text).boxed_unsync()
}

impl Kubelet {
    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let serving = authority.serving().unwrap();
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&authority.certificate()));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(serving.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let kubelet = Self {
            port: listener.local_addr().unwrap().port(),
            authority,
            seen: Arc::default(),
            more: Arc::default(),
        };
        let (seen, more) = (kubelet.seen.clone(), kubelet.more.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, seen, more) = (acceptor.clone(), seen.clone(), more.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request| {
                        let answer = answer(request, &seen, more.clone());
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), service);
                    let _ = connection.with_upgrades().await;
                });
            }
        });
        kubelet
    }

    /// What was asked for since the last call.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn client(&self) -> KubeletClient {
        let pair = self
            .authority
            .client("kube-apiserver", &["system:masters"])
            .unwrap();
        let identity = Some((pair.certificate.as_str(), pair.key.as_str()));
        KubeletClient::new(identity, Some(&self.authority.certificate())).unwrap()
    }

    /// A pod on this kubelet's node, and all that it takes: paths and objects.
    fn objects(&self) -> Vec<(&'static str, Value)> {
        let containers = json!([{"name": "c", "image": "i"}, {"name": "refused", "image": "i"}]);
        vec![
            (
                "/api/v1/nodes",
                json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
                    "status": {
                        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                        "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
                    },
                }),
            ),
            (
                "/api/v1/namespaces/default/serviceaccounts",
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
            ),
            (
                "/api/v1/namespaces/default/pods",
                json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                    "spec": {"nodeName": "n", "automountServiceAccountToken": false, "containers": containers},
                }),
            ),
        ]
    }
}

fn answer(mut request: Request<Incoming>, seen: &Mutex<Vec<String>>, more: Arc<Notify>) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().to_string();
    let text = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("-").to_owned()
    };
    let (upgrade, credentials) = (text("upgrade"), text("authorization"));
    seen.lock()
        .unwrap()
        .push(format!("{} {path} {upgrade} {credentials}", request.method()));
    let mut response = Response::new(whole(""));
    if path.contains("/refused") {
        *response.status_mut() = StatusCode::FORBIDDEN;
        *response.body_mut() = whole("the kubelet refuses");
    } else if path.starts_with("/containerLogs/") {
        let second = stream::once(async move { more.notified().await }).map(|()| "two\n");
        let lines = stream::once(async { "one\n" });
        let frame = |line: &'static str| Ok(Frame::data(Bytes::from(line)));
        *response.body_mut() = if path.contains("follow=true") {
            StreamBody::new(lines.chain(second).map(frame)).boxed_unsync()
        } else {
            whole("one\n")
        };
    } else if upgrade == "SPDY/3.1" {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, "Upgrade".parse().unwrap());
        headers.insert(header::UPGRADE, "SPDY/3.1".parse().unwrap());
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        *response.body_mut() = whole("no such protocol");
    }
    response
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

/// Our server with a pod on the kubelet's node.
async fn ours(kubelet: &Kubelet, client: KubeletClient) -> ApiServer {
    let server = ApiServer::builder()
        .kubelets(client)
        .token(TOKEN, User::admin())
        .build();
    for (path, object) in kubelet.objects() {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(object.to_string()))
            .unwrap();
        let answer = server.service().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{path}");
    }
    server
}

async fn get(service: ApiService, path: &str) -> Response<clusterwright_apiserver::Body> {
    let request = Request::get(path).body(Full::<Bytes>::default()).unwrap();
    service.oneshot(request).await.unwrap()
}

async fn text(answer: Response<clusterwright_apiserver::Body>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn a_log_is_passed_on_as_it_comes() {
    let kubelet = Kubelet::start().await;
    let server = ours(&kubelet, kubelet.client()).await;
    let path = format!("{POD}/log?container=c&follow=true&tailLines=5&sinceTime=2026-01-02T03:04:05Z");
    let answer = get(server.service(), &path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain");
    let mut body = answer.into_body();
    let mut next = async || {
        body.frame()
            .await
            .map(|frame| frame.unwrap().into_data().unwrap())
    };
    assert_eq!(next().await.as_deref(), Some(b"one\n".as_slice()));
    kubelet.more.notify_one();
    assert_eq!(next().await.as_deref(), Some(b"two\n".as_slice()));
    assert_eq!(next().await, None);
    assert_eq!(
        kubelet.seen(),
        ["GET /containerLogs/default/p/c?follow=true&sinceTime=2026-01-02T03%3A04%3A05Z&tailLines=5 - -"]
    );
    let refused = get(server.service(), &format!("{POD}/log?container=refused")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let refused: Value = serde_json::from_str(&text(refused).await).unwrap();
    assert_eq!(refused["message"], "the kubelet refuses ( pods/log p)");
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let kubelet = Kubelet::start().await;
    let other = Authority::new().unwrap();
    let pair = other.client("kube-apiserver", &[]).unwrap();
    let mine = kubelet.authority.client("kube-apiserver", &[]).unwrap();
    for (identity, authority) in [
        (Some((pair.certificate.as_str(), pair.key.as_str())), None),
        (None, None),
        (
            Some((mine.certificate.as_str(), mine.key.as_str())),
            Some(other.certificate()),
        ),
    ] {
        let client = KubeletClient::new(identity, authority.as_deref()).unwrap();
        let server = ours(&kubelet, client).await;
        let answer = get(server.service(), &format!("{POD}/log?container=c")).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text(answer).await.contains("Get \\\"https://127.0.0.1:"));
    }
    assert!(kubelet.seen().is_empty());
    // Without an authority any certificate will do.
    let client = KubeletClient::new(Some((mine.certificate.as_str(), mine.key.as_str())), None).unwrap();
    let server = ours(&kubelet, client).await;
    let answer = get(server.service(), &format!("{POD}/log?container=c")).await;
    assert_eq!(text(answer).await, "one\n");
    KubeletClient::new(Some(("nonsense", "nonsense")), None).unwrap_err();
}

#[tokio::test]
async fn a_client_in_this_process_takes_the_connection_over() {
    let kubelet = Kubelet::start().await;
    let server = ours(&kubelet, kubelet.client()).await;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!(
            "{POD}/exec?container=c&command=sh&command=-c&command=a+b%26c&stdin=true&stdout=1&tty=false"
        ))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = server.service().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut upgraded = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    upgraded.write_all(b"to and fro").await.unwrap();
    let mut back = [0; 10];
    upgraded.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"to and fro");
    assert_eq!(
        kubelet.seen(),
        ["POST /exec/default/p/c?command=sh&command=-c&command=a+b%26c&input=1&output=1 SPDY/3.1 -"]
    );
}

/// Sends the head of a request over TLS and reads that of the answer.
async fn upgrade(address: &str, ca: &str, token: &str, request: &str) -> (String, TlsStream<TcpStream>) {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut tls = connector
        .connect(ServerName::try_from("127.0.0.1").unwrap(), tcp)
        .await
        .unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tls.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    (answer.lines().next().unwrap().to_owned(), tls)
}

/// What an upgraded connection carries, and what came to the kubelet.
async fn exchange(kubelet: &Kubelet, address: &str, ca: &str, token: &str) -> Vec<String> {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut told = Vec::new();
    for request in [
        format!("POST {POD}/exec?container=c&command=a+b&stdin=true&stdout=true&stderr=true"),
        format!("GET {POD}/attach?container=c&stdin=true&tty=true"),
        format!("POST {POD}/portforward"),
    ] {
        let (status, tls) = upgrade(address, ca, token, &request).await;
        told.push(status);
        let (mut from, mut to) = tokio::io::split(tls);
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.flush().await.unwrap();
            to
        });
        let mut back = vec![0; bytes.len()];
        from.read_exact(&mut back).await.unwrap();
        assert!(back == bytes, "{request}");
        drop(sending.await.unwrap());
    }
    let (status, _) = upgrade(address, ca, token, &format!("POST {POD}/exec?container=refused")).await;
    told.push(status);
    told.extend(kubelet.seen());
    told
}

async fn serve(server: &ApiServer) -> Serving {
    server.serve((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_connections_carry_every_byte_as_through_the_real_server() {
    let kubelet = Kubelet::start().await;
    let server = ours(&kubelet, kubelet.client()).await;
    let serving = serve(&server).await;
    let address = serving.address().to_string();
    let got = exchange(&kubelet, &address, &serving.ca_pem(), TOKEN).await;
    assert_eq!(got[0], "HTTP/1.1 101 Switching Protocols");
    assert_eq!(got[3], "HTTP/1.1 403 Forbidden");
    serving.stop().await;

    for component in ["etcd", "kube-apiserver"] {
        require!(tools::find(component));
    }
    let folder = tempfile::tempdir().unwrap();
    let pair = kubelet
        .authority
        .client("kube-apiserver", &["system:masters"])
        .unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let flags = [
        format!("--kubelet-client-certificate={}", file("crt", &pair.certificate)),
        format!("--kubelet-client-key={}", file("key", &pair.key)),
        format!(
            "--kubelet-certificate-authority={}",
            file("ca", &kubelet.authority.certificate())
        ),
    ];
    let objects = kubelet.objects();
    let start = move || {
        let builder = flags.into_iter().fold(ControlPlane::builder(), |builder, flag| {
            builder.api_server_flag(flag)
        });
        let control_plane = builder.start().unwrap();
        for (path, object) in objects {
            let answer = control_plane
                .client()
                .send("POST", path, "application/json", &object.to_string())
                .unwrap();
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        control_plane
    };
    let real = tokio::task::spawn_blocking(start).await.unwrap();
    let address = real.url().trim_start_matches("https://");
    let expected = exchange(&kubelet, address, real.ca(), real.token()).await;
    tokio::task::spawn_blocking(move || drop(real)).await.unwrap();
    assert_eq!(got, expected);
}

async fn kubectl(version: &str, config: &Path, arguments: &[&str]) -> (tokio::process::Child, Vec<String>) {
    let mut child = tokio::process::Command::new(tools::find_version("kubectl", version).unwrap())
        .arg("--kubeconfig")
        .arg(config)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap();
    child.stdout = Some(lines.into_inner().into_inner());
    (child, first.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_follows_a_log() {
    for version in KUBECTL_VERSIONS {
        require!(tools::find_version("kubectl", version));
    }
    let kubelet = Kubelet::start().await;
    let server = ours(&kubelet, kubelet.client()).await;
    let serving = serve(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kubeconfig");
    std::fs::write(&config, serving.kubeconfig().unwrap()).unwrap();
    for version in KUBECTL_VERSIONS {
        let (child, first) = kubectl(version, &config, &["logs", "p", "-c", "c", "-f"]).await;
        assert_eq!(first, ["one"]);
        kubelet.more.notify_one();
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8(ended.stdout).unwrap(), "two\n");
        assert!(ended.status.success());
        let (child, _) = kubectl(version, &config, &["logs", "p", "-c", "x"]).await;
        let said = String::from_utf8(child.wait_with_output().await.unwrap().stderr).unwrap();
        assert!(said.contains("container x is not valid for pod p"), "{said}");
    }
    serving.stop().await;
}
