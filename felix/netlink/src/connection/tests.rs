use super::*;

#[test]
fn garbage_from_the_kernel_is_no_message() {
    for octets in [&[][..], &[1, 2, 3], &[0; 16], &[255; 40]] {
        assert_eq!(messages(octets).count(), 0, "{octets:?}");
    }
    assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    assert_eq!(attributes(&[9, 0, 1, 0, 1, 2]).count(), 0);
}
