//! One measured figure, printed as `name value unit goal holds|misses`.

/// Prints a figure that has to stay at or below its goal, and says whether it does.
pub fn at_most(name: &str, value: f64, unit: &str, goal: f64) -> bool {
    let holds = value <= goal;
    let verdict = if holds { "holds" } else { "misses" };
    println!("{name} {value:.3} {unit} <={goal} {verdict}");
    holds
}

/// Prints a figure that has to reach its goal, and says whether it does.
pub fn at_least(name: &str, value: f64, unit: &str, goal: f64) -> bool {
    let holds = value >= goal;
    let verdict = if holds { "holds" } else { "misses" };
    println!("{name} {value:.3} {unit} >={goal} {verdict}");
    holds
}

/// Prints a figure that is only reported.
pub fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit} - holds");
}
