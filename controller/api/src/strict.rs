//! What a typed object does not know of the document it was read from.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Paths of the fields in `raw` that `typed`, read from it, does not have.
pub(crate) fn unknown_fields(raw: &Value, typed: &impl Serialize) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Ok(known) = serde_json::to_value(typed) {
        compare(raw, &known, "", &mut unknown);
    }
    unknown
}

fn compare(raw: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (raw, known) {
        (Value::Object(raw), Value::Object(known)) => {
            for (key, value) in raw {
                let inner = join(path, key);
                match known.get(key) {
                    Some(known) => compare(value, known, &inner, unknown),
                    // An explicit null is an absent field.
                    None if value.is_null() => {}
                    None => unknown.push(inner),
                }
            }
        }
        (Value::Array(raw), Value::Array(known)) => {
            for (index, (raw, known)) in raw.iter().zip(known).enumerate() {
                compare(raw, known, &format!("{path}[{index}]"), unknown);
            }
        }
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => {}
    }
}

/// Reads `raw` as a `T`.
///
/// # Errors
/// The path of the offending field and what is wrong with it.
pub(crate) fn typed<T: DeserializeOwned>(raw: &Value) -> Result<T, String> {
    T::deserialize(raw).map_err(|error| {
        let error = error.to_string();
        match locate::<T>(raw, &mut Vec::new(), &error) {
            Some(path) => format!("{path}: {error}"),
            None => error,
        }
    })
}

/// The path of the deepest field without which reading no longer fails that way.
fn locate<T: DeserializeOwned>(raw: &Value, place: &mut Vec<Step>, error: &str) -> Option<String> {
    let steps: Vec<Step> = match place.iter().try_fold(raw, |value, step| step.of(value))? {
        Value::Object(map) => map.keys().cloned().map(Step::Key).collect(),
        Value::Array(list) => (0..list.len()).map(Step::Index).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    for step in steps {
        let mut without = raw.clone();
        step.remove(
            place
                .iter()
                .try_fold(&mut without, |value, step| step.of_mut(value))?,
        );
        let cured = T::deserialize(&without).map_or_else(|now| now.to_string() != error, |_| true);
        if cured {
            place.push(step);
            let path = place.iter().fold(String::new(), |path, step| match step {
                Step::Key(key) => join(&path, key),
                Step::Index(index) => format!("{path}[{index}]"),
            });
            return locate::<T>(raw, place, error).or(Some(path));
        }
    }
    None
}

enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Key(key) => value.get(key),
            Self::Index(index) => value.get(index),
        }
    }

    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Self::Key(key) => value.get_mut(key),
            Self::Index(index) => value.get_mut(index),
        }
    }

    fn remove(&self, value: &mut Value) {
        match (self, value) {
            (Self::Key(key), Value::Object(map)) => drop(map.remove(key)),
            (Self::Index(index), Value::Array(list)) => drop(list.remove(*index)),
            (Self::Key(_) | Self::Index(_), _) => {}
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
