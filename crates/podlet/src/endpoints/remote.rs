//! Connections that are upgraded: to streams of a command, of a container's output, or of forwarded ports.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::{Body, nothing, said};
use super::exec::{self, Talk};
use super::log_options::{container, flag};
use super::logs::{Follow, follow};
use super::spdy::{self, Stream};
use super::streams::{Outgoing, Sink, WAITING};
use super::{Served, parameters, port_forward, websocket};
use crate::isolation::{Handle, Isolation, Process};
use crate::pod::Log;
use crate::registry::Entry;

/// The protocols of commands by WebSocket: the first can say that standard input has ended.
const BY_WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// By SPDY.
const BY_SPDY: &str = "v4.channel.k8s.io";
/// The protocol of forwarded ports, and how it is called in a WebSocket.
const PORTS: &str = "portforward.k8s.io";
const PORTS_BY_WEBSOCKET: &str = "v4.channel.k8s.io";
const PORTS_IN_WEBSOCKET: &str = "SPDY/3.1+portforward.k8s.io";
/// What is asked for and what is agreed on, where the way is SPDY.
const PROTOCOL: &str = "x-stream-protocol-version";
/// How long the other side may take to begin its streams, as kubelets have it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be wanted")]
struct Wanted {
    input: bool,
    output: bool,
    error: bool,
    terminal: bool,
}

/// What is done with the streams.
struct Job {
    isolation: Arc<Isolation>,
    handle: Handle,
    process: Arc<Process>,
    /// None, where the container's own output is wanted.
    command: Option<Vec<String>>,
    log: std::path::PathBuf,
    follow: Follow,
}

/// Answers a request for a command, or for what a container says.
pub fn answer(
    served: &Served,
    entry: &Entry,
    way: &str,
    name: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut wanted = Wanted::default();
    let mut command = Vec::new();
    for (name, value) in parameters(request.uri().query()) {
        match name.as_str() {
            "input" | "stdin" => wanted.input = flag(&value),
            "output" | "stdout" => wanted.output = flag(&value),
            "error" | "stderr" => wanted.error = flag(&value),
            "tty" => wanted.terminal = flag(&value),
            "command" => command.push(value),
            _ => {}
        }
    }
    // A terminal mixes both.
    wanted.error &= !wanted.terminal;
    if !(wanted.input || wanted.output || wanted.error) {
        let why = "you must specify at least 1 of stdin, stdout, stderr";
        return said(StatusCode::BAD_REQUEST, why);
    }
    let command = match way {
        "exec" if command.is_empty() => return said(StatusCode::BAD_REQUEST, "you must specify a command"),
        "exec" => Some(command),
        _ => None,
    };
    let state = entry.state.borrow();
    let Some(found) = container(&state, name) else {
        return said(
            StatusCode::NOT_FOUND,
            format!("container {name:?} not found in pod {:?}", entry.name),
        );
    };
    let (Some(handle), Some(process)) = (&found.handle, &found.process) else {
        return said(
            StatusCode::BAD_REQUEST,
            format!("container {name:?} in pod {:?} is not running", entry.name),
        );
    };
    let job = Job {
        isolation: served.isolation.clone(),
        handle: handle.clone(),
        process: process.clone(),
        command,
        log: Log::file(&entry.logs.join(name), found.restarts),
        follow: Follow {
            state: entry.state.clone(),
            name: name.to_owned(),
            run: found.restarts,
        },
    };
    drop(state);
    if websocket::is_wanted(request.headers()) {
        upgrade(request, &BY_WEBSOCKET, move |upgraded, _| {
            by_websocket(upgraded, wanted, job)
        })
    } else {
        spdy_upgrade(request, BY_SPDY, move |upgraded| by_spdy(upgraded, wanted, job))
    }
}

/// Answers a request for a pod's ports.
pub fn forward(served: &Served, entry: Arc<Entry>, request: Request<Incoming>) -> Response<Body> {
    let isolation = served.isolation.clone();
    if websocket::offers(request.headers(), PORTS_BY_WEBSOCKET) {
        let ports = match port_forward::ports(request.uri().query()) {
            Ok(ports) => ports,
            Err(why) => return said(StatusCode::BAD_REQUEST, why),
        };
        upgrade(request, &[PORTS_BY_WEBSOCKET], move |upgraded, _| {
            port_forward::serve_websocket(upgraded, ports, entry, isolation)
        })
    } else if websocket::is_wanted(request.headers()) {
        upgrade(request, &[PORTS_IN_WEBSOCKET], move |upgraded, _| async move {
            let tunnel = websocket::bytes(websocket::open(upgraded).await);
            port_forward::serve(tunnel, entry, isolation).await;
        })
    } else {
        spdy_upgrade(request, PORTS, move |upgraded| async move {
            port_forward::serve(TokioIo::new(upgraded), entry, isolation).await;
        })
    }
}

/// Upgrades to a WebSocket.
fn upgrade<F: Future<Output = ()> + Send + 'static>(
    mut request: Request<Incoming>,
    protocols: &[&'static str],
    then: impl FnOnce(Upgraded, &'static str) -> F + Send + 'static,
) -> Response<Body> {
    match websocket::accept(request.headers(), protocols, nothing()) {
        Ok((protocol, response)) => {
            when_upgraded(hyper::upgrade::on(&mut request), move |upgraded| {
                then(upgraded, protocol)
            });
            response
        }
        Err(why) => said(StatusCode::BAD_REQUEST, why),
    }
}

/// Upgrades to SPDY.
fn spdy_upgrade<F: Future<Output = ()> + Send + 'static>(
    mut request: Request<Incoming>,
    protocol: &'static str,
    then: impl FnOnce(Upgraded) -> F + Send + 'static,
) -> Response<Body> {
    if let Err((status, why)) = accept_spdy(request.headers(), protocol) {
        return said(status, why);
    }
    when_upgraded(hyper::upgrade::on(&mut request), then);
    let mut response = Response::new(nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn accept_spdy(headers: &HeaderMap, protocol: &str) -> Result<(), (StatusCode, String)> {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"SPDY/3.1")) {
        let why = "unable to upgrade: missing upgrade headers in request".to_owned();
        return Err((StatusCode::BAD_REQUEST, why));
    }
    let offered: Vec<&str> = headers
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    if offered.contains(&protocol) {
        return Ok(());
    }
    let why = format!(
        "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts [{protocol}]"
    );
    Err((StatusCode::FORBIDDEN, why))
}

fn when_upgraded<F: Future<Output = ()> + Send + 'static>(
    upgrade: OnUpgrade,
    then: impl FnOnce(Upgraded) -> F + Send + 'static,
) {
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => then(upgraded).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
}

async fn by_websocket(upgraded: Upgraded, wanted: Wanted, job: Job) {
    let connection = websocket::open(upgraded).await;
    // Standard input, output, error, status, size.
    let (sources, outgoing) = websocket::streams(connection, 5);
    let sink = |stream| Sink::new(stream, outgoing.clone());
    let mut sources = sources.into_iter();
    let talk = Talk {
        input: sources.next().filter(|_| wanted.input),
        output: wanted.output.then(|| sink(1)),
        error: wanted.error.then(|| sink(2)),
        sizes: sources.nth(3).filter(|_| wanted.terminal),
        status: sink(3),
    };
    job.run(talk).await;
    // If the other side has gone, nobody needs to know.
    let _ = outgoing.send(Outgoing::Close).await;
}

async fn by_spdy(upgraded: Upgraded, wanted: Wanted, job: Job) {
    let (begun, mut streams) = mpsc::channel(WAITING);
    let connection = tokio::spawn(spdy::serve(TokioIo::new(upgraded), begun));
    if let Ok(Some((talk, sinks))) = timeout(PATIENCE, gather(&mut streams, wanted)).await {
        job.run(talk).await;
        for sink in sinks {
            sink.end().await;
        }
    }
    drop(streams);
    // It has ended, or is about to.
    let _ = connection.await;
}

/// Waits for the streams that are wanted. `None` if the other side goes before.
async fn gather(streams: &mut mpsc::Receiver<Stream>, wanted: Wanted) -> Option<(Talk, Vec<Sink>)> {
    let all = [
        ("error", true),
        ("stdin", wanted.input),
        ("stdout", wanted.output),
        ("stderr", wanted.error),
        ("resize", wanted.terminal),
    ];
    let count = all.iter().filter(|(_, wanted)| *wanted).count();
    let mut known: HashMap<String, Stream> = HashMap::new();
    while known.len() < count {
        let stream = streams.recv().await?;
        let kind = stream.header("streamtype").to_owned();
        if all.contains(&(kind.as_str(), true)) {
            known.insert(kind, stream);
        }
    }
    let sinks = known.values().map(|stream| stream.sink.clone()).collect();
    let talk = Talk {
        status: known.remove("error")?.sink,
        input: known.remove("stdin").map(|stream| stream.source),
        output: known.remove("stdout").map(|stream| stream.sink),
        error: known.remove("stderr").map(|stream| stream.sink),
        sizes: known.remove("resize").map(|stream| stream.source),
    };
    Some((talk, sinks))
}

impl Job {
    async fn run(self, talk: Talk) {
        match self.command {
            Some(command) => exec::run(&self.isolation, &self.handle, &self.process, command, talk).await,
            None => attach(self.log, self.follow, talk).await,
        }
    }
}

/// Tells what a container says from now on, out of its log. Its standard input is closed, as that of all containers
/// here: what is said to it is not heard.
async fn attach(log: std::path::PathBuf, until: Follow, talk: Talk) {
    let lines = match follow(log, until).await {
        Ok(lines) => lines,
        Err(error) => return tracing::debug!(%error, "failed to follow a container's log"),
    };
    let mut lines = std::pin::pin!(lines);
    loop {
        let next = tokio::select! {
            next = lines.next() => next,
            () = talk.status.gone() => return,
        };
        let Some(next) = next else { break };
        for line in next {
            let sink = if line.error && talk.sizes.is_none() {
                &talk.error
            } else {
                &talk.output
            };
            if let Some(sink) = sink
                && sink.send(Bytes::from(line.text)).await.is_err()
            {
                return;
            }
        }
    }
    // If the other side has gone, nobody needs to know.
    let _ = talk
        .status
        .send(Bytes::from_static(br#"{"metadata":{},"status":"Success"}"#))
        .await;
}
