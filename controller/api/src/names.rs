//! Names of objects (RFC 1123, as Kubernetes applies it).

/// Checks a DNS label: at most 63 of `a-z0-9-`, alphanumeric at both ends.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn label(name: &str) -> Result<(), String> {
    check(name, 63, &[name])
}

/// Checks a DNS subdomain: labels joined by dots, at most 253 characters.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn subdomain(name: &str) -> Result<(), String> {
    check(name, 253, &name.split('.').collect::<Vec<_>>())
}

/// Checks the name of a container port (`IANA_SVC_NAME`): at most 15 of `a-z0-9-`, at least one
/// letter, no hyphen at an end or next to another.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn port(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 15 {
        return Err("a port name has 1 to 15 characters");
    }
    if !name
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    {
        return Err("a port name has lower case letters, digits and hyphens only");
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        return Err("a port name has at least one letter; write a number without quotes");
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err("hyphens of a port name stand alone and inside");
    }
    Ok(())
}

fn check(name: &str, limit: usize, labels: &[&str]) -> Result<(), String> {
    if name.len() > limit {
        return Err(format!(
            "`{name}` has {} characters, {limit} are allowed",
            name.len()
        ));
    }
    let fine = |label: &&str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if labels.iter().all(fine) {
        Ok(())
    } else if limit == 63 {
        Err(format!(
            "`{name}` is not a name: use lower case letters, digits and `-`, with a letter or digit at both ends"
        ))
    } else {
        Err(format!(
            "`{name}` is not a name: use lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part"
        ))
    }
}
