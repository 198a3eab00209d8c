use super::*;
use crate::transport::{AoAlgorithm, Password};

/// `struct tcp_ao_add` of `linux/tcp.h`, field by field.
#[test]
fn a_key_of_tcp_ao_has_the_kernels_layout() {
    let key = AoKey {
        key: Password::try_from("secret".to_owned()).unwrap(),
        send_id: 7,
        receive_id: 9,
        algorithm: AoAlgorithm::Aes128Cmac,
    };
    let option = ao_add("192.0.2.0/24".parse().unwrap(), &key).unwrap();
    assert_eq!(option.len(), 288, "a multiple of 8");
    assert_eq!(option[..2], 2_u16.to_ne_bytes(), "AF_INET");
    assert_eq!(option[2..8], [0, 0, 192, 0, 2, 0]);
    assert_eq!(option[128..141], *b"cmac(aes128)\0");
    assert_eq!(option[192..202], [0; 10], "link, flags, padding");
    assert_eq!(
        option[202..208],
        [24, 7, 9, 12, 0, 6],
        "prefix, identifiers, code, flags, length"
    );
    assert_eq!(option[208..214], *b"secret");
    assert_eq!(option[214..], [0; 74]);
    let option = ao_add("2001:db8::1/128".parse().unwrap(), &key).unwrap();
    assert_eq!(option[..2], 10_u16.to_ne_bytes(), "AF_INET6");
    assert_eq!(option[8..13], [0x20, 1, 0x0d, 0xb8, 0]);
    assert_eq!(option[202], 128);
}
