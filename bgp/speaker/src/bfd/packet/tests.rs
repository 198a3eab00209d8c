use super::*;

fn packet() -> Packet {
    Packet {
        diagnostic: Diagnostic::TIME_EXPIRED,
        state: State::Up,
        poll: true,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: NonZeroU32::new(0x0102_0304).unwrap(),
        your_discriminator: 0x0506_0708,
        desired_min_tx: 50_000,
        required_min_rx: 60_000,
        required_min_echo_rx: 0,
    }
}

#[test]
fn a_packet_is_laid_out_as_section_4_1_says() {
    let octets = [
        0x21, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0xc3, 0x50, 0, 0, 0xea, 0x60, 0, 0, 0, 0,
    ];
    assert_eq!(packet().encode(), octets);
    assert_eq!(Packet::decode(&octets), Ok(packet()));
}

#[test]
fn every_state_and_flag_survives_the_way() {
    for state in [State::AdminDown, State::Down, State::Init, State::Up] {
        for bits in 0..16 {
            let packet = Packet {
                state,
                poll: bits & 1 != 0,
                is_final: bits & 2 != 0,
                control_plane_independent: bits & 4 != 0,
                demand: bits & 8 != 0,
                ..packet()
            };
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }
}

#[test]
fn what_section_6_8_6_discards_is_told() {
    let with = |at: usize, octet: u8| {
        let mut octets = packet().encode();
        octets[at] = octet;
        Packet::decode(&octets).unwrap_err()
    };
    assert_eq!(with(0, 0x01), PacketError::Version(0));
    assert_eq!(with(0, 0x41), PacketError::Version(2));
    assert_eq!(with(3, 23), PacketError::Length(24));
    assert_eq!(with(3, 25), PacketError::Length(24));
    assert_eq!(with(1, 0xc4), PacketError::Authentication);
    assert_eq!(with(2, 0), PacketError::Multiplier);
    assert_eq!(with(1, 0xc1), PacketError::Multipoint);
    let mut octets = packet().encode();
    octets[4..8].fill(0);
    assert_eq!(Packet::decode(&octets), Err(PacketError::MyDiscriminator));
    for (flags, state) in [
        (0xc0, Some(State::Up)),
        (0x80, Some(State::Init)),
        (0x40, None),
        (0, None),
    ] {
        let mut octets = packet().encode();
        octets[8..12].fill(0);
        octets[1] = flags;
        let error = Packet::decode(&octets).err();
        assert_eq!(error, state.map(PacketError::YourDiscriminator));
    }
}

#[test]
fn any_octets_give_a_packet_or_an_error() {
    for length in 0..LENGTH {
        assert_eq!(
            Packet::decode(&packet().encode()[..length]),
            Err(PacketError::Length(length))
        );
    }
    // Longer payloads than the packet are allowed (§6.8.6).
    let mut octets = packet().encode().to_vec();
    octets.push(0);
    assert_eq!(Packet::decode(&octets), Ok(packet()));
    let mut seed = 1_u32;
    for _ in 0..100_000 {
        let mut octets = packet().encode();
        for _ in 0..3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            octets[(seed >> 8) as usize % LENGTH] = (seed >> 16).to_le_bytes()[0];
        }
        if let Ok(packet) = Packet::decode(&octets) {
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }
}
