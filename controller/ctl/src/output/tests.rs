use serde_json::json;

use super::*;

#[test]
fn marks_are_colours_on_a_terminal_and_nothing_elsewhere() {
    let answer = Answer::plain(Paint::Bad.on("down") + "\n");
    assert_eq!(
        answer.render(Format::Table, Colours::On).unwrap(),
        "\x1b[31mdown\x1b[0m\n"
    );
    assert_eq!(
        answer.render(Format::Table, Colours::Off).unwrap(),
        "down\n"
    );
}

#[test]
fn marks_take_no_room_in_a_column() {
    let rows = |state: String| {
        let text = table(
            ["PEER", "STATE", "IN"],
            [
                ["router".into(), state, "1".into()],
                ["n2".into(), "Idle".into(), "0".into()],
            ],
        );
        Answer::plain(text)
            .render(Format::Table, Colours::Off)
            .unwrap()
    };
    assert_eq!(
        rows(Paint::Good.on("Established")),
        rows("Established".into())
    );
}

#[test]
fn programs_get_the_value_and_people_the_text() {
    let answer = Answer::new("x is 1\n".into(), json!({"x": 1}));
    assert_eq!(
        answer.render(Format::Json, Colours::On).unwrap(),
        "{\n  \"x\": 1\n}\n"
    );
    assert_eq!(answer.render(Format::Yaml, Colours::On).unwrap(), "x: 1\n");
    assert_eq!(
        answer.render(Format::Table, Colours::Off).unwrap(),
        "x is 1\n"
    );
}

#[test]
fn a_duration_has_its_two_largest_units() {
    assert_eq!(
        [0, 59, 60, 3_599, 3_600, 86_399, 90_000].map(duration),
        ["0s", "59s", "1m0s", "59m59s", "1h0m", "23h59m", "1d1h"]
    );
}
