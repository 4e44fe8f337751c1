//! Shows the tree: drawn anew in place on a terminal, and as a line for each change elsewhere.

use super::readiness::State;
use super::tree::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};

/// The last line about each object, by how it is called and its uid, which tells it from one of its name before it.
type Said = BTreeMap<(String, String), String>;

/// Where the tree is shown.
pub enum Screen {
    /// A terminal, on which the last picture had so many lines.
    Terminal { drawn: usize, colour: bool },
    /// A file or pipe; what was last said, of each object and below them.
    Lines { said: Said, footer: Vec<String> },
}

impl Screen {
    /// The terminal, or lines where stdout is none.
    pub fn stdout() -> Self {
        if io::stdout().is_terminal() {
            Self::Terminal {
                drawn: 0,
                colour: std::env::var_os("NO_COLOR").is_none(),
            }
        } else {
            Self::Lines {
                said: Said::new(),
                footer: Vec::new(),
            }
        }
    }

    /// Shows the rows as they are now, and lines below them.
    pub fn show(&mut self, rows: &[Row], footer: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Terminal { drawn, colour } => {
                let (width, height) = terminal_size::terminal_size().map_or((80, 24), |(width, height)| {
                    (usize::from(width.0), usize::from(height.0))
                });
                let mut picture = picture(rows, width, height.saturating_sub(footer.len() + 2), *colour);
                picture.extend_from_slice(footer);
                if *drawn > 0 {
                    // Back to the first line of the last picture, and everything below it away.
                    write!(out, "\x1b[{drawn}A\x1b[J")?;
                }
                *drawn = picture.len();
                for line in picture {
                    writeln!(out, "{line}")?;
                }
            }
            Self::Lines { said, footer: below } => {
                for line in changes(rows, said) {
                    writeln!(out, "{line}")?;
                }
                for line in footer.iter().filter(|line| !below.contains(line)) {
                    writeln!(out, "{line}")?;
                }
                footer.clone_into(below);
            }
        }
        out.flush()
    }
}

fn mark(state: &State) -> (&'static str, &'static str) {
    match state {
        State::Ready => ("✓", "\x1b[32m"),
        State::There => ("·", "\x1b[2m"),
        State::Waiting(_) => ("…", "\x1b[33m"),
        State::Deleting => ("✗", "\x1b[31m"),
    }
}

fn message(row: &Row) -> String {
    match &row.state {
        State::Waiting(why) if row.detail.is_empty() => why.clone(),
        State::Waiting(why) => format!("{}  {why}", row.detail),
        State::Deleting => "is being deleted".to_owned(),
        State::Ready | State::There => row.detail.clone(),
    }
}

/// The lines of the picture, cut to the size of the terminal: what does not fit is counted, and what waits is kept
/// before what is ready.
fn picture(rows: &[Row], width: usize, height: usize, colour: bool) -> Vec<String> {
    let name_width = rows
        .iter()
        .map(|row| row.branch.chars().count() + row.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut shown: Vec<&Row> = rows.iter().collect();
    let mut hidden = 0;
    if shown.len() > height && height > 1 {
        hidden = shown.len() - (height - 1);
        let mut to_hide = hidden;
        // From the end, as the deepest and latest are the least telling.
        let mut keep: Vec<bool> = shown
            .iter()
            .rev()
            .map(|row| {
                let hide = to_hide > 0 && row.state.is_done();
                to_hide -= usize::from(hide);
                !hide
            })
            .collect();
        keep.reverse();
        let mut keep = keep.into_iter();
        shown.retain(|_| keep.next().unwrap_or(true));
        shown.truncate(height - 1);
    }
    let mut lines: Vec<String> = shown
        .iter()
        .map(|row| {
            let (mark, paint) = mark(&row.state);
            let name = format!("{}{}", row.branch, row.name);
            let pad = " ".repeat(name_width.saturating_sub(name.chars().count()));
            let plain = format!("{name}{pad}  {:>6}  {}", row.age, message(row));
            let cut: String = plain.chars().take(width.saturating_sub(2)).collect();
            let cut = cut.trim_end();
            if colour {
                format!("{paint}{mark}\x1b[0m {cut}")
            } else {
                format!("{mark} {cut}")
            }
        })
        .collect();
    if hidden > 0 {
        lines.push(format!("  and {hidden} more"));
    }
    lines
}

/// The lines for what changed since it was last said, first for what was deleted; remembers them as said.
fn changes(rows: &[Row], said: &mut Said) -> Vec<String> {
    let called = |row: &Row| match row.namespace.as_str() {
        "" => row.name.clone(),
        namespace => format!("{} -n {namespace}", row.name),
    };
    let now: Vec<((String, String), String)> = rows
        .iter()
        .map(|row| {
            let (mark, _) = mark(&row.state);
            let name = called(row);
            let line = format!("{mark} {name}  {}", message(row)).trim_end().to_owned();
            ((name, row.uid.clone()), line)
        })
        .collect();
    let there: BTreeSet<&str> = now.iter().map(|((name, _), _)| name.as_str()).collect();
    let gone = said.keys().filter(|(name, _)| !there.contains(name.as_str()));
    let gone = gone.map(|(name, _)| format!("✗ {name}  was deleted"));
    let new = now.iter().filter(|(key, line)| said.get(key) != Some(line));
    let lines = gone.chain(new.map(|(_, line)| line.clone())).collect();
    *said = now.into_iter().collect();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: State) -> Row {
        Row {
            uid: "uid".into(),
            branch: "└─".into(),
            name: name.into(),
            namespace: "default".into(),
            state,
            detail: "1/3".into(),
            age: "5s".into(),
        }
    }

    #[test]
    fn lines_are_said_once() {
        let rows = [
            row("Pod/a", State::Ready),
            row("Pod/b", State::Waiting("NotReady".into())),
        ];
        let mut said = Said::new();
        assert_eq!(
            changes(&rows, &mut said),
            ["✓ Pod/a -n default  1/3", "… Pod/b -n default  1/3  NotReady"]
        );
        assert!(changes(&rows, &mut said).is_empty());
        assert_eq!(
            changes(&[row("Pod/b", State::Ready)], &mut said),
            ["✗ Pod/a -n default  was deleted", "✓ Pod/b -n default  1/3"]
        );
        // Another object of the name is said anew, though its line is the same.
        let mut other = row("Pod/b", State::Ready);
        other.uid = "other".into();
        assert_eq!(changes(&[other], &mut said), ["✓ Pod/b -n default  1/3"]);
    }

    #[test]
    fn a_small_terminal_keeps_what_waits() {
        let rows: Vec<Row> = (0..9)
            .map(|i| {
                row(
                    &format!("Pod/{i}"),
                    if i == 7 {
                        State::Waiting("x".into())
                    } else {
                        State::Ready
                    },
                )
            })
            .collect();
        let lines = picture(&rows, 40, 4, false);
        assert_eq!(lines.len(), 4);
        assert!(
            lines.iter().any(|line| line.starts_with("… └─Pod/7")),
            "{lines:?}"
        );
        assert_eq!(lines[3], "  and 6 more");
        assert!(
            picture(&rows, 12, 40, false)
                .iter()
                .all(|line| line.chars().count() <= 12)
        );
    }
}
