use super::authority;

#[test]
fn the_controller_is_found_by_any_spelling_of_its_address() {
    for (text, wanted) in [
        ("10.96.3.4", "10.96.3.4:9470"),
        ("fd00:10:96::1f", "[fd00:10:96::1f]:9470"),
        ("[fd00:10:96::1f]", "[fd00:10:96::1f]:9470"),
        ("[fd00::1]:99", "[fd00::1]:99"),
        ("10.96.3.4:99", "10.96.3.4:99"),
        ("controller.example:9470", "controller.example:9470"),
    ] {
        assert_eq!(authority(text).as_deref(), Ok(wanted), "{text}");
    }
    for text in [
        "",
        "controller",
        "10.0.0.1:",
        "10.0.0.1:99999",
        "fd00::g:9470",
    ] {
        assert!(authority(text).is_err(), "{text}");
    }
}
