//! Whatever octets come: a value or an error, never a panic, and no more memory than they deserve.

use crate::error::DecodeError;
use crate::object::{Chain, Element, Family, PlacedRule, Set, Table};
use crate::socket::Answer;
use crate::subject::Subject;
use crate::uapi;
use crate::wire::{Attrs, Head, Writer, take_family, take_message};
use crate::{Event, Socket, events};

use super::scratch::{in_netns, table, world};

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap() % limit.max(1)
    }

    fn octet(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Everything that reads octets of the kernel, on all of a datagram; how many values came out.
fn decode_all(datagram: &[u8]) -> usize {
    let mut values = 0;
    let mut rest = datagram;
    while let Ok(Some((head, payload))) = take_message(&mut rest) {
        values += decode_payload(head, payload).unwrap_or(0);
        values += usize::from(
            events::decode(head, payload).is_ok_and(|event: Option<Event>| event.is_some()),
        );
        values += usize::from(Answer::decode(head, payload).is_ok());
        if let Ok(Some(subject)) = Subject::of(head.kind, head.flags, payload) {
            for offset in [0, 16, 20, 40, 77, usize::MAX] {
                let words = subject.clone().with_part_at(payload, offset).to_string();
                assert!(words.len() <= 200 + 4 * datagram.len());
            }
        }
    }
    values
}

fn decode_payload(head: Head, payload: &[u8]) -> Result<usize, DecodeError> {
    let (family, attrs) = take_family(payload)?;
    match head.kind & 0xff {
        uapi::NFT_MSG_NEWTABLE => Table::decode(Family(family), attrs).map(|_| 1),
        uapi::NFT_MSG_NEWCHAIN => Chain::decode(attrs).map(|_| 1),
        uapi::NFT_MSG_NEWRULE => PlacedRule::decode(attrs).map(|rule| 1 + rule.rule.exprs().len()),
        uapi::NFT_MSG_NEWSET => Set::decode(attrs).map(|_| 1),
        uapi::NFT_MSG_NEWSETELEM => {
            let list = attrs.need(uapi::NFTA_SET_ELEM_LIST_ELEMENTS, "elements")?;
            list.nested().into_iter().try_fold(0, |count, element| {
                Element::decode(element?.nested()).map(|_| count + 1)
            })
        }
        _ => Ok(0),
    }
}

/// What a kernel says of a table with one of everything, as it came.
fn dumps() -> Vec<Vec<u8>> {
    let mut socket = Socket::open().unwrap();
    socket.commit(world().batch()).unwrap();
    let mut datagrams = Vec::new();
    let mut ask = |kind: u16, request: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::default();
        let (kind, flags) = (
            uapi::NFNL_SUBSYS_NFTABLES << 8 | kind,
            uapi::NLM_F_REQUEST | uapi::NLM_F_DUMP,
        );
        let mark = writer.begin(kind, flags, 1, 1, 0);
        request(&mut writer);
        writer.end(mark);
        let keep = |head: Head, payload: &[u8]| {
            let mut copy = Writer::default();
            let mark = copy.begin(head.kind, head.flags, head.seq, 0, 0);
            copy.bytes.truncate(16);
            copy.bytes.extend_from_slice(payload);
            copy.end(mark);
            datagrams.push(copy.bytes);
            Ok(())
        };
        socket
            .exchange("a test", &writer, 1, keep, |_| false)
            .unwrap();
    };
    let name = table().name;
    ask(uapi::NFT_MSG_GETTABLE, &|_| ());
    ask(uapi::NFT_MSG_GETCHAIN, &|_| ());
    ask(uapi::NFT_MSG_GETRULE, &|w| {
        w.text(uapi::NFTA_RULE_TABLE, &name);
    });
    ask(uapi::NFT_MSG_GETSET, &|w| {
        w.text(uapi::NFTA_SET_TABLE, &name);
    });
    for (set, _) in world().sets {
        ask(uapi::NFT_MSG_GETSETELEM, &|w| {
            w.text(uapi::NFTA_SET_ELEM_LIST_TABLE, &name);
            w.text(uapi::NFTA_SET_ELEM_LIST_SET, &set.name);
        });
    }
    datagrams
}

fn mutate(random: &mut Random, octets: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..=random.below(4) {
        let at = random.below(octets.len());
        match random.below(6) {
            0 => octets[at] ^= 1 << random.below(8),
            1 => octets[at] = random.octet(),
            2 => octets[at] = [0, 1, 3, 4, 0x7f, 0x80, 0xff][random.below(7)],
            3 => octets.truncate(at.max(1)),
            4 => {
                let other = &others[random.below(others.len())];
                let (from, length) = (random.below(other.len()), random.below(64));
                let piece = other[from..(from + length).min(other.len())].to_vec();
                octets.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.below(16)).min(octets.len());
                octets.drain(at..end);
                octets.push(random.octet());
            }
        }
    }
}

#[test]
fn mutated_dumps_give_values_or_errors() {
    in_netns(|| {
        let dumps = dumps();
        let values: usize = dumps.iter().map(|dump| decode_all(dump)).sum();
        assert!(values > 100, "the untouched ones are read");
        let (mut good, mut bad) = (0, 0);
        for seed in 1..=60_000_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut octets = dumps[random.below(dumps.len())].clone();
            mutate(&mut random, &mut octets, &dumps);
            let decoded = std::panic::catch_unwind(|| decode_all(&octets));
            let values = decoded.unwrap_or_else(|_| panic!("seed {seed} panics: {octets:02x?}"));
            assert!(
                values <= octets.len(),
                "seed {seed}: a value takes an octet at least"
            );
            if values == 0 { bad += 1 } else { good += 1 }
        }
        assert!(
            good > 1000 && bad > 1000,
            "mutations reach both: {good} read, {bad} refused"
        );
    });
}

#[test]
fn random_octets_give_values_or_errors() {
    for seed in 1..=20_000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let length = random.below(400);
        let mut octets: Vec<u8> = (0..length).map(|_| random.octet()).collect();
        if let Some(header) = octets.first_chunk_mut::<6>() {
            // let it be a message about nf_tables, most of the time
            header[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            header[4] %= 32;
            header[5] = 10;
        }
        let decoded = std::panic::catch_unwind(|| decode_all(&octets));
        assert!(decoded.is_ok(), "seed {seed} panics: {octets:02x?}");
    }
}

#[test]
fn attributes_that_contain_themselves_endlessly_end() {
    // An attribute of length 0 would never be passed; one that is its own content nests as deep as it is long.
    assert!(Attrs(&[0, 0, 1, 0]).into_iter().next().unwrap().is_err());
    assert_eq!(Attrs(&[0, 0, 1, 0]).into_iter().count(), 1);
    let deep: Vec<u8> = (1..=4000_u16)
        .rev()
        .flat_map(|level| [(level * 4).to_ne_bytes(), 1_u16.to_ne_bytes()].concat())
        .collect();
    let mut message = Writer::default();
    let mark = message.begin(
        uapi::NFNL_SUBSYS_NFTABLES << 8 | uapi::NFT_MSG_NEWRULE,
        0,
        0,
        1,
        0,
    );
    message.bytes.extend_from_slice(&deep);
    message.end(mark);
    decode_all(&message.bytes);
}
