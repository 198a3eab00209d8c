use super::*;

fn key(text: &str) -> Key4 {
    Key4::new(text.parse().unwrap())
}

#[test]
fn prefixes_survive_the_way_through_their_keys() {
    for text in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.255/32"] {
        assert_eq!(key(text).prefix().to_string(), text);
    }
    for text in ["::/0", "2001:db8::/32", "2001:db8::1:2:3:ffff/128"] {
        assert_eq!(Key6::new(text.parse().unwrap()).prefix().to_string(), text);
    }
}

#[test]
fn a_place_is_used_again_once_its_change_is_settled() {
    let mut table = Table::new(3);
    let first = table.find_or_add(key("10.0.0.0/24"));
    assert!(table.note(first, Change::ANY));
    assert!(!table.note(first, Change::BEST));
    assert!(table.change(first).has_best());
    assert_eq!(table.find(key("10.0.0.0/24")), Some(first));
    table.settle(first);
    assert_eq!(table.find(key("10.0.0.0/24")), None);
    assert_eq!(table.find_or_add(key("10.0.1.0/24")), first);
}
