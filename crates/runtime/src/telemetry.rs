//! Logs: text for people at a terminal, JSON for machines, and the reconcile that each line belongs to.

use std::fmt;
use std::io;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing::{Span, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use uuid::Uuid;

use crate::object::ObjectKey;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of words and `key=value` pairs.
    Text,
    /// One JSON object per line: `timestamp`, `level`, `target`, `message`, the event's fields, and `span` and `spans`
    /// with those of the reconcile.
    Json,
}

/// What is logged: a level for all, or a list of `target=level` with one for the rest, as in
/// `info,clusterwright_runtime=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    fn filter(&self) -> EnvFilter {
        // `from_str` has seen that it parses.
        EnvFilter::new(&self.0)
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, LogLevelError> {
        // The filter takes a lone word that is no level for the name of a module, and then logs next to nothing.
        let known = |word: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            levels.iter().any(|level| word.eq_ignore_ascii_case(level))
        };
        let words_known = text
            .split(',')
            .all(|part| part.contains('=') || known(part.trim()));
        if !words_known || EnvFilter::try_new(text).is_err() {
            return Err(LogLevelError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A log level can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "failed to read the log level {0:?}: write off, error, warn, info, debug or trace, or a list such as \
     info,kube=debug"
)]
pub struct LogLevelError(String);

/// The logs' flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// What is logged: a level, or a list of TARGET=LEVEL
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,

    /// How lines look
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", value_enum, ignore_case = true, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// Sends the process's logs to standard error.
    ///
    /// # Errors
    ///
    /// When the process has a subscriber already.
    pub fn init(&self) -> Result<(), TryInitError> {
        self.subscriber(io::stderr).try_init()
    }

    /// The same logs elsewhere.
    pub fn subscriber<W>(&self, writer: W) -> Box<dyn Subscriber + Send + Sync>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(self.log_level.filter())
            .with_writer(writer);
        match self.log_format {
            LogFormat::Text => Box::new(builder.with_ansi(false).finish()),
            LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        }
    }
}

/// The span that a reconcile runs in. Its lines carry the controller, the object and the id of this one call.
pub fn reconcile_span(controller: &str, object: &ObjectKey, id: Uuid) -> Span {
    tracing::info_span!("reconcile", controller, %object, reconcile_id = %id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser;
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    fn parse(flags: &[&str]) -> Result<LogArgs, String> {
        Cli::try_parse_from([&["x"], flags].concat())
            .map(|cli| cli.log)
            .map_err(|error| error.to_string())
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(flags: &[&str]) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = parse(flags).unwrap().subscriber(move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = reconcile_span("hosted", &ObjectKey::namespaced("a", "b"), Uuid::nil());
            span.in_scope(|| {
                tracing::info!(revision = 3, "rolling out");
                tracing::debug!("details");
            });
        });
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_carry_the_reconcile() {
        let text = logged(&["--log-format=json"]);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["revision"]),
            (&"INFO".into(), &"rolling out".into(), &3.into())
        );
        let span = &line["span"];
        assert_eq!(
            (&span["controller"], &span["object"]),
            (&"hosted".into(), &"a/b".into())
        );
        assert_eq!(span["reconcile_id"], "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn text_lines_carry_the_reconcile() {
        let text = logged(&["--log-level=debug"]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("rolling out revision=3"), "{text}");
        assert!(
            text.contains("reconcile_id=00000000-0000-0000-0000-000000000000"),
            "{text}"
        );
    }

    #[test]
    fn levels_by_target() {
        assert_eq!(logged(&["--log-level=off"]), "");
        assert_eq!(
            logged(&["--log-level=warn,clusterwright_runtime=debug"])
                .lines()
                .count(),
            2
        );
        assert_eq!(logged(&["--log-level=INFO"]).lines().count(), 1);
    }

    #[test]
    fn bad_values_are_refused() {
        for level in ["loud", "", "info,loud", "info,kube=loud"] {
            let error = parse(&[&format!("--log-level={level}")]).err().unwrap();
            assert!(
                error.contains("failed to read the log level") || level.is_empty(),
                "{level}: {error}"
            );
        }
        let error = parse(&["--log-format=xml"]).err().unwrap();
        assert!(error.contains("possible values: text, json"), "{error}");
        assert!(parse(&["--log-format=JSON"]).is_ok());
    }
}
