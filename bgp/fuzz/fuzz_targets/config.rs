//! The text of a configuration file: settings, or an error that names the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // It would read what the text names.
    if text.contains("file") {
        return;
    }
    if let Err(error) = margay_bgpd::config::parse(Path::new("bgpd.toml"), text) {
        assert!(error.to_string().contains("bgpd.toml"));
    }
});
