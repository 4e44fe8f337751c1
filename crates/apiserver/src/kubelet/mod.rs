//! The way from the server to the kubelets of nodes: logs, commands in containers and forwarded ports.
//!
//! What is asked for is found out while the request is handled, without waiting; the answer's place is held by a
//! [`Target`], and [`connect`] puts the kubelet's answer there. A connection that is upgraded is passed on byte for
//! byte, whatever protocol it is upgraded to.

mod tls;

pub use tls::{KubeletClient, KubeletClientError};

use crate::response::{self, Body, Cut};
use crate::status::ApiError;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Bytes of a kubelet's refusal that are read at most.
const MOST_OF_A_REFUSAL: usize = 50_000;

/// Where a request goes on, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The path with its query.
    pub(crate) path: String,
    pub(crate) way: Way,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A log of the pod, which is read.
    Log { pod: String },
    /// A connection that is upgraded.
    Stream,
}

/// What of a client's request goes on to a kubelet.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// The client's connection, to be taken over; none where there is no socket.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// Whether a request wants its connection upgraded.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(http::header::CONNECTION).iter();
    connection
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"))
}

/// Gets a kubelet's answer.
pub(crate) async fn connect(
    client: Option<&KubeletClient>,
    target: &Target,
    asked: Asked,
    stop: Option<CancellationToken>,
) -> Response<Body> {
    let done = match &target.way {
        Way::Log { pod } => log(client, target, pod).await,
        Way::Stream => stream(client, target, asked, stop).await,
    };
    done.unwrap_or_else(|error| response::refusal(&error))
}

/// An error of the server's own making, as the real one sends what its libraries say.
fn plain(said: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", said)
}

/// An error of the network in the words of Go's library.
fn dialled(target: &Target, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {}: {why}", address(target))
}

fn address(target: &Target) -> String {
    if target.host.contains(':') {
        format!("[{}]:{}", target.host, target.port)
    } else {
        format!("{}:{}", target.host, target.port)
    }
}

/// A connection to a kubelet, or why there is none.
async fn dial(client: Option<&KubeletClient>, target: &Target) -> Result<SendRequest<Empty<Bytes>>, String> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port))
        .await
        .map_err(|error| dialled(target, &error))?;
    // A socket that refuses the option works without.
    let _ = tcp.set_nodelay(true);
    let tls = match client {
        Some(client) => client.handshake(&target.host, tcp).await,
        None => match KubeletClient::new(None, None) {
            Ok(client) => client.handshake(&target.host, tcp).await,
            Err(error) => return Err(error.to_string()),
        },
    };
    let tls = tls.map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(tls))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a kubelet ended early");
        }
    });
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Empty<Bytes>>,
    target: &Target,
    method: Method,
    headers: HeaderMap,
) -> Result<Response<Incoming>, String> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = target
        .path
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&address(target)).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())
}

/// Reads a log for as long as the client does.
async fn log(client: Option<&KubeletClient>, target: &Target, pod: &str) -> Result<Response<Body>, ApiError> {
    let failed = |why: String| {
        plain(format!(
            "Get \"https://{}{}\": {why}",
            address(target),
            target.path
        ))
    };
    let mut sender = dial(client, target).await.map_err(failed)?;
    let answer = send(&mut sender, target, Method::GET, HeaderMap::new())
        .await
        .map_err(failed)?;
    if !(200..=206).contains(&answer.status().as_u16()) {
        return Err(refused(answer, pod).await);
    }
    let text = HeaderValue::from_static("text/plain");
    Ok(response::with(StatusCode::OK, text, passed_on(answer, sender)))
}

/// A body that comes from a kubelet; the connection lasts as long.
fn passed_on(answer: Response<Incoming>, sender: SendRequest<Empty<Bytes>>) -> Body {
    let frames = BodyStream::new(answer.into_body()).filter_map(move |frame| {
        let _alive = &sender;
        let piece = match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => {
                tracing::debug!(%error, "a kubelet's answer broke off");
                Some(Err(Cut))
            }
        };
        std::future::ready(piece)
    });
    Body::pieces(frames)
}

/// The refusal of a log, made of the kubelet's.
async fn refused(answer: Response<Incoming>, pod: &str) -> ApiError {
    let code = answer.status();
    let said = match Limited::new(answer.into_body(), MOST_OF_A_REFUSAL)
        .collect()
        .await
    {
        Ok(said) => String::from_utf8_lossy(&said.to_bytes()).into_owned(),
        Err(error) => return ApiError::internal(error.to_string()),
    };
    let told = |message: &str| format!("{message} ( pods/log {pod})");
    let (reason, message) = match code.as_u16() {
        500 => return ApiError::internal(said),
        400 => return ApiError::bad_request(said),
        401 => (
            "Unauthorized",
            told("the server has asked for the client to provide credentials"),
        ),
        403 => ("Forbidden", told(&said)),
        404 => (
            "NotFound",
            told("the server could not find the requested resource"),
        ),
        405 => (
            "MethodNotAllowed",
            told("the server does not allow this method on the requested resource"),
        ),
        429 => (
            "TooManyRequests",
            told("the server has received too many requests and has asked us to try again later"),
        ),
        503 => (
            "ServiceUnavailable",
            told("the server is currently unable to handle the request"),
        ),
        501.. => (
            "InternalError",
            told(&format!(
                "an error on the server ({said:?}) has prevented the request from succeeding"
            )),
        ),
        other => (
            "",
            told(&format!(
                "the server responded with the status code {other} but did not return more information"
            )),
        ),
    };
    ApiError::new(code, reason, message).with_details(json!({"name": pod, "kind": "pods/log"}))
}

/// Passes a request on that upgrades its connection, and then the connection.
async fn stream(
    client: Option<&KubeletClient>,
    target: &Target,
    asked: Asked,
    stop: Option<CancellationToken>,
) -> Result<Response<Body>, ApiError> {
    let mut headers = asked.headers;
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| **name == AUTHORIZATION || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in own {
        // These were for this server.
        headers.remove(name);
    }
    let mut sender = dial(client, target)
        .await
        .map_err(|why| plain(format!("error dialing backend: {why}")))?;
    let mut answer = send(&mut sender, target, asked.method, headers)
        .await
        .map_err(|why| plain(format!("error sending request: {why}")))?;
    let code = answer.status();
    if code != StatusCode::SWITCHING_PROTOCOLS && code.as_u16() < 400 {
        return Err(plain(format!(
            "invalid upgrade response: status code {}",
            code.as_u16()
        )));
    }
    let mut passed = Response::new(Body::whole(Bytes::new()));
    *passed.status_mut() = code;
    *passed.headers_mut() = answer.headers().clone();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        // The server frames the body anew.
        passed.headers_mut().remove(http::header::TRANSFER_ENCODING);
        return Ok(passed.map(|_| passed_on(answer, sender)));
    }
    let kubelet = hyper::upgrade::on(&mut answer);
    match asked.upgrade {
        Some(client) => {
            tokio::spawn(join(client, kubelet, stop.unwrap_or_default()));
        }
        // A client in this process takes the connection over itself, out of the answer.
        None => {
            passed.extensions_mut().insert(kubelet);
        }
    }
    Ok(passed)
}

/// Copies both ways until one side has ended.
async fn join(client: OnUpgrade, kubelet: OnUpgrade, stop: CancellationToken) {
    let (client, kubelet): (Upgraded, Upgraded) = match tokio::try_join!(client, kubelet) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
    };
    let (mut from_client, mut to_client) = split(TokioIo::new(client));
    let (mut from_kubelet, mut to_kubelet) = split(TokioIo::new(kubelet));
    let ended = tokio::select! {
        ended = copy(&mut from_client, &mut to_kubelet) => ended,
        ended = copy(&mut from_kubelet, &mut to_client) => ended,
        () = stop.cancelled() => Ok(0),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an upgraded connection broke off");
    }
    // The other side sees the end; one that has gone needs not be told.
    let _ = to_client.shutdown().await;
    let _ = to_kubelet.shutdown().await;
}
