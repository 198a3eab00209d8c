//! The controller as its clients see it: in-process, over loopback.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod blocks;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod program;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod stream;
