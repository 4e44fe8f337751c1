//! Asks what a probe asks, once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::plan::{Means, Plan};
use crate::isolation::{Ending, Error, Handle, Isolation, Process, Signal, Streams};

/// How much of what a command says is kept, as kubelets keep.
const MAX_OUTPUT: u64 = 10 << 10;
/// How long to wait for what a command said before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How kubelets call themselves.
const AGENT: &str = concat!("kube-probe/", env!("CARGO_PKG_VERSION"));
/// The answer of gRPC's health service that says that all is well: field 1 is 1.
const SERVING: [u8; 2] = [0x08, 0x01];

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// It is not, in the kubelet's words where it has any.
    Bad(String),
}

/// Asks a container, whose first process `host` and `process` describe, in the pod with this address.
pub async fn check(
    isolation: &Isolation,
    host: &Handle,
    process: &Process,
    pod: Ipv4Addr,
    plan: &Plan,
) -> Outcome {
    let asked = async {
        match &plan.means {
            Means::Command(command) => return command_says(isolation, host, process, command, plan).await,
            Means::Http {
                tls,
                host,
                port,
                path,
                headers,
            } => {
                let address = address(host.as_deref(), pod, *port)?;
                let stream = connect(isolation, address).await?;
                let status = if *tls {
                    get(
                        encrypt(stream, address.ip()).await?,
                        "https",
                        address,
                        path,
                        headers,
                    )
                    .await?
                } else {
                    get(stream, "http", address, path, headers).await?
                };
                if !(200..400).contains(&status) {
                    return Err(format!("HTTP probe failed with statuscode: {status}"));
                }
            }
            Means::Tcp { host, port } => {
                connect(isolation, address(host.as_deref(), pod, *port)?).await?;
            }
            Means::Grpc { port, service } => {
                let address = SocketAddr::from((pod, *port));
                health(connect(isolation, address).await?, address, service).await?;
            }
        }
        Ok(())
    };
    match &plan.means {
        // It has a time of its own, because it has to be ended.
        Means::Command(_) => asked.await,
        _ => timeout(plan.timeout, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", plan.timeout.as_secs()))),
    }
    .map_or_else(Outcome::Bad, |()| Outcome::Good)
}

fn address(host: Option<&str>, pod: Ipv4Addr, port: u16) -> Result<SocketAddr, String> {
    let ip = match host {
        None => IpAddr::V4(pod),
        Some(host) => host.parse().map_err(|_| format!("{host} is no address"))?,
    };
    Ok(SocketAddr::new(ip, port))
}

async fn connect(isolation: &Isolation, address: SocketAddr) -> Result<TcpStream, String> {
    isolation.connect(address).await.map_err(|error| match error {
        Error::Connect { address, source } => format!("dial tcp {address}: {source}"),
        other => other.to_string(),
    })
}

async fn command_says(
    isolation: &Isolation,
    host: &Handle,
    process: &Process,
    command: &[String],
    plan: &Plan,
) -> Result<(), String> {
    let shown = |error: std::io::Error| error.to_string();
    let process = Process {
        argv: command.to_vec(),
        ..process.clone()
    };
    let (reader, writer) = std::io::pipe().map_err(shown)?;
    let streams = Streams {
        error: writer.try_clone().map_err(shown)?.into(),
        output: writer.into(),
        ..Streams::null().map_err(shown)?
    };
    let mut reader = Receiver::from_owned_fd(reader.into()).map_err(shown)?;
    let started = isolation.visit(host, process, streams).await;
    let mut visitor = started.map_err(|error| error.to_string())?;
    let mut said = Vec::new();
    let ended = timeout(plan.timeout, async {
        let mut listening = pin!(listen(&mut reader, &mut said));
        let ending = tokio::select! {
            ending = visitor.ended() => {
                // What it said last may still be on its way; a child that it leaves may never close the pipe.
                let _ = timeout(LAST_WORDS, &mut listening).await;
                ending
            }
            () = &mut listening => visitor.ended().await,
        };
        ending.map_err(|error| error.to_string())
    });
    match ended.await {
        Ok(Ok(Ending::Exited(0))) => Ok(()),
        Ok(Ok(_)) => Err(String::from_utf8_lossy(&said).into_owned()),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            visitor
                .handle()
                .signal(Signal::KILL)
                .map_err(|error| error.to_string())?;
            let seconds = plan.timeout.as_secs();
            Err(format!(
                "command {:?} timed out after {seconds}s",
                command.join(" ")
            ))
        }
    }
}

/// Keeps the first of what is said, and reads the rest too, lest who says it has to wait.
async fn listen(reader: &mut Receiver, said: &mut Vec<u8>) {
    // An error is an end.
    let _ = (&mut *reader).take(MAX_OUTPUT).read_to_end(said).await;
    let _ = tokio::io::copy(reader, &mut tokio::io::sink()).await;
}

/// Sends a request, and returns the answer's status.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<u16, String> {
    let shown = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(shown)?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::HOST, address.to_string());
    if let Some(given) = request.headers_mut() {
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = header::HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            given.insert(name, value);
        }
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{scheme}: {error}"))?;
    let answer = sender.send_request(request).await.map_err(shown);
    connection.abort();
    Ok(answer?.status().as_u16())
}

/// Asks gRPC's health service.
async fn health(stream: TcpStream, address: SocketAddr, service: &str) -> Result<(), String> {
    let shown = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(shown)?;
    let connection = tokio::spawn(connection);
    let uri = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()
        .map_err(|error| error.to_string())?;
    let request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, AGENT)
        .body(Full::new(health_request(service)?))
        .map_err(|error| error.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(shown)?;
        let early = answer.headers().get("grpc-status").cloned();
        let answer = answer.into_body().collect().await.map_err(shown)?;
        let late = answer
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status").cloned());
        let code = early.or(late);
        let code = code
            .as_ref()
            .and_then(|code| code.to_str().ok())
            .unwrap_or("none")
            .to_owned();
        Ok::<_, String>((code, answer.to_bytes()))
    };
    let answer = asked.await;
    connection.abort();
    let (code, body) = answer?;
    if code != "0" {
        return Err(format!("error: health rpc probe failed with grpc-status {code}"));
    }
    // A message has five bytes before it.
    if body.get(5..) == Some(&SERVING) {
        Ok(())
    } else {
        Err("service unhealthy (responded with another status than \"SERVING\")".to_owned())
    }
}

/// The message that asks for a service: its name is field 1.
fn health_request(service: &str) -> Result<Bytes, String> {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 126);
    let length = length.ok_or_else(|| format!("the name of the service {service:?} is too long"))?;
    let mut message = vec![0, 0, 0, 0, 0];
    if length > 0 {
        message[4] = length + 2;
        message.extend([0x0a, length]);
        message.extend(service.as_bytes());
    }
    Ok(message.into())
}

async fn encrypt(
    stream: TcpStream,
    ip: IpAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    static CONFIG: LazyLock<Option<Arc<ClientConfig>>> = LazyLock::new(|| {
        let provider = ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            .with_no_client_auth();
        Some(Arc::new(config))
    });
    let config = CONFIG.clone().ok_or_else(|| "TLS is not to be had".to_owned())?;
    TlsConnector::from(config)
        .connect(ServerName::IpAddress(ip.into()), stream)
        .await
        .map_err(|error| error.to_string())
}

/// Takes every certificate: a probe asks whether somebody answers, as kubelets do.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}
