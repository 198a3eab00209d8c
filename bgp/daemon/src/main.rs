//! A small BGP daemon: the speaker with a configuration file instead of felix around it.

fn main() {}
