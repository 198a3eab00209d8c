//! Behaviour of the whole, seen from outside: one file per behaviour.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bgp;
#[cfg(test)]
mod bird;
#[cfg(test)]
mod capabilities;
#[cfg(test)]
mod cni;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod established;
#[cfg(test)]
mod health;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod program;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod speaker;
#[cfg(test)]
mod spoof;
#[cfg(test)]
mod start_gap;
#[cfg(test)]
mod support;
#[cfg(test)]
mod worlds;
