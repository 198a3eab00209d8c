use super::*;
use crate::wire::{AsPath, Segment, SegmentKind};

fn path(asns: &[u32]) -> AsPath {
    AsPath(vec![Segment {
        kind: SegmentKind::Sequence,
        asns: asns.iter().copied().map(Asn).collect(),
    }])
}

#[test]
fn an_as_path_pattern_is_anchored_unless_it_says_otherwise() {
    let fits = |pattern: &str, asns: &[u32]| {
        let parsed: AsPathPattern = pattern.parse().unwrap();
        assert_eq!(parsed.to_string(), pattern);
        parsed.matches(&path(asns))
    };
    assert!(fits("65000", &[65000]));
    assert!(!fits("65000", &[65000, 1]));
    assert!(fits("65000 *", &[65000, 1]));
    assert!(fits("* 65000", &[2, 65000]));
    assert!(fits("* 65000 *", &[1, 2, 65000, 3]));
    assert!(!fits("* 65000 *", &[1, 2, 3]));
    assert!(fits("? ?", &[1, 2]));
    assert!(!fits("? ?", &[1]));
    assert!(fits("* 64512-65534 *", &[1, 64600]));
    assert!(fits("* 1 * 2 * 3", &[1, 1, 2, 2, 3, 3]));
    assert!(!fits("* 1 * 2 * 3", &[1, 1, 2, 2, 3, 4]));
    assert!("65000 x".parse::<AsPathPattern>().is_err());
}

#[test]
fn a_prefix_list_matches_by_length_inside_a_prefix() {
    let of = |text: &str| text.parse::<IpNet>().unwrap();
    let list = PrefixMatch {
        within: of("10.0.0.0/8"),
        ge: 24,
        le: 28,
    };
    assert!(list.matches(&of("10.1.2.0/24")));
    assert!(list.matches(&of("10.1.2.16/28")));
    assert!(!list.matches(&of("10.1.2.16/29")));
    assert!(!list.matches(&of("10.0.0.0/8")));
    assert!(!list.matches(&of("11.1.2.0/24")));
    assert!(!list.matches(&of("fd00::/24")));
    assert!(PrefixMatch::exact(of("::/0")).matches(&of("::/0")));
    assert!(PrefixMatch::or_longer(of("::/0")).matches(&of("fd00::/26")));
}
