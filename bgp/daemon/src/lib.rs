//! The BGP speaker's tokio driver, as a library and as a small daemon.
