//! What was to be reached, what was measured, and whether that is enough.

use std::time::Duration;

/// Prints one goal.
pub fn goal(what: &str, aim: &str, measured: &str, met: bool) {
    let verdict = if met { "met" } else { "NOT MET" };
    println!("  goal  {what}: {aim}; measured {measured}: {verdict}");
}

/// Whether `a` is at most `factor` times `b`, with the ratio as text.
pub fn at_most(a: Option<Duration>, factor: f64, b: Option<Duration>) -> (bool, String) {
    match (a, b) {
        (Some(a), Some(b)) if !b.is_zero() => {
            let ratio = a.as_secs_f64() / b.as_secs_f64();
            (ratio <= factor, format!("{ratio:.2} x"))
        }
        _ => (false, "nothing".to_owned()),
    }
}
