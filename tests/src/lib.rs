//! The lab, scenarios, interop tests and benchmarks.
