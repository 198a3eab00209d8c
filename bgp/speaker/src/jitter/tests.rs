use super::*;

/// RFC 4271 §10: a factor from 0.75 to 1, evenly.
#[test]
fn timers_are_shortened_by_up_to_a_quarter_evenly() {
    let mut jitter = Jitter::new(1);
    let second = Duration::from_secs(1);
    let mut all: Vec<_> = (0..4000).map(|_| jitter.shorten(second)).collect();
    all.sort_unstable();
    assert!(all[0] >= second * 3 / 4 && all[3999] <= second);
    // A thousand in each quarter of the range, more or less.
    for (at, permille) in [
        (0, 750),
        (1000, 812),
        (2000, 875),
        (3000, 937),
        (3999, 1000),
    ] {
        let expected = second * permille / 1000;
        assert!(
            all[at].abs_diff(expected) < second / 100,
            "{at}: {:?}",
            all[at]
        );
    }
    assert_eq!(jitter.shorten(Duration::ZERO), Duration::ZERO);
}
