//! How a test says that it could not run.
//!
//! A test that needs a real component ends with [`skip!`](crate::skip!) (or [`require!`](crate::require!)) where
//! the component is missing. That prints a line `SKIPPED <test>: <reason>`, and adds `<test>: <reason>` to the file
//! that `CLUSTERWRIGHT_SKIP_LOG` names, because cargo hides what a passing test prints. With `CI=true` nothing may
//! be skipped: the test fails.

use std::{env, fs::OpenOptions, io::Write};

/// Records a skip of `test`. Use [`skip!`](crate::skip!), which knows the test's name and returns from it.
///
/// # Panics
/// With `CI=true`, so that the test fails.
pub fn record(test: &str, reason: &str) {
    let test = test.trim_end_matches("::here").replace("::{{closure}}", "");
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "with CI=true no test may be skipped: {test}: {reason}"
    );
    let reason = reason.replace('\n', " ");
    println!("SKIPPED {test}: {reason}");
    if let Some(path) = env::var_os("CLUSTERWRIGHT_SKIP_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(path);
        // One write per line, so that tests that run at once do not mix theirs.
        let written = log.and_then(|mut log| log.write_all(format!("{test}: {reason}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("failed to log a skipped test: {error}");
        }
    }
}

/// Records that this test is skipped, with a reason, and returns from it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        $crate::skip::record(::std::any::type_name_of_val(&here), &format!($($reason)+));
        return;
    }};
}

/// The value of a `Result`; where that is a [`tools::Missing`](crate::tools::Missing), the test is skipped.
#[macro_export]
macro_rules! require {
    ($found:expr) => {
        match $found {
            Ok(found) => found,
            Err(missing) => {
                let missing: $crate::tools::Missing = missing;
                $crate::skip!("{missing}")
            }
        }
    };
}
