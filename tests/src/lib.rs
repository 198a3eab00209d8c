//! The lab (library and `margay-lab` program), scenarios and benchmarks.

pub mod lab;
