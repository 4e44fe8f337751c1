//! What probes ask, answered by real servers in the pods' network.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use clusterwright_podlet::isolation::{Isolation, Running};
use clusterwright_podlet::probe::{Outcome, Plan, Probes, check};
use common::{Machine, machines, process};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Container;

/// The podlet's own address: the servers are this process.
const SERVER: &str = "10.244.0.1";

fn plan(probe: &str) -> Plan {
    let container: Container =
        serde_saphyr::from_str(&format!("{{name: c, readinessProbe: {probe}}}")).unwrap();
    Probes::of(&container).readiness.unwrap()
}

/// A pod's container, and the answer to a probe of it.
struct Asked {
    machine: Machine,
    running: Running,
}

impl Asked {
    async fn of(machine: Machine) -> Self {
        let pod = machine.pod("10.244.0.2").await;
        let (running, _) = machine.run(&pod, process(&["sleep", "1000"])).await;
        Self { machine, running }
    }

    fn isolation(&self) -> &Isolation {
        &self.machine.isolation
    }

    /// Of the pod, or of the server where the probe names no host.
    async fn says(&self, probe: &str) -> Outcome {
        let pod = SERVER.parse().unwrap();
        let process = process(&[]);
        check(
            self.isolation(),
            &self.running.handle(),
            &process,
            pod,
            &plan(probe),
        )
        .await
    }
}

fn bad(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Bad(message) => message,
        Outcome::Good => panic!("it is good"),
    }
}

#[tokio::test]
async fn commands() {
    for machine in machines!() {
        let asked = Asked::of(machine).await;
        assert_eq!(asked.says("{exec: {command: ['true']}}").await, Outcome::Good);
        let said = asked
            .says("{exec: {command: [sh, -c, 'echo out; echo err >&2; exit 2']}}")
            .await;
        assert_eq!(bad(&said), "out\nerr\n");
        let said = asked.says("{exec: {command: [sleep, '1000']}}").await;
        assert_eq!(bad(&said), "command \"sleep 1000\" timed out after 1s");
        let said = asked.says("{exec: {command: [none]}}").await;
        assert!(bad(&said).contains("failed to start none"));
        // What says more than is kept does not block.
        let said = asked
            .says("{exec: {command: [head, -c, '1000000', /dev/zero]}, timeoutSeconds: 20}")
            .await;
        assert_eq!(said, Outcome::Good);
    }
}

#[tokio::test]
async fn connections() {
    for machine in machines!() {
        let asked = Asked::of(machine).await;
        let listener = asked
            .isolation()
            .listen(format!("{SERVER}:80").parse().unwrap())
            .await
            .unwrap();
        assert_eq!(asked.says("{tcpSocket: {port: 80}}").await, Outcome::Good);
        drop(listener);
        let said = asked.says("{tcpSocket: {port: 80}}").await;
        assert!(
            bad(&said).starts_with("dial tcp 10.244.0.1:80: Connection refused"),
            "{said:?}"
        );
        let said = asked.says("{tcpSocket: {port: 80, host: somewhere}}").await;
        assert_eq!(bad(&said), "somewhere is no address");
    }
}

async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let well = request.uri().path() == "/livez"
        && request.uri().query() == Some("verbose")
        && header("a") == "b"
        && header("user-agent").starts_with("kube-probe/");
    let status = if well { 204 } else { 503 };
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}

#[tokio::test]
async fn requests_with_and_without_tls() {
    let key = rcgen::generate_simple_self_signed(vec!["nobody.asks".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for machine in machines!() {
        let asked = Asked::of(machine).await;
        let plain = asked
            .isolation()
            .listen(format!("{SERVER}:80").parse().unwrap())
            .await
            .unwrap();
        let secure = asked
            .isolation()
            .listen(format!("{SERVER}:443").parse().unwrap())
            .await
            .unwrap();
        let acceptor = acceptor.clone();
        let servers = tokio::spawn(async move {
            let serve = || hyper::server::conn::http1::Builder::new();
            loop {
                tokio::select! {
                    accepted = plain.accept() => {
                        let io = TokioIo::new(accepted.unwrap().0);
                        tokio::spawn(serve().serve_connection(io, service_fn(page)));
                    }
                    accepted = secure.accept() => {
                        let stream = acceptor.accept(accepted.unwrap().0).await;
                        // Who speaks without TLS gets no further.
                        if let Ok(stream) = stream {
                            tokio::spawn(serve().serve_connection(TokioIo::new(stream), service_fn(page)));
                        }
                    }
                }
            }
        });
        let headers = "httpHeaders: [{name: A, value: b}]";
        let http = format!("{{httpGet: {{path: /livez?verbose, port: 80, {headers}}}}}");
        assert_eq!(asked.says(&http).await, Outcome::Good);
        let https = format!("{{httpGet: {{path: /livez?verbose, port: 443, scheme: HTTPS, {headers}}}}}");
        assert_eq!(asked.says(&https).await, Outcome::Good);
        let said = asked.says("{httpGet: {port: 80}}").await;
        assert_eq!(bad(&said), "HTTP probe failed with statuscode: 503");
        bad(&asked.says("{httpGet: {port: 80, scheme: HTTPS}}").await);
        servers.abort();
    }
}

#[tokio::test]
async fn silence_is_bad() {
    for machine in machines!() {
        let asked = Asked::of(machine).await;
        let _listener = asked
            .isolation()
            .listen(format!("{SERVER}:80").parse().unwrap())
            .await
            .unwrap();
        let said = asked.says("{httpGet: {port: 80}}").await;
        assert_eq!(bad(&said), "no answer within 1 s");
    }
}

type Grpc = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Serves the service `well`; `ill` does not serve, and others are not known.
async fn health(request: Request<Incoming>) -> Result<Response<Grpc>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let name = asked
        .get(7..)
        .map(|name| String::from_utf8(name.to_vec()).unwrap());
    let (code, status) = match name.as_deref() {
        None | Some("well") => ("0", 1),
        Some("ill") => ("0", 2),
        _ => ("5", 0),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    let frames = vec![
        Ok(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures::stream::iter(frames));
    Ok(Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap())
}

#[tokio::test]
async fn grpcs_own_question() {
    for machine in machines!() {
        let asked = Asked::of(machine).await;
        let listener = asked
            .isolation()
            .listen(format!("{SERVER}:9").parse().unwrap())
            .await
            .unwrap();
        let server = tokio::spawn(async move {
            loop {
                let io = TokioIo::new(listener.accept().await.unwrap().0);
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(io, service_fn(health)));
            }
        });
        assert_eq!(asked.says("{grpc: {port: 9}}").await, Outcome::Good);
        assert_eq!(
            asked.says("{grpc: {port: 9, service: well}}").await,
            Outcome::Good
        );
        assert!(bad(&asked.says("{grpc: {port: 9, service: ill}}").await).contains("unhealthy"));
        assert!(bad(&asked.says("{grpc: {port: 9, service: other}}").await).contains("grpc-status 5"));
        server.abort();
    }
}
