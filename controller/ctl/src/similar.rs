//! "Did you mean …": names close to one that does not exist.

/// At most three of `names` that are close to `wanted`, closest first.
///
/// Close are names with a slip or two, those that contain it, and `other-namespace/same-name`.
pub(crate) fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let last = |name: &'_ str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let own = last(wanted);
    let reach = 1 + own.chars().count() / 5;
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| *distance <= reach || name.contains(wanted) || last(name) == own)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// ` (did you mean a, b?)`, or nothing if no name is close.
pub(crate) fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let found = similar(wanted, names);
    if found.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", found.join(" or "))
    }
}

/// The least number of letters to insert, remove, replace, or exchange with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Rows for the prefixes of `a` that are two shorter, one shorter, and the present one.
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut cost = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let pods = ["default/web", "default/db", "shop/web", "kube-system/dns"];
        assert_eq!(similar("default/wbe", pods), ["default/web"]);
        assert_eq!(similar("web", pods), ["shop/web", "default/web"]);
        assert_eq!(similar("other/dns", pods), ["kube-system/dns"]);
        assert_eq!(similar("quite/else", pods), [""; 0]);
    }

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("web", "wbe"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
