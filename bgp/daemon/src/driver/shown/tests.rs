use super::*;
use crate::clock::now;

#[test]
fn a_flood_of_bad_messages_is_shown_in_hex_once_a_second() {
    let mut shown = Shown::default();
    let start = now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    assert_eq!(
        shown.hex(&[0, 0x0a, 0xff], start).as_deref(),
        Some("000aff")
    );
    // Ten thousand more within the second: one line in all, and no text is made of the others.
    let more = (0..10_000).filter_map(|n| shown.hex(&[1], at(n / 11)));
    assert_eq!(more.count(), 0);
    assert_eq!(shown.hex(&[2], at(999)), None);
    assert_eq!(shown.hex(&[3], at(1000)).as_deref(), Some("03"));
    assert_eq!(shown.hex(&[4], at(1001)), None);
    // Time that went back (which it does not) shows nothing rather than everything.
    assert_eq!(shown.hex(&[5], start), None);
    assert_eq!(shown.hex(&[6], at(60_000)).as_deref(), Some("06"));
}
