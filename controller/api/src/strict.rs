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
/// The path of the offending field, as far as it is known, and what is wrong with it.
pub(crate) fn typed<T: DeserializeOwned>(raw: &Value) -> Result<T, (Vec<Step>, String)> {
    T::deserialize(raw).map_err(|error| {
        let error = error.to_string();
        let mut path = Vec::new();
        locate::<T>(raw, &mut path, &error);
        let text = path
            .iter()
            .fold(String::new(), |path, step| step.append_to(path));
        if path.is_empty() {
            (path, error)
        } else {
            (path, format!("{text}: {error}"))
        }
    })
}

/// Makes `place` the path of the deepest field without which reading no longer fails that way.
fn locate<T: DeserializeOwned>(raw: &Value, place: &mut Vec<Step>, error: &str) {
    let steps: Vec<Step> = match place.iter().try_fold(raw, |value, step| step.of(value)) {
        Some(Value::Object(map)) => map.keys().cloned().map(Step::Key).collect(),
        Some(Value::Array(list)) => (0..list.len()).map(Step::Index).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => return,
    };
    for step in steps {
        let mut without = raw.clone();
        let Some(parent) = place
            .iter()
            .try_fold(&mut without, |value, step| step.of_mut(value))
        else {
            return;
        };
        step.remove(parent);
        let cured = T::deserialize(&without).map_or_else(|now| now.to_string() != error, |_| true);
        if cured {
            place.push(step);
            return locate::<T>(raw, place, error);
        }
    }
}

/// One step from a value to a value inside.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn append_to(&self, path: String) -> String {
        match self {
            Self::Key(key) => join(&path, key),
            Self::Index(index) => format!("{path}[{index}]"),
        }
    }

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
