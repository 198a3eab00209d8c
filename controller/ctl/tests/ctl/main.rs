//! `margayctl` as people and programs call it.

#[cfg(test)]
mod doctor;
#[cfg(test)]
mod evaluate;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod sockets;
