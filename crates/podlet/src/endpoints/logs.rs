//! Containers' logs, to their end or as they grow.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::answer::{Body, said, streamed};
use super::log_options::{LogOptions, container, runs};
use super::log_reader::{Line, LogReader};
use super::streams::WAITING;
use super::{Served, parameters};
use crate::pod::{Log, PodState};
use crate::registry::Entry;

/// How often a log is looked at that may have grown.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Answers with a log.
pub async fn answer(served: &Served, entry: Arc<Entry>, name: &str, query: Option<&str>) -> Response<Body> {
    let options = match LogOptions::parse(&parameters(query), served.clock.now()) {
        Ok(options) => options,
        Err(why) => return said(StatusCode::BAD_REQUEST, why),
    };
    let run = {
        let state = entry.state.borrow();
        let Some(found) = container(&state, name) else {
            let why = format!("container {name:?} not found in pod {:?}", entry.name);
            return said(StatusCode::NOT_FOUND, why);
        };
        match options.run(&entry.name, found) {
            Ok(run) => run,
            Err(why) => return said(StatusCode::BAD_REQUEST, why),
        }
    };
    let path = Log::file(&entry.logs.join(name), run);
    let follow = options.follow.then(|| Follow {
        state: entry.state.clone(),
        name: name.to_owned(),
        run,
    });
    match blocking(move || LogReader::open(path, options)).await {
        Ok(reader) => {
            let lines = tell(reader, follow);
            let pieces = lines.map(|lines| {
                let text: Vec<u8> = lines.into_iter().flat_map(|line| line.text).collect();
                Bytes::from(text)
            });
            streamed(pieces)
        }
        Err(error) => said(
            StatusCode::BAD_REQUEST,
            format!("failed to read the log: {error}"),
        ),
    }
}

/// What is added to a log from now on, until this run of the container ends.
pub async fn follow(path: PathBuf, follow: Follow) -> io::Result<impl futures::Stream<Item = Vec<Line>>> {
    let reader = blocking(move || LogReader::open_at_end(path, LogOptions::default())).await?;
    Ok(tell(reader, Some(follow)))
}

/// For how long a log may grow.
#[derive(Debug)]
pub struct Follow {
    /// The pod.
    pub state: watch::Receiver<PodState>,
    /// The container.
    pub name: String,
    /// The run.
    pub run: u32,
}

impl Follow {
    /// Whether the log may still grow.
    fn goes_on(&self) -> bool {
        self.state.has_changed().is_ok() && runs(&self.state.borrow(), &self.name, self.run)
    }
}

fn tell(reader: LogReader, follow: Option<Follow>) -> impl futures::Stream<Item = Vec<Line>> {
    let (to, mut lines) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = read(reader, follow, to).await {
            tracing::debug!(%error, "failed to read a container's log");
        }
    });
    futures::stream::poll_fn(move |cx| lines.poll_recv(cx))
}

async fn read(mut reader: LogReader, follow: Option<Follow>, to: mpsc::Sender<Vec<Line>>) -> io::Result<()> {
    let mut last = false;
    while !reader.is_full() {
        let lines;
        (reader, lines) = blocking(move || {
            let lines = reader.next()?;
            Ok((reader, lines))
        })
        .await?;
        match lines {
            Some(lines) => {
                if to.send(lines).await.is_err() {
                    return Ok(());
                }
            }
            None => match &follow {
                Some(follow) if follow.goes_on() => {
                    tokio::select! {
                        () = sleep(LOOK_AGAIN) => {}
                        () = to.closed() => return Ok(()),
                    }
                }
                // What it wrote last may have come after the look before.
                Some(_) if !last => last = true,
                _ => return Ok(()),
            },
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
