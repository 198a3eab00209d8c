use super::*;

#[test]
fn a_block_has_one_name() {
    assert_eq!(name_of("10.244.0.64/26".parse().unwrap()), "10-244-0-64-26");
    assert_eq!(
        name_of("fd00:10:244::40/122".parse().unwrap()),
        "fd00-10-244-0-0-0-0-40-122"
    );
    assert_eq!(
        IpBlock::claim("10.244.0.0/26".parse().unwrap(), "n1").check(),
        Ok(())
    );
    let mut other = IpBlock::claim("10.244.0.0/26".parse().unwrap(), "n1");
    other.metadata.name = Some("mine".to_owned());
    assert!(other.check().unwrap_err().contains("10-244-0-0-26"));
}
