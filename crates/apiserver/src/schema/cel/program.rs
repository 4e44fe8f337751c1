//! From the text of an expression to what is evaluated. Each text is parsed once in a process: CRDs change far more
//! often in their status than in their rules.

use super::eval::Machine;
use super::failure::Outcome;
use super::value::Val;
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use kube_cel::cel::parser::Parser;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// The deepest nesting of brackets that is parsed.
const MAX_DEPTH: usize = 60;

/// An expression that was parsed.
#[derive(Debug)]
pub(super) struct Program {
    pub expr: IdedExpr,
    /// Whether `oldSelf` occurs.
    pub uses_old_self: bool,
}

type Parsed = Result<Arc<Program>, String>;

static PARSED: LazyLock<Mutex<HashMap<String, Parsed>>> = LazyLock::new(Mutex::default);
const MOST_PARSED: usize = 4096;

impl Program {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong, in the form of cel-go's messages.
    pub fn parse(source: &str) -> Parsed {
        if let Some(known) = PARSED.lock().get(source) {
            return known.clone();
        }
        let parsed = parse(source).map(Arc::new);
        let mut cache = PARSED.lock();
        if cache.len() >= MOST_PARSED {
            cache.clear();
        }
        cache.insert(source.to_owned(), parsed.clone());
        parsed
    }

    /// Evaluates with `self`, and with `oldSelf` where it is bound.
    pub fn run<'a>(&self, this: Val<'a>, old: Option<Val<'a>>) -> Outcome<Val<'a>> {
        let mut machine = Machine::new();
        if let Some(old) = old {
            machine.scope.push(("oldSelf", Ok(old)));
        }
        machine.scope.push(("self", Ok(this)));
        machine.eval(&self.expr)
    }
}

fn parse(source: &str) -> Result<Program, String> {
    if depth(source) > MAX_DEPTH {
        return Err("ERROR: <input>:-1:0: expression recursion limit exceeded: 250".to_owned());
    }
    let parser = || Parser::new().enable_optional_syntax(true).parse(source);
    match catch_unwind(AssertUnwindSafe(parser)) {
        Ok(Ok(expr)) => {
            let uses_old_self = mentions(&expr, "oldSelf");
            Ok(Program { expr, uses_old_self })
        }
        Ok(Err(errors)) => {
            let said: Vec<String> = errors
                .errors
                .iter()
                .map(|error| located(source, error.pos, &error.msg))
                .collect();
            Err(said.join("\n"))
        }
        Err(_) => Err(located(
            source,
            (1, 1),
            "Syntax error: the expression cannot be read",
        )),
    }
}

/// A message at a line and column, with the line and a mark below the place.
pub(super) fn located(source: &str, pos: (isize, isize), message: &str) -> String {
    let line = usize::try_from(pos.0 - 1)
        .ok()
        .and_then(|line| source.lines().nth(line));
    let column = usize::try_from(pos.1).unwrap_or(1).max(1);
    let text = line.unwrap_or_default();
    // Below characters of several bytes stand wide dots.
    let mut mark = String::new();
    let mut chars = text.chars().map(|c| c.len_utf8() > 1);
    for _ in 1..column {
        mark.push(if chars.next() == Some(true) { '．' } else { '.' });
    }
    mark.push(if chars.next() == Some(true) { '＾' } else { '^' });
    format!(
        "ERROR: <input>:{}:{column}: {message}\n | {text}\n | {mark}",
        pos.0
    )
}

fn depth(source: &str) -> usize {
    let mut depth: usize = 0;
    let mut most = 0;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// Whether an identifier occurs.
fn mentions(expr: &IdedExpr, name: &str) -> bool {
    match &expr.expr {
        Expr::Ident(there) => there == name,
        Expr::Select(select) => mentions(&select.operand, name),
        Expr::Call(call) => {
            call.target
                .as_deref()
                .is_some_and(|target| mentions(target, name))
                || call.args.iter().any(|arg| mentions(arg, name))
        }
        Expr::List(list) => list.elements.iter().any(|element| mentions(element, name)),
        Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => mentions(&entry.key, name) || mentions(&entry.value, name),
            EntryExpr::StructField(field) => mentions(&field.value, name),
        }),
        Expr::Comprehension(inner) => [
            &inner.iter_range,
            &inner.accu_init,
            &inner.loop_cond,
            &inner.loop_step,
            &inner.result,
        ]
        .into_iter()
        .any(|part| mentions(part, name)),
        Expr::Struct(_) | Expr::Literal(_) | Expr::Unspecified => false,
    }
}
