//! Watch: events of what was selected, as long as the client stays.

use super::read::{bad_version, parse_version};
use super::render;
use super::select::Selection;
use super::{Context, write};
use crate::registry::Served;
use crate::request::media::Transform;
use crate::request::options;
use crate::response::{self, Body, Cut};
use crate::status::{ApiError, ApiResult};
use crate::store::{Entry, Event, Shelf, WatchFrom};
use bytes::Bytes;
use clusterwright_clock::Clock;
use futures::stream;
use http::{Response, StatusCode};
use rand::Rng;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a watch lasts at least that names no timeout; up to twice as long, as in the real server.
const LEAST_TIMEOUT: Duration = Duration::from_mins(30);
/// How often a watch that takes bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// How long before its end a watch gets the last bookmark.
const BEFORE_THE_END: Duration = Duration::from_secs(2);
/// Events that are put in one piece at most.
const BATCH: usize = 64;

/// GET of a collection with `watch`.
pub(super) fn watch(cx: &Context<'_>) -> ApiResult<Response<Body>> {
    let options = options::list_options(&cx.request.query, true)?;
    let selection = Selection::new(cx, &options)?;
    let version = parse_version(&options.version).map_err(bad_version)?;
    let current = cx.inner.store.version();
    let initial = options.initial_events == Some(true);
    let from = if initial {
        WatchFrom::State
    } else if options.version.is_empty() || version == 0 {
        WatchFrom::After(current)
    } else {
        WatchFrom::After(version)
    };
    let lasts = options.timeout_seconds.map_or_else(
        || LEAST_TIMEOUT.mul_f64(rand::rng().random_range(1.0..2.0)),
        Duration::from_secs,
    );
    let view = View {
        served: cx.served.clone(),
        transform: cx.accepted.transform,
        version: cx.accepted.version.clone(),
        include: cx.request.query.text("includeObject").to_owned(),
        clock: cx.inner.clock,
        headers: true,
    };
    let opened = match cx.served.shelf.watch(&selection.prefix, from) {
        Ok(opened) => opened,
        Err(old) => {
            // A watch that cannot start where it was told to starts, says so, and ends.
            let said = format!("too old resource version: {version} ({})", old.oldest);
            let event = event_line(
                "ERROR",
                ApiError::expired(said).to_status().to_string().as_bytes(),
            );
            return Ok(response::with(StatusCode::OK, response::JSON, Body::whole(event)));
        }
    };
    let now = Instant::now();
    let mut watcher = Watcher {
        view,
        selection,
        shelf: cx.served.shelf.clone(),
        ready: Vec::new(),
        backlog: opened.backlog.into(),
        events: opened.events,
        ends: now + lasts,
        bookmark: options.bookmarks.then(|| next_bookmark(now, now + lasts)),
        sent: opened.version,
        quiet: cx.struck.stale_watch.map(|until| now + until),
        cut: cx.struck.drop_watch.map(|after| now + after),
    };
    if initial {
        for (key, entry) in &opened.state {
            if watcher.selection.matches(key, entry) {
                watcher.push("ADDED", entry);
            }
        }
        if options.bookmarks {
            watcher.push_bookmark(opened.version, true);
        }
    }
    let pieces = stream::unfold(watcher, |mut watcher| async move {
        let piece = watcher.next().await?;
        Some((piece, watcher))
    });
    Ok(response::with(
        StatusCode::OK,
        response::JSON,
        Body::pieces(pieces),
    ))
}

fn event_line(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(object.len() + 40);
    write_event(&mut line, kind, object);
    line
}

fn write_event(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// How a watcher wants to see objects.
struct View {
    served: Arc<Served>,
    transform: Transform,
    version: String,
    include: String,
    clock: Clock,
    /// Whether the next table still needs its columns.
    headers: bool,
}

impl View {
    fn write(&mut self, out: &mut Vec<u8>, kind: &str, entry: &Entry) {
        if self.transform == Transform::None && entry.form == self.served.form {
            write_event(out, kind, entry.json());
            return;
        }
        let object = write::load(&self.served, entry);
        let shown = self.show(object);
        write_event(out, kind, shown.to_string().as_bytes());
    }

    fn show(&mut self, object: Value) -> Value {
        match self.transform {
            Transform::None => object,
            Transform::Metadata | Transform::MetadataList => render::metadata_only(&object, &self.version),
            Transform::Table => {
                let headers = std::mem::take(&mut self.headers);
                render::table_of(
                    &self.served.resource,
                    std::slice::from_ref(&object),
                    &json!({"resourceVersion": object["metadata"]["resourceVersion"]}),
                    &self.version,
                    &self.include,
                    self.clock,
                    headers,
                )
            }
        }
    }
}

struct Watcher {
    view: View,
    selection: Selection,
    shelf: Arc<Shelf>,
    ready: Vec<u8>,
    backlog: VecDeque<Arc<Event>>,
    events: mpsc::Receiver<Arc<Event>>,
    ends: Instant,
    bookmark: Option<Instant>,
    /// The version up to which everything was sent.
    sent: u64,
    /// Until when the watch says nothing, by a fault.
    quiet: Option<Instant>,
    /// When the connection is cut, by a fault.
    cut: Option<Instant>,
}

impl Watcher {
    /// The next piece; none when the watch has ended.
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        loop {
            while self.quiet.is_none()
                && let Some(event) = self.backlog.pop_front()
            {
                self.take(&event);
            }
            if !self.ready.is_empty() {
                return Some(Ok(std::mem::take(&mut self.ready).into()));
            }
            tokio::select! {
                biased;
                () = at(self.cut) => {
                    self.cut = None;
                    self.ends = Instant::now();
                    return Some(Err(Cut));
                }
                () = tokio::time::sleep_until(self.ends) => return None,
                () = at(self.quiet) => self.quiet = None,
                event = self.events.recv(), if self.quiet.is_none() => {
                    let event = event?;
                    self.take(&event);
                    self.drain();
                }
                () = at(self.bookmark), if self.quiet.is_none() => {
                    self.bookmark = Some(next_bookmark(Instant::now(), self.ends));
                    // All events up to this version are in the channel already.
                    let version = self.shelf.version();
                    while let Ok(event) = self.events.try_recv() {
                        self.take(&event);
                    }
                    self.push_bookmark(version.max(self.sent), false);
                }
            }
        }
    }

    fn drain(&mut self) {
        for _ in 0..BATCH {
            match self.events.try_recv() {
                Ok(event) => self.take(&event),
                Err(_) => break,
            }
        }
    }

    /// Writes an event as this watcher sees it: what leaves the selection is deleted for it.
    fn take(&mut self, event: &Event) {
        self.sent = event.new.version;
        let was = event
            .old
            .as_ref()
            .is_some_and(|old| self.selection.matches(&event.key, old));
        let is = !event.deleted && self.selection.matches(&event.key, &event.new);
        match (was, is) {
            (false, true) => self.push("ADDED", &event.new),
            (true, true) => self.push("MODIFIED", &event.new),
            (true, false) if event.deleted => self.push("DELETED", &event.new),
            (true, false) => {
                // The object as it was last selected, with the version of the change.
                if let Some(old) = &event.old {
                    let mut object = old.value();
                    object["metadata"]["resourceVersion"] = write::version_of(&event.new);
                    let entry = crate::store::encode(&object, old.form).finish(event.new.version);
                    self.push("DELETED", &entry);
                }
            }
            (false, false) => {}
        }
    }

    fn push(&mut self, kind: &str, entry: &Entry) {
        let mut ready = std::mem::take(&mut self.ready);
        self.view.write(&mut ready, kind, entry);
        self.ready = ready;
    }

    fn push_bookmark(&mut self, version: u64, initial_events_end: bool) {
        let resource = &self.view.served.resource;
        let mut object = json!({
            "kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let shown = self.view.show(object);
        write_event(&mut self.ready, "BOOKMARK", shown.to_string().as_bytes());
    }
}

/// When the next bookmark is due: some time before the watch ends, so that the client can go on from there.
fn next_bookmark(now: Instant, ends: Instant) -> Instant {
    let regular = now + BOOKMARKS;
    match ends.checked_sub(BEFORE_THE_END) {
        Some(last) if last > now => regular.min(last),
        _ => regular,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
