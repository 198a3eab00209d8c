//! Behaviour of the whole, seen from outside: one file per behaviour.

#[cfg(test)]
mod arrows;
