//! Label selectors.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use margay_policy::model::{self, Requirement};

use super::Warnings;

/// A label selector; absent and empty fields require nothing.
pub fn label_selector(
    selector: &LabelSelector,
    path: &str,
    warnings: &mut Warnings,
) -> model::LabelSelector {
    let mut requirements = BTreeSet::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.insert(Requirement::In(
            key.clone(),
            BTreeSet::from([value.clone()]),
        ));
    }
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let requirement = requirement(expression).unwrap_or_else(|(field, reason)| {
            warnings.push(
                &format!("{path}.matchExpressions[{index}].{field}"),
                format!("{reason}: matches nothing"),
            );
            Requirement::Unusable(reason)
        });
        requirements.insert(requirement);
    }
    model::LabelSelector { requirements }
}

fn requirement(
    expression: &LabelSelectorRequirement,
) -> Result<Requirement, (&'static str, String)> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = expression;
    let values: BTreeSet<String> = values.iter().flatten().cloned().collect();
    let key = key.clone();
    if key.is_empty() {
        return Err(("key", "the label key is missing".to_owned()));
    }
    match (operator.as_str(), values.is_empty()) {
        ("In" | "NotIn", true) => Err(("values", format!("{operator} needs at least one value"))),
        ("In", false) => Ok(Requirement::In(key, values)),
        ("NotIn", false) => Ok(Requirement::NotIn(key, values)),
        ("Exists" | "DoesNotExist", false) => {
            Err(("values", format!("{operator} takes no values")))
        }
        ("Exists", true) => Ok(Requirement::Exists(key)),
        ("DoesNotExist", true) => Ok(Requirement::DoesNotExist(key)),
        _ => Err((
            "operator",
            format!("`{operator}` is none of In, NotIn, Exists, DoesNotExist"),
        )),
    }
}
