//! Lines of a YAML document's values, by their paths.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::strict::Step;

/// A document's values with the lines where they begin, and nothing else of them.
pub(super) struct Lines(Spanned<Shape>);

enum Shape {
    Map(Vec<(String, Lines)>),
    List(Vec<Lines>),
    Scalar,
}

impl Lines {
    /// Of one document's text; `None` if it is no YAML or has keys that are no strings.
    pub(super) fn of(text: &str) -> Option<Self> {
        serde_saphyr::from_str(text).ok()
    }

    /// The line, from 1, of the value at `path`, or of the last on the way to it that is there.
    pub(super) fn at(&self, path: &[Step]) -> Option<usize> {
        let mut place = self;
        for step in path {
            let inner = match (step, &place.0.value) {
                (Step::Key(key), Shape::Map(map)) => map
                    .iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, value)| value),
                (Step::Index(index), Shape::List(list)) => list.get(*index),
                (Step::Key(_) | Step::Index(_), Shape::Map(_) | Shape::List(_) | Shape::Scalar) => {
                    None
                }
            };
            match inner {
                Some(inner) => place = inner,
                None => break,
            }
        }
        usize::try_from(place.0.referenced.line())
            .ok()
            .filter(|line| *line > 0)
    }
}

// Not derived: a shape that knows every type of ours would be the reader of all of them once more, 5 MB of program.
impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shapes)
    }
}

struct Shapes;

impl<'de> Visitor<'de> for Shapes {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Shape::List(values))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Scalar)
    }
}
