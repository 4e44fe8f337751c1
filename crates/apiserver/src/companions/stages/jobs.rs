//! What the job controller does, and the one that deletes jobs when their time is over: pods are made until enough of
//! them have succeeded, or too many have failed. Jobs with indexes are left alone, and policies for failures are not
//! asked.
//!
//! A pod is counted once, whatever comes between: it holds a finalizer; its uid is noted in the job's status; then the
//! finalizer goes; and then the uid becomes one more in the count. Each step is a write of its own that follows from
//! what is stored.

use super::plan::{Action, Plan, Scene, is_active, is_controlled_by, is_ready, length};
use super::replica_sets::pod_of;
use super::world::{Kind, Ref, condition, controller, is_deleting, number, text, uid};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const CONTROLLER: &str = "kubernetes.io/job-controller";
/// How long after a failure the next pod is made; it doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_mins(10);

struct Job<'v> {
    scene: &'v Scene<'v>,
    at: &'v Ref,
    object: &'v Value,
    pods: Vec<&'v Value>,
}

/// How a job comes to an end.
enum End {
    Success { reason: String, message: String },
    Failure { reason: String, message: String },
}

pub(super) fn plan(scene: &Scene<'_>, at: &Ref, object: &Value) -> Plan {
    let job = Job {
        scene,
        at,
        object,
        pods: scene.world.controlled(Kind::Pod, object).collect(),
    };
    let managed_by = text(object, "/spec/managedBy");
    if !managed_by.is_empty() && managed_by != CONTROLLER || object["spec"]["completionMode"] == "Indexed" {
        return Plan::default();
    }
    if is_deleting(object) {
        return Plan {
            actions: job.release(|_| true),
            ..Plan::default()
        };
    }
    if is_true(object, "Complete") || is_true(object, "Failed") {
        let mut plan = job.expire();
        plan.actions.extend(job.release(|_| true));
        return plan;
    }
    job.advance()
}

/// Lets a pod go that is tracked for a job that is gone.
pub(super) fn plan_pod(scene: &Scene<'_>, at: &Ref, pod: &Value) -> Plan {
    let mut plan = Plan::default();
    let of_job = controller(pod).filter(|_| is_controlled_by(pod, "Job"));
    let known = of_job.is_some_and(|owner| {
        let job = scene.world.get(&Ref {
            kind: Kind::Job,
            namespace: at.namespace.clone(),
            name: text(owner, "/name").to_owned(),
        });
        job.is_some_and(|job| uid(job) == text(owner, "/uid"))
    });
    if is_tracked(pod) && !known {
        plan.actions.push(untrack(pod));
    }
    plan
}

fn is_true(job: &Value, kind: &str) -> bool {
    condition(job, kind).is_some_and(|condition| condition["status"] == "True")
}

fn finalizers(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = pod.pointer("/metadata/finalizers").and_then(Value::as_array);
    all.into_iter().flatten()
}

fn is_tracked(pod: &Value) -> bool {
    finalizers(pod).any(|finalizer| finalizer == TRACKING)
}

fn untrack(pod: &Value) -> Action {
    let left: Vec<&Value> = finalizers(pod)
        .filter(|finalizer| **finalizer != TRACKING)
        .collect();
    let version = &pod["metadata"]["resourceVersion"];
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": left}});
    Action::Patch(Ref::of(Kind::Pod, pod), patch)
}

fn delete(at: &Ref, object: &Value) -> Action {
    Action::Delete {
        at: at.clone(),
        uid: uid(object).to_owned(),
        now: false,
    }
}

/// When a pod ended.
fn ended(pod: &Value) -> Option<Timestamp> {
    let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let finished = containers
        .into_iter()
        .flatten()
        .filter_map(|container| text(container, "/state/terminated/finishedAt").parse().ok())
        .max();
    let told = || {
        let ready = condition(pod, "Ready")?;
        text(ready, "/lastTransitionTime").parse().ok()
    };
    let deleted = || text(pod, "/metadata/deletionTimestamp").parse().ok();
    finished
        .or_else(told)
        .or_else(deleted)
        .or_else(|| text(pod, "/metadata/creationTimestamp").parse().ok())
}

impl Job<'_> {
    fn number(&self, field: &str) -> Option<i64> {
        self.object["spec"][field].as_i64()
    }

    /// The uids of a list of the status: of pods that are noted, but not counted yet.
    fn noted(&self, list: &str) -> Vec<&str> {
        let noted = &self.object["status"]["uncountedTerminatedPods"][list];
        let noted = noted.as_array().into_iter().flatten();
        noted.filter_map(Value::as_str).collect()
    }

    /// Takes the finalizer from these pods.
    fn release(&self, which: impl Fn(&Value) -> bool) -> Vec<Action> {
        let pods = self.pods.iter().filter(|pod| is_tracked(pod) && which(pod));
        pods.map(|pod| untrack(pod)).collect()
    }

    /// Deletes a finished job when its time is over.
    fn expire(&self) -> Plan {
        let mut plan = Plan::default();
        let Some(seconds) = self.number("ttlSecondsAfterFinished") else {
            return plan;
        };
        let finished = ["Complete", "Failed"].iter().find_map(|kind| {
            let condition = condition(self.object, kind).filter(|condition| condition["status"] == "True")?;
            text(condition, "/lastTransitionTime").parse::<Timestamp>().ok()
        });
        let Some(finished) = finished else {
            return plan;
        };
        let left = finished.as_millisecond() + seconds * 1000 - self.scene.now.as_millisecond();
        match u64::try_from(left).unwrap_or_default() {
            0 => plan.actions.push(delete(self.at, self.object)),
            left => plan.again = Some(Duration::from_millis(left)),
        }
        plan
    }

    /// Whether a pod counts as failed: those on their way out too, unless only the failed are replaced.
    fn is_failed(&self, pod: &Value) -> bool {
        let phase = text(pod, "/status/phase");
        phase == "Failed"
            || self.object["spec"]["podReplacementPolicy"] != "Failed"
                && is_deleting(pod)
                && phase != "Succeeded"
    }

    /// The end that was decided on before, or is now.
    fn end(&self, succeeded: i64, failed: i64, active: i64) -> Option<End> {
        let said = |condition: &Value| {
            let part = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            (part("reason"), part("message"))
        };
        if is_true(self.object, "SuccessCriteriaMet") {
            let (reason, message) = said(condition(self.object, "SuccessCriteriaMet")?);
            return Some(End::Success { reason, message });
        }
        if is_true(self.object, "FailureTarget") {
            let (reason, message) = said(condition(self.object, "FailureTarget")?);
            return Some(End::Failure { reason, message });
        }
        let failure = |reason: &str, message: &str| {
            Some(End::Failure {
                reason: reason.to_owned(),
                message: message.to_owned(),
            })
        };
        let limit = self.number("backoffLimit").unwrap_or(6);
        if failed > limit || self.restarts_too_often(limit) {
            return failure(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        if self.until_deadline().is_some_and(|left| left.is_zero()) {
            return failure(
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        }
        let complete = match self.number("completions") {
            None => succeeded > 0,
            Some(completions) => succeeded >= completions,
        };
        (complete && active == 0).then(|| End::Success {
            reason: "CompletionsReached".to_owned(),
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    /// Whether containers that are started anew in their pods have failed often enough.
    fn restarts_too_often(&self, limit: i64) -> bool {
        if self.object["spec"]["template"]["spec"]["restartPolicy"] != "OnFailure" {
            return false;
        }
        let lists = ["initContainerStatuses", "containerStatuses"];
        let running = self
            .pods
            .iter()
            .filter(|pod| matches!(text(pod, "/status/phase"), "Running" | "Pending"));
        let restarts: i64 = running
            .flat_map(|pod| lists.map(|list| &pod["status"][list]))
            .flat_map(|list| list.as_array().into_iter().flatten())
            .filter_map(|container| container["restartCount"].as_i64())
            .sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    /// How long the job may still be active; none where it may for ever.
    fn until_deadline(&self) -> Option<Duration> {
        let seconds = self.number("activeDeadlineSeconds")?;
        let started: Timestamp = text(self.object, "/status/startTime").parse().ok()?;
        if self.is_suspended() {
            return None;
        }
        let left = started.as_millisecond() + seconds * 1000 - self.scene.now.as_millisecond();
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }

    fn is_suspended(&self) -> bool {
        self.object["spec"]["suspend"] == true
    }

    /// How long until another pod may be made, after failures without a success since.
    fn backoff(&self) -> Option<Duration> {
        let ends = |which: &dyn Fn(&Value) -> bool| -> Vec<Timestamp> {
            let pods = self.pods.iter().filter(|pod| which(pod));
            pods.filter_map(|pod| ended(pod)).collect()
        };
        let success = ends(&|pod| text(pod, "/status/phase") == "Succeeded")
            .into_iter()
            .max();
        let failures = ends(&|pod| self.is_failed(pod));
        let since: Vec<Timestamp> = failures
            .into_iter()
            .filter(|at| success.is_none_or(|success| *at > success))
            .collect();
        let last = since.iter().max()?;
        let doublings = u32::try_from(since.len() - 1).unwrap_or(u32::MAX).min(6);
        let wait = FIRST_BACKOFF.saturating_mul(1 << doublings).min(LAST_BACKOFF);
        let passed = self.scene.now.as_millisecond() - last.as_millisecond();
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or_default());
        wait.checked_sub(passed).filter(|left| !left.is_zero())
    }

    /// Takes a job that is not finished on.
    fn advance(&self) -> Plan {
        let mut status = self.object["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let (mut noted, mut counted) = ([Vec::new(), Vec::new()], [0, 0]);
        let lists = ["succeeded", "failed"];
        for (index, list) in lists.iter().enumerate() {
            let (tracked, gone): (Vec<&str>, Vec<&str>) = self
                .noted(list)
                .into_iter()
                .partition(|noted| self.pods.iter().any(|pod| uid(pod) == *noted && is_tracked(pod)));
            counted[index] =
                number(self.object, &format!("/status/{list}")).unwrap_or_default() + length(gone.len());
            noted[index] = tracked;
        }
        let known: Vec<&str> = noted.iter().flatten().copied().collect();
        let fresh = |pod: &&&Value| is_tracked(pod) && !known.contains(&uid(pod));
        let succeeds = |pod: &&&Value| text(pod, "/status/phase") == "Succeeded";
        let new = [
            self.pods.iter().filter(fresh).filter(succeeds).count(),
            self.pods
                .iter()
                .filter(fresh)
                .filter(|pod| self.is_failed(pod))
                .count(),
        ];
        let total = |index: usize| counted[index] + length(noted[index].len()) + length(new[index]);
        let active: Vec<&Value> = self.pods.iter().copied().filter(|pod| is_active(pod)).collect();
        let end = self.end(total(0), total(1), length(active.len()));
        let mut plan = Plan {
            again: self.until_deadline(),
            ..Plan::default()
        };
        if end.is_some() || self.is_suspended() {
            for pod in &active {
                plan.actions.push(delete(&Ref::of(Kind::Pod, pod), pod));
            }
        } else {
            self.scale(&active, total(0), &mut plan);
        }
        if !plan.actions.is_empty() {
            // The status follows from what comes of it.
            return plan;
        }
        // What ends with the job, but did not succeed, has failed.
        let over = matches!(end, Some(End::Failure { .. }));
        for pod in self.pods.iter().filter(fresh) {
            if succeeds(&pod) {
                noted[0].push(uid(pod));
            } else if over || self.is_failed(pod) {
                noted[1].push(uid(pod));
            }
        }
        self.write_status(&mut status, &noted, counted, &active, end.as_ref());
        if status != self.object["status"] {
            plan.actions.push(self.status_patch(&status));
            return plan;
        }
        plan.actions =
            self.release(|pod| noted.iter().flatten().any(|noted| *noted == uid(pod)) || end.is_some());
        plan
    }

    /// Makes the pods that are missing, or deletes those that are too many.
    fn scale(&self, active: &[&Value], succeeded: i64, plan: &mut Plan) {
        let there = length(active.len());
        let parallelism = self.number("parallelism").unwrap_or(1);
        let wanted = match self.number("completions") {
            None if succeeded > 0 => there,
            None => parallelism,
            Some(completions) => (completions - succeeded).min(parallelism).max(0),
        };
        if there > wanted {
            let mut active = active.to_vec();
            // Those that are not ready go first, then the youngest.
            active.sort_by_key(|pod| {
                let since = text(pod, "/metadata/creationTimestamp").to_owned();
                (is_ready(pod), std::cmp::Reverse(since))
            });
            let excess = usize::try_from(there - wanted).unwrap_or_default();
            let excess = active.into_iter().take(excess);
            plan.actions
                .extend(excess.map(|pod| delete(&Ref::of(Kind::Pod, pod), pod)));
            return;
        }
        let waits = if self.object["spec"]["podReplacementPolicy"] == "Failed" {
            self.terminating()
        } else {
            0
        };
        let missing = wanted - there - waits;
        if missing <= 0 {
            return;
        }
        if let Some(left) = self.backoff() {
            plan.again = Some(plan.again.map_or(left, |again| again.min(left)));
            return;
        }
        for _ in 0..missing {
            let mut pod = pod_of(Kind::Job, self.object);
            let mut finalizers: Vec<Value> = finalizers(&pod).cloned().collect();
            finalizers.push(json!(TRACKING));
            pod["metadata"]["finalizers"] = json!(finalizers);
            plan.actions.push(Action::Create(Kind::Pod, pod));
        }
    }

    /// Pods that are on their way out and not done.
    fn terminating(&self) -> i64 {
        let pods = self
            .pods
            .iter()
            .filter(|pod| is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"));
        length(pods.count())
    }

    /// The status as it should be.
    fn write_status(
        &self,
        status: &mut Value,
        noted: &[Vec<&str>; 2],
        counted: [i64; 2],
        active: &[&Value],
        end: Option<&End>,
    ) {
        let time = self.scene.time();
        let mut set = |field: &str, count: i64| {
            status[field] = if count == 0 { Value::Null } else { json!(count) };
        };
        set("active", length(active.len()));
        set("succeeded", counted[0]);
        set("failed", counted[1]);
        status["ready"] = json!(active.iter().filter(|pod| is_ready(pod)).count());
        status["terminating"] = json!(self.terminating());
        let mut uncounted = json!({});
        for (list, uids) in ["succeeded", "failed"].iter().zip(noted) {
            if !uids.is_empty() {
                uncounted[*list] = json!(uids);
            }
        }
        status["uncountedTerminatedPods"] = uncounted;
        if status["startTime"].is_null() && !self.is_suspended() {
            status["startTime"] = json!(time);
        }
        match end {
            Some(end) => self.write_end(status, noted, end, &time),
            None => self.write_suspension(status, &time),
        }
        if let Some(map) = status.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }

    /// Whether the job is suspended; one that goes on starts anew.
    fn write_suspension(&self, status: &mut Value, time: &str) {
        if self.is_suspended() {
            if set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", time) {
                status["startTime"] = Value::Null;
            }
        } else if condition(self.object, "Suspended").is_some()
            && set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", time)
        {
            status["startTime"] = json!(time);
        }
    }

    /// First what will be, then, when all pods are counted and gone, that it is.
    fn write_end(&self, status: &mut Value, noted: &[Vec<&str>; 2], end: &End, time: &str) {
        let (first, last, reason, message) = match end {
            End::Success { reason, message } => ("SuccessCriteriaMet", "Complete", reason, message),
            End::Failure { reason, message } => ("FailureTarget", "Failed", reason, message),
        };
        set_condition(status, first, "True", reason, message, time);
        let tracked = self.pods.iter().any(|pod| is_tracked(pod));
        let open = noted.iter().any(|noted| !noted.is_empty());
        if is_true(self.object, first) && !tracked && !open && self.terminating() == 0 {
            set_condition(status, last, "True", reason, message, time);
            if last == "Complete" {
                status["completionTime"] = json!(time);
            }
        }
    }

    /// A patch that makes the status this one; what it has no more is taken out.
    fn status_patch(&self, status: &Value) -> Action {
        let mut patch = status.clone();
        let old = self.object["status"].as_object();
        for (name, value) in old.into_iter().flatten() {
            if patch.get(name).is_none() {
                patch[name] = Value::Null;
            }
            for list in value.as_object().into_iter().flatten().map(|(list, _)| list) {
                if patch[name].is_object() && patch[name].get(list).is_none() {
                    patch[name][list] = Value::Null;
                }
            }
        }
        let version = &self.object["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "status": patch});
        Action::PatchStatus(self.at.clone(), patch)
    }
}

/// Sets a condition; says whether that changed it. One that is false and never was anything else is not there.
fn set_condition(status: &mut Value, kind: &str, is: &str, reason: &str, message: &str, time: &str) -> bool {
    let condition = json!({
        "type": kind, "status": is, "reason": reason, "message": message,
        "lastProbeTime": time, "lastTransitionTime": time,
    });
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return false;
    };
    match conditions.iter_mut().find(|there| there["type"] == kind) {
        Some(there) if there["status"] == is => false,
        Some(there) => {
            *there = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}
