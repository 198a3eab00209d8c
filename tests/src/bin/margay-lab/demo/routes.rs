//! BIRD's routes, one line each.

use anyhow::Result;
use margay_tests::lab::cluster::Lab;

use crate::words::show_line;

/// Prints what BIRD learned from the nodes.
pub(super) fn show(lab: &Lab) -> Result<()> {
    show_line("\n  BIRD, AS 64600:")?;
    for route in learned(&lab.bird("show route")?) {
        show_line(&format!("      {route}"))?;
    }
    Ok(())
}

/// The BGP routes of `show route`, each with its next hops.
fn learned(text: &str) -> Vec<String> {
    let mut routes: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [prefix, "unicast", session, rest @ ..] = words.as_slice()
            && !line.starts_with(' ')
        {
            inside = session.starts_with("[node");
            if inside {
                let path = rest.last().copied().unwrap_or_default();
                routes.push(format!("{prefix:<22} {path}"));
            }
        } else if let ["via", hop, ..] = words.as_slice()
            && inside
            && let Some(route) = routes.last_mut()
        {
            route.push_str(" via ");
            route.push_str(hop);
        } else if words.contains(&"unicast") {
            inside = false; // another route to the same prefix: the best is enough
        }
    }
    routes
}
