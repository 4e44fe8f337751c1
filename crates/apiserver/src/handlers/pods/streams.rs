//! What a pod's kubelet answers: logs, commands in containers, forwarded ports. Here it is found out what to ask
//! which kubelet; [`crate::kubelet`] asks.

use super::plain_error;
use crate::field::{FieldError, FieldErrors, Path};
use crate::handlers::{Context, write};
use crate::kubelet::{Target, Way, is_upgrade};
use crate::metadata::rules;
use crate::request::path::key;
use crate::resource::Resource;
use crate::response::{self, Body};
use crate::status::{ApiError, ApiResult};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The port of a kubelet that says none.
const PORT: u16 = 10_250;
/// Which of a node's addresses is taken, first to last.
const PREFERRED: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// Whether a subresource is answered by the kubelet.
pub(in crate::handlers) fn is_stream(resource: &Resource, subresource: &str) -> bool {
    resource.group.is_empty()
        && &*resource.plural == "pods"
        && ["log", "exec", "attach", "portforward"].contains(&subresource)
}

/// Holds the place of a kubelet's answer.
pub(in crate::handlers) fn stream(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let query = &cx.request.query;
    let kind = &*cx.path.subresource;
    if kind != "log" && !query.all("dryRun").is_empty() {
        return Err(ApiError::bad_request("dryRun is not supported"));
    }
    if kind != "log" {
        // A connection is made, even where a browser can only get it.
        let mut asked = cx.request.attributes();
        asked.verb = "create";
        cx.inner.access.require(&asked)?;
    }
    let parameters = match kind {
        "log" => log_parameters(cx)?,
        "portforward" => port_parameters(cx)?,
        _ => stream_parameters(cx),
    };
    let entry = cx.entry()?;
    let pod = write::load(&cx.served, &entry);
    let container = if kind == "portforward" {
        String::new()
    } else {
        format!("/{}", container(&pod, query.text("container"))?)
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        if kind == "log" {
            let mut nothing = Response::new(Body::whole(""));
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        }
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            cx.path.name
        )));
    }
    let (host, port) = kubelet_of(cx, node)?;
    if kind != "log" && !is_upgrade(&cx.request.parts.headers) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let root = match kind {
        "log" => "containerLogs",
        "portforward" => "portForward",
        other => other,
    };
    let mut path = format!("/{root}/{}{container}", cx.path.key());
    if !parameters.is_empty() {
        path = format!("{path}?{}", encode(parameters));
    }
    let way = if kind == "log" {
        Way::Log {
            pod: cx.path.name.clone(),
        }
    } else {
        Way::Stream
    };
    let mut place = response::json(StatusCode::OK, &Value::Null);
    place.extensions_mut().insert(Target {
        host,
        port,
        path,
        way,
    });
    Ok(place)
}

type Parameters = Vec<(&'static str, String)>;

/// Parameters as Go encodes them: sorted by their names.
fn encode(mut parameters: Parameters) -> String {
    parameters.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b' ' => text.push('+'),
                b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
                byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
                byte => {
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
    }
    text
}

/// What a log is asked for, judged.
fn log_parameters(cx: &Context<'_>) -> ApiResult<Parameters> {
    let query = &cx.request.query;
    let mut parameters = Parameters::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) == Some(true) {
            parameters.push((flag, "true".to_owned()));
        }
    }
    let mut errors = FieldErrors::new();
    let mut bounded = |name: &'static str, least: i64, why: &str| -> ApiResult<bool> {
        let Some(number) = query.number(name)? else {
            return Ok(false);
        };
        if number < least {
            errors.push(FieldError::invalid(&Path::new(name), &json!(number), why));
        }
        parameters.push((name, number.to_string()));
        Ok(true)
    };
    bounded("tailLines", 0, "must be greater than or equal to 0")?;
    bounded("limitBytes", 1, "must be greater than 0")?;
    let since_time = query.get("sinceTime").filter(|time| !time.is_empty());
    let both = since_time.is_some() && query.get("sinceSeconds").is_some();
    let least = if both { i64::MIN } else { 1 };
    bounded("sinceSeconds", least, "must be greater than 0")?;
    if both {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&Path::new("[]"), why));
    }
    if let Some(time) = since_time {
        let parsed: Result<jiff::Timestamp, _> = time.parse();
        let parsed = parsed.map_err(|_| {
            ApiError::bad_request(format!(
                "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {time:?} as \"2006\""
            ))
        })?;
        parameters.push(("sinceTime", parsed.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    if query.get("stream").is_some() {
        errors.push(FieldError::forbidden(
            &Path::new("stream"),
            "may not be specified",
        ));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", &cx.path.name, &errors));
    }
    Ok(parameters)
}

/// What a command's streams are to be.
fn stream_parameters(cx: &Context<'_>) -> Parameters {
    let query = &cx.request.query;
    let mut parameters = Parameters::new();
    for (asked, passed) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if query.flag(asked) == Some(true) {
            parameters.push((passed, "1".to_owned()));
        }
    }
    if cx.path.subresource == "exec" {
        let command = query.all("command").into_iter();
        parameters.extend(command.map(|part| ("command", part.to_owned())));
    }
    parameters
}

fn port_parameters(cx: &Context<'_>) -> ApiResult<Parameters> {
    let mut ports = Vec::new();
    for text in cx.request.query.all("ports") {
        for port in text.split(',').filter(|port| !port.is_empty()) {
            let number: i32 = port.parse().map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {port:?}: invalid syntax"))
            })?;
            ports.push(number.to_string());
        }
    }
    Ok(if ports.is_empty() {
        Parameters::new()
    } else {
        vec![("port", ports.join(","))]
    })
}

/// The container that is meant.
fn container(pod: &Value, asked: &str) -> ApiResult<String> {
    let names = |list: &str| -> Vec<&str> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["name"].as_str())
            .collect()
    };
    let all = [
        names("initContainers"),
        names("containers"),
        names("ephemeralContainers"),
    ]
    .concat();
    let name = rules::text(pod, "name");
    if !asked.is_empty() {
        return if all.contains(&asked) {
            Ok(asked.to_owned())
        } else {
            Err(ApiError::bad_request(format!(
                "container {asked} is not valid for pod {name}"
            )))
        };
    }
    match names("containers").as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

/// Where the kubelet of a node listens.
fn kubelet_of(cx: &Context<'_>, name: &str) -> ApiResult<(String, u16)> {
    // The real server names what was asked for, and not what is missing.
    let missing = || ApiError::not_found("", "pods", name);
    let served = cx.table.find("", "v1", "nodes").ok_or_else(missing)?;
    let entry = served.shelf.get(&key("", name)).ok_or_else(missing)?;
    let node = write::load(served, &entry);
    let addresses: Vec<(&str, &str)> = node["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|address| Some((address["type"].as_str()?, address["address"].as_str()?)))
        .collect();
    let host = PREFERRED
        .iter()
        .find_map(|preferred| addresses.iter().find(|(kind, _)| kind == preferred));
    let Some((_, host)) = host else {
        let known: Vec<String> = addresses
            .iter()
            .map(|(kind, address)| format!("{{{kind} {address}}}"))
            .collect();
        return Err(plain_error(format!(
            "no preferred addresses found; known addresses: [{}]",
            known.join(" ")
        )));
    };
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0);
    Ok(((*host).to_owned(), port.unwrap_or(PORT)))
}
