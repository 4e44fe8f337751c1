//! Rows of pods and of what makes them.

use super::{Show, containers, items, number, or, selector, text};
use serde_json::{Value, json};

pub(super) fn layout(plural: &str) -> Option<&'static str> {
    Some(match plural {
        "deployments" => "Name|Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*",
        "replicasets" => "Name|#Desired|#Current|#Ready|Age|Containers*|Images*|Selector*",
        "statefulsets" => "Name|Ready|Age|Containers*|Images*",
        "daemonsets" => {
            "Name|#Desired|#Current|#Ready|#Up-to-date|#Available|Node Selector|Age|Containers*|Images*|Selector*"
        }
        "controllerrevisions" => "Name|Controller|Revision|Age",
        "jobs" => "Name|Status|Completions|Duration|Age|Containers*|Images*|Selector*",
        "cronjobs" => {
            "Name|Schedule|Timezone|?Suspend|#Active|Last Schedule|Age|Containers*|Images*|Selector*"
        }
        _ => return None,
    })
}

pub(super) fn cells(plural: &str, show: &Show<'_>) -> Option<Vec<Value>> {
    let (spec, status) = (show.spec(), show.status());
    let ready = || format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas"));
    let template = |cells: &mut Vec<Value>| cells.extend(containers(&spec["template"]["spec"]));
    let mut cells = match plural {
        "deployments" => vec![
            show.name(),
            ready().into(),
            json!(number(status, "updatedReplicas")),
            json!(number(status, "availableReplicas")),
            show.age(),
        ],
        "replicasets" => replicas(show),
        "statefulsets" => vec![show.name(), ready().into(), show.age()],
        "daemonsets" => vec![
            show.name(),
            json!(number(status, "desiredNumberScheduled")),
            json!(number(status, "currentNumberScheduled")),
            json!(number(status, "numberReady")),
            json!(number(status, "updatedNumberScheduled")),
            json!(number(status, "numberAvailable")),
            super::labels(&spec["template"]["spec"]["nodeSelector"]).into(),
            show.age(),
        ],
        "controllerrevisions" => return Some(revision(show)),
        "jobs" => job(show),
        "cronjobs" => return Some(cron_job(show)),
        _ => return None,
    };
    template(&mut cells);
    if plural != "statefulsets" {
        let none = if plural == "jobs" { "<none>" } else { "" };
        cells.push(selector(&spec["selector"], none).into());
    }
    Some(cells)
}

/// Name, wanted, there, ready, age.
pub(super) fn replicas(show: &Show<'_>) -> Vec<Value> {
    vec![
        show.name(),
        json!(number(show.spec(), "replicas")),
        json!(number(show.status(), "replicas")),
        json!(number(show.status(), "readyReplicas")),
        show.age(),
    ]
}

fn revision(show: &Show<'_>) -> Vec<Value> {
    let owners = items(&show.object["metadata"]["ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true);
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let group = text(owner, "apiVersion")
                .split_once('/')
                .map_or("", |(group, _)| group);
            let kind = text(owner, "kind").to_lowercase();
            let dotted = if group.is_empty() {
                kind
            } else {
                format!("{kind}.{group}")
            };
            format!("{dotted}/{}", text(owner, "name"))
        },
    );
    let revision = number(show.object, "revision");
    vec![show.name(), controller.into(), json!(revision), show.age()]
}

fn has_condition(status: &Value, kind: &str) -> bool {
    let conditions = items(&status["conditions"]);
    conditions
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn job(show: &Show<'_>) -> Vec<Value> {
    let (spec, status) = (show.spec(), show.status());
    let done = number(status, "succeeded");
    let completions = match (spec["completions"].as_i64(), number(spec, "parallelism")) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        _ => format!("{done}/1"),
    };
    let duration = if text(status, "startTime").is_empty() {
        String::new()
    } else {
        let end = text(status, "completionTime").parse().unwrap_or(show.now);
        Show {
            object: show.object,
            now: end,
        }
        .since(&status["startTime"])
    };
    let conditions = [("Complete", "Complete"), ("Failed", "Failed")];
    let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    let ended = conditions
        .iter()
        .find(|(kind, _)| has_condition(status, kind))
        .map(|(_, said)| *said);
    let state = ended.unwrap_or_else(|| {
        if show.is_deleting() {
            return "Terminating";
        }
        later
            .iter()
            .find(|kind| has_condition(status, kind))
            .copied()
            .unwrap_or("Running")
    });
    vec![
        show.name(),
        state.into(),
        completions.into(),
        duration.into(),
        show.age(),
    ]
}

fn cron_job(show: &Show<'_>) -> Vec<Value> {
    let (spec, status) = (show.spec(), show.status());
    let last = match &status["lastScheduleTime"] {
        Value::Null => "<none>".to_owned(),
        time => show.since(time),
    };
    let suspended = match spec["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let mut cells = vec![
        show.name(),
        text(spec, "schedule").into(),
        or(text(spec, "timeZone"), "<none>").into(),
        suspended.into(),
        json!(items(&status["active"]).len()),
        last.into(),
        show.age(),
    ];
    let job = &spec["jobTemplate"]["spec"];
    cells.extend(containers(&job["template"]["spec"]));
    cells.push(selector(&job["selector"], "<none>").into());
    cells
}

/// The row condition of a pod that has ended.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(&pod["status"], "phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// What the containers of a pod add up to.
struct Tally {
    ready: usize,
    restarts: i64,
    last_restart: String,
    reason: String,
}

impl Tally {
    fn count(&mut self, container: &Value) {
        self.restarts += number(container, "restartCount");
        let finished = text(&container["lastState"]["terminated"], "finishedAt");
        if finished > self.last_restart.as_str() {
            finished.clone_into(&mut self.last_restart);
        }
    }
}

/// How a container ended.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    match number(terminated, "signal") {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", number(terminated, "exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

/// Counts the init containers; says whether the pod still initializes.
fn initializing(pod: &Value, tally: &mut Tally, sidecars: &mut Tally) -> bool {
    let all = items(&pod["spec"]["initContainers"]);
    for (index, container) in items(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        tally.count(container);
        let restartable = all
            .iter()
            .any(|c| c["name"] == container["name"] && c["restartPolicy"] == "Always");
        if restartable {
            sidecars.count(container);
        }
        let (terminated, waiting) = (
            &container["state"]["terminated"],
            text(&container["state"]["waiting"], "reason"),
        );
        if !terminated.is_null() && number(terminated, "exitCode") == 0 {
            continue;
        }
        if restartable && container["started"] == true {
            tally.ready += usize::from(container["ready"] == true);
            continue;
        }
        tally.reason = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", all.len())
        };
        return true;
    }
    false
}

/// Counts the containers and says the reason that they give.
fn running(pod: &Value, tally: &mut Tally) {
    let status = &pod["status"];
    let mut any_runs = false;
    let mut failure = String::new();
    for container in items(&status["containerStatuses"]).iter().rev() {
        tally.count(container);
        let state = &container["state"];
        let waiting = text(&state["waiting"], "reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut tally.reason);
        } else if !state["terminated"].is_null() {
            tally.reason = ended(&state["terminated"]);
            if number(&state["terminated"], "exitCode") != 0 {
                failure.clone_from(&tally.reason);
            }
        } else if container["ready"] == true && !state["running"].is_null() {
            any_runs = true;
            tally.ready += 1;
        }
    }
    if tally.reason == "Completed" {
        if any_runs && has_condition(status, "Ready") {
            "Running".clone_into(&mut tally.reason);
        } else if !failure.is_empty() {
            tally.reason = failure;
        } else if any_runs {
            "NotReady".clone_into(&mut tally.reason);
        }
    }
}

pub(super) fn pod(show: &Show<'_>) -> Vec<Value> {
    let (pod, spec, status) = (show.object, show.spec(), show.status());
    let fresh = |reason: &str| Tally {
        ready: 0,
        restarts: 0,
        last_restart: String::new(),
        reason: reason.to_owned(),
    };
    let mut tally = fresh(or(text(status, "reason"), text(status, "phase")));
    let is_held = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if items(&status["conditions"]).iter().any(is_held) {
        "SchedulingGated".clone_into(&mut tally.reason);
    }
    let mut sidecars = fresh("");
    let initializes = initializing(pod, &mut tally, &mut sidecars);
    if !initializes || has_condition(status, "Initialized") {
        tally.restarts = sidecars.restarts;
        tally.last_restart = sidecars.last_restart;
        running(pod, &mut tally);
    }
    if show.is_deleting() {
        if text(status, "reason") == "NodeLost" {
            "Unknown".clone_into(&mut tally.reason);
        } else if !["Succeeded", "Failed"].contains(&text(status, "phase")) {
            "Terminating".clone_into(&mut tally.reason);
        }
    }
    let restartable = items(&spec["initContainers"])
        .iter()
        .filter(|c| c["restartPolicy"] == "Always");
    let total = items(&spec["containers"]).len() + restartable.count();
    let restarts = if tally.restarts != 0 && !tally.last_restart.is_empty() {
        format!(
            "{} ({} ago)",
            tally.restarts,
            show.since(&json!(tally.last_restart))
        )
    } else {
        tally.restarts.to_string()
    };
    let address = items(&status["podIPs"]).first().map_or("", |ip| text(ip, "ip"));
    let wanted = items(&spec["readinessGates"]);
    let open = wanted
        .iter()
        .filter(|gate| has_condition(status, text(gate, "conditionType")))
        .count();
    let gates = if wanted.is_empty() {
        "<none>".to_owned()
    } else {
        format!("{open}/{}", wanted.len())
    };
    vec![
        show.name(),
        format!("{}/{total}", tally.ready).into(),
        tally.reason.into(),
        restarts.into(),
        show.age(),
        or(address, "<none>").into(),
        or(text(spec, "nodeName"), "<none>").into(),
        or(text(status, "nominatedNodeName"), "<none>").into(),
        gates.into(),
    ]
}
