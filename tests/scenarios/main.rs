//! Behaviour of the whole, seen from outside: one file per behaviour.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod established;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod support;
#[cfg(test)]
mod worlds;
