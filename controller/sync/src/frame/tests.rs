use proptest::prelude::*;

use super::{Decoder, FrameError, encode};
use crate::message::{Message, Revision};
use crate::samples;

#[test]
fn values_come_out_as_they_went_in_however_the_stream_is_cut() {
    let messages = [snapshot(), in_sync(1), in_sync(2)];
    let stream: Vec<u8> = messages.iter().flat_map(encode).collect();
    for size in [1, 7, 64, stream.len()] {
        let mut decoder = Decoder::new(stream.len());
        let mut seen: Vec<Message> = Vec::new();
        for piece in stream.chunks(size) {
            decoder.push(piece);
            while let Some(message) = decoder.next_value().unwrap() {
                seen.push(message);
            }
        }
        assert_eq!(seen, messages);
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn a_bad_line_is_named_and_skipped() {
    let mut decoder: Decoder<Message> = Decoder::new(1_000);
    decoder.push(b"\n{\"type\":\"rumour\"}\n");
    decoder.push(&encode(&in_sync(3)));
    assert_eq!(
        decoder.next_value().unwrap_err().to_string(),
        "line 2 of the stream is not understood: unknown variant `rumour`, expected one of \
         `snapshot`, `same`, `delta`, `in-sync` at line 1 column 16; it begins `{\"type\":\"rumour\"}`"
    );
    assert_eq!(decoder.next_value(), Ok(Some(in_sync(3))));
}

#[test]
fn a_line_without_end_is_cut_off() {
    let mut decoder: Decoder<Message> = Decoder::new(10);
    decoder.push(b"          ");
    assert_eq!(decoder.next_value(), Ok(None));
    decoder.push(b" ");
    assert_eq!(
        decoder.next_value(),
        Err(FrameError::TooLong { line: 1, max: 10 })
    );
}

#[test]
fn a_line_that_is_too_long_is_not_parsed_even_if_it_is_whole() {
    let mut decoder: Decoder<u32> = Decoder::new(3);
    decoder.push(b"123\n1234\n");
    assert_eq!(decoder.next_value(), Ok(Some(123)));
    assert_eq!(
        decoder.next_value(),
        Err(FrameError::TooLong { line: 2, max: 3 })
    );
}

#[test]
fn a_stream_that_breaks_off_says_where() {
    let mut decoder: Decoder<Message> = Decoder::new(1_000);
    decoder.push(&encode(&in_sync(1)));
    decoder.push(b"{\"type\":");
    assert_eq!(decoder.next_value(), Ok(Some(in_sync(1))));
    assert_eq!(decoder.next_value(), Ok(None));
    let error = decoder.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stream broke off in line 2, after 8 octets of it"
    );
}

proptest! {
    #[test]
    fn any_octets_give_a_value_or_an_error(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder: Decoder<Message> = Decoder::new(100);
        decoder.push(&octets);
        for _ in 0..=octets.len() {
            if decoder.next_value() == Ok(None) {
                break;
            }
        }
        let end = decoder.finish();
        let expected = matches!(end, Ok(()) | Err(FrameError::Truncated { .. }));
        prop_assert!(expected, "{end:?}");
    }
}

fn in_sync(count: u64) -> Message {
    Message::InSync {
        revision: Revision {
            run: "r".to_owned(),
            count,
        },
    }
}

fn snapshot() -> Message {
    let revision = Revision {
        run: "r".to_owned(),
        count: 1,
    };
    Message::Snapshot {
        revision,
        state: Box::new(samples::two_pods()),
    }
}
