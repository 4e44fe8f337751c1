//! Sends a scenario's steps to a target and writes down what comes back.

use crate::{
    jwt, kubectl, normal, pick,
    resource::{complete, expand},
    scenario::{Options, Scenario, Step, Until, Verb},
    target::{Body, Target},
    text::{Variables, merge},
};
use anyhow::{Context, bail};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// How many scenarios run at once.
const AT_ONCE: usize = 6;

/// What came back, step by step.
pub type Transcript = Vec<Value>;

/// Runs scenarios, several at once, and returns their transcripts, normalised, by their id.
pub async fn all(target: Arc<dyn Target>, scenarios: &[Scenario]) -> BTreeMap<String, Transcript> {
    let run = |scenario: Scenario| {
        let target = target.clone();
        async move { (scenario.id(), one(target.as_ref(), &scenario).await) }
    };
    stream::iter(scenarios.iter().cloned().map(run))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Runs one scenario and returns its transcript, normalised. A step that fails to be sent or answered ends it with
/// an entry `error`.
pub async fn one(target: &dyn Target, scenario: &Scenario) -> Transcript {
    let mut session = Session::new(target, scenario);
    let mut transcript = Vec::new();
    if let Err(error) = session.set_up().await {
        transcript.push(json!({"step": "set up", "error": format!("{error:#}")}));
    } else {
        for step in &scenario.steps {
            let mut entry = match session.step(step).await {
                Ok(entry) => entry,
                Err(error) => json!({"error": format!("{error:#}")}),
            };
            let failed = entry.get("error").is_some();
            entry["step"] = json!(step.text);
            transcript.push(entry);
            if failed {
                break;
            }
        }
    }
    normal::normalise(
        &mut transcript,
        &session.namespace,
        &session.sent,
        scenario.managed,
    );
    transcript
}

struct Session<'a> {
    target: &'a dyn Target,
    scenario: &'a Scenario,
    namespace: String,
    group: String,
    variables: Variables,
    watches: BTreeMap<String, Events>,
    calls: kubectl::Calls,
    /// All that the scenario sends, so that normalising can tell what the server made from what it was given.
    sent: String,
}

/// What came back before it is written down.
struct Answer {
    entry: Map<String, Value>,
    status: u16,
    body: Value,
}

impl<'a> Session<'a> {
    fn new(target: &'a dyn Target, scenario: &'a Scenario) -> Self {
        let namespace = scenario.namespace();
        let group = format!("{namespace}.example.com");
        let mut variables = Variables::default();
        variables.set("ns", json!(namespace));
        variables.set("group", json!(group));
        for (name, body) in &scenario.bodies {
            let body = variables.fill_value(body);
            variables.set(name, body);
        }
        let sent = variables.fill(&scenario.written());
        let calls = kubectl::Calls::new(scenario.kubectl.clone(), namespace.clone());
        Self {
            target,
            scenario,
            namespace,
            group,
            variables,
            watches: BTreeMap::new(),
            calls,
            sent,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.target.patience()
    }

    async fn set_up(&mut self) -> anyhow::Result<()> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        self.must("/api/v1/namespaces", &namespace).await?;
        let Some(widgets) = &self.scenario.widgets else {
            return Ok(());
        };
        let crd = widgets_crd(&self.variables.fill_value(widgets), &self.group);
        self.must("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd)
            .await?;
        let version = crd["spec"]["versions"][0]["name"].as_str().unwrap_or_default();
        let list = format!(
            "/apis/{}/{version}/{}",
            self.group,
            crd["spec"]["names"]["plural"].as_str().unwrap_or("")
        );
        let wait = Step {
            text: "set up".into(),
            verb: Verb::Request("GET", ""),
            what: list,
            body: Value::Null,
            options: Options {
                until: Some(Until::Status(200)),
                ..Options::default()
            },
        };
        self.step(&wait).await?;
        Ok(())
    }

    async fn must(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.request(
            "POST",
            path,
            "application/json",
            body.to_string(),
            &Options::default(),
        )?;
        let answer = read(self.target.call(request).await?, self.deadline()).await?;
        if answer.status != 201 {
            bail!("POST {path} to set up: {} {}", answer.status, answer.body);
        }
        Ok(())
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: String,
        options: &Options,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::USER_AGENT, "conformance/1");
        request = request.header(
            header::ACCEPT,
            options.accept.as_deref().unwrap_or("application/json"),
        );
        let token = match &options.token {
            Some(token) => self.variables.fill(token),
            None => self.target.token().to_owned(),
        };
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let content_type = options.content_type.as_deref().unwrap_or(content_type);
        if !content_type.is_empty() && !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(user) = &options.user {
            request = request.header("impersonate-user", self.variables.fill(user));
        }
        for (name, value) in &options.headers {
            request = request.header(name, self.variables.fill(value));
        }
        request
            .body(Full::new(Bytes::from(body)))
            .context("the step is not a valid request")
    }

    async fn step(&mut self, step: &Step) -> anyhow::Result<Value> {
        let what = self.variables.fill(&step.what);
        match step.verb {
            Verb::Request(method, content_type) => self.plain(step, method, content_type, &what).await,
            Verb::Watch => self.watch(step, &what).await,
            Verb::Read => {
                if let Some(output) = self.calls.read(&what, step.options.events).await? {
                    return Ok(output);
                }
                let mut events = self
                    .watches
                    .remove(&what)
                    .with_context(|| format!("no open watch {what}"))?;
                let entry = events.read(step.options.events).await?;
                self.watches.insert(what, events);
                Ok(entry)
            }
            Verb::Kubectl => {
                let input = match self.variables.fill_value(&step.body) {
                    Value::Null => String::new(),
                    Value::String(text) => text,
                    value => value.to_string(),
                };
                let kubeconfig = self.target.kubeconfig().context("the target has no kubeconfig")?;
                self.calls.call(&kubeconfig, &what, input, &step.options).await
            }
        }
    }

    async fn plain(
        &mut self,
        step: &Step,
        method: &str,
        content_type: &str,
        what: &str,
    ) -> anyhow::Result<Value> {
        let resource = expand(what, &self.namespace, &self.group);
        let mut body = self.variables.fill_value(&step.body);
        if !step.options.with.is_null() {
            merge(&mut body, &self.variables.fill_value(&step.options.with));
        }
        if !step.options.bare && (method == "POST" || method == "PUT" || content_type.contains("apply")) {
            complete(&mut body, &resource);
        }
        let body = match body {
            Value::Null => String::new(),
            Value::String(text) => text,
            value => value.to_string(),
        };
        let until = step
            .options
            .until
            .as_ref()
            .map(|until| until.filled(&self.variables));
        let deadline = self.deadline();
        loop {
            let request = self.request(method, &resource.path, content_type, body.clone(), &step.options)?;
            let answer = read(self.target.call(request).await?, deadline).await?;
            if until.as_ref().is_none_or(|until| until.holds(&answer)) {
                return self.keep(step, answer);
            }
            if Instant::now() > deadline {
                bail!(
                    "waited in vain; the last answer: {} {}",
                    answer.status,
                    answer.body
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn keep(&mut self, step: &Step, answer: Answer) -> anyhow::Result<Value> {
        let Answer {
            mut entry, mut body, ..
        } = answer;
        for (name, path) in &step.options.save {
            let value =
                pick::at(&body, path).with_context(|| format!("nothing at {path} to save in {body}"))?;
            self.variables.set(name, value.clone());
        }
        if let Some(parts) = &step.options.pick {
            let picked = parts.iter().map(|(label, path)| {
                let found = pick::at(&body, &self.variables.fill(path));
                (label.clone(), found.cloned().unwrap_or(Value::Null))
            });
            body = Value::Object(picked.collect());
        }
        if let Some(token) = step
            .options
            .claims
            .as_ref()
            .and_then(|path| body.pointer_mut(path))
        {
            *token = jwt::claims(token.as_str().unwrap_or_default()).context("there is no token to read")?;
        }
        pick::omit(&mut body, &step.options.omit);
        if !body.is_null() {
            entry.insert("body".into(), body);
        }
        Ok(Value::Object(entry))
    }

    async fn watch(&mut self, step: &Step, what: &str) -> anyhow::Result<Value> {
        let resource = expand(what, &self.namespace, &self.group);
        let joint = if resource.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}watch=true", resource.path);
        let request = self.request("GET", &path, "", String::new(), &step.options)?;
        let deadline = self.deadline();
        let answer = timeout_at(deadline, self.target.call(request))
            .await
            .context("no answer in time")??;
        if answer.status() != 200 {
            return self.keep(step, read(answer, deadline).await?);
        }
        let mut entry = head(&answer);
        let mut events = Events::new(answer.into_body(), self.target.patience());
        if let Some(name) = &step.options.open {
            self.watches.insert(name.clone(), events);
        } else if let Value::Object(read) = events.read(step.options.events).await? {
            entry.extend(read);
        }
        Ok(Value::Object(entry))
    }
}

impl Until {
    fn filled(&self, variables: &Variables) -> Self {
        match self {
            Self::Status(status) => Self::Status(*status),
            Self::Values(values) => {
                let fill =
                    |(path, value): (&String, &Value)| (variables.fill(path), variables.fill_value(value));
                Self::Values(values.iter().map(fill).collect())
            }
        }
    }

    fn holds(&self, answer: &Answer) -> bool {
        match self {
            Self::Status(status) => answer.status == *status,
            Self::Values(values) => values
                .iter()
                .all(|(path, value)| pick::at(&answer.body, path).unwrap_or(&Value::Null) == value),
        }
    }
}

/// The parts of an answer's head that are compared.
fn head(answer: &Response<Body>) -> Map<String, Value> {
    let text = |name| {
        answer
            .headers()
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut entry = Map::new();
    entry.insert("status".into(), json!(answer.status().as_u16()));
    if let Some(content_type) = text(header::CONTENT_TYPE) {
        entry.insert("type".into(), json!(content_type));
    }
    if let Some(retry) = text(header::RETRY_AFTER) {
        entry.insert("retryAfter".into(), json!(retry));
    }
    let warnings = answer.headers().get_all(header::WARNING).iter();
    let warnings: Vec<_> = warnings
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    if !warnings.is_empty() {
        entry.insert("warnings".into(), json!(warnings));
    }
    entry
}

async fn read(answer: Response<Body>, deadline: Instant) -> anyhow::Result<Answer> {
    let (entry, status) = (head(&answer), answer.status().as_u16());
    let body = timeout_at(deadline, answer.into_body().collect())
        .await
        .context("no whole answer in time")??;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let body = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => Value::Array(text.lines().map(|line| json!(line)).collect()),
    };
    Ok(Answer { entry, status, body })
}

/// The events of an open watch: a line of JSON each.
struct Events {
    patience: Duration,
    body: Body,
    unread: Vec<u8>,
}

impl Events {
    fn new(body: Body, patience: Duration) -> Self {
        Self {
            patience,
            body,
            unread: Vec::new(),
        }
    }

    /// Reads `count` events, or until the server closes the stream.
    async fn read(&mut self, count: Option<usize>) -> anyhow::Result<Value> {
        let deadline = Instant::now() + self.patience;
        let mut events = Vec::new();
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                events.push(serde_json::from_slice(&line).context("an event is not JSON")?);
                if Some(events.len()) == count {
                    return Ok(json!({"events": events}));
                }
            }
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => bail!("waited in vain for events; so far: {}", Value::Array(events)),
                Ok(None) => return Ok(json!({"events": events, "end": "closed"})),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.context("the stream broke")?.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The CRD of `widgets`: `given` holds fields of its spec (`names`, `scope`, `conversion`, `versions`) and, for the
/// usual single version `v1`, of that version.
fn widgets_crd(given: &Value, group: &str) -> Value {
    let mut spec = json!({
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
    });
    let mut version = json!({
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    });
    for (key, value) in given.as_object().into_iter().flatten() {
        match key.as_str() {
            "schema" => version["schema"]["openAPIV3Schema"] = value.clone(),
            "subresources" | "additionalPrinterColumns" | "selectableFields" | "deprecated" => {
                version[key] = value.clone();
            }
            _ => merge(&mut spec[key], value),
        }
    }
    if given.get("versions").is_none() {
        spec["versions"] = json!([version]);
    }
    let plural = spec["names"]["plural"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": spec,
    })
}
