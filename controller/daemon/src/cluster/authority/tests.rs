use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

#[test]
fn an_authority_is_followed_by_a_next_one_that_agents_know_a_day_before_it_signs() {
    let start = 1_800_000_000;
    let first = Ring {
        now: term(start),
        next: None,
        old: None,
    };
    let ends = start + LIFE;
    assert_eq!(advance(&first, ends - EARLY - 1).unwrap(), None);
    let made = ends - EARLY;
    let both = advance(&first, made).unwrap().unwrap();
    assert_eq!(both.now, first.now);
    assert_eq!(trusted(&both), 2);
    assert_eq!(advance(&both, made + OVERLAP - 1).unwrap(), None);
    let moved = advance(&both, made + OVERLAP).unwrap().unwrap();
    assert_eq!(Some(&moved.now), both.next.as_ref());
    assert_eq!(moved.next, None);
    // Agents that still speak with a replica of the old certificate go on trusting it.
    assert_eq!(trusted(&moved), 2);
    let after = advance(&moved, ends).unwrap().unwrap();
    assert_eq!((trusted(&after), after.old.clone()), (1, None));
    assert_eq!(advance(&after, ends + 1).unwrap(), None);
}

#[test]
fn a_secret_gives_back_what_was_put_in() {
    let mut ring = Ring {
        now: term(1),
        next: None,
        old: None,
    };
    assert_eq!(from_secret(&to_secret(&ring, None)).unwrap(), ring);
    ring.next = Some(term(2));
    ring.old = Some(("certificate".to_owned(), 3));
    assert_eq!(from_secret(&to_secret(&ring, None)).unwrap(), ring);
}

#[test]
fn a_damaged_secret_says_what_to_do() {
    let mut secret = to_secret(
        &Ring {
            now: term(1),
            next: None,
            old: None,
        },
        None,
    );
    secret.data.as_mut().unwrap().remove("ca-key.pem");
    let error = from_secret(&secret).unwrap_err().to_string();
    assert!(
        error.contains("ca-key.pem") && error.contains("delete it"),
        "{error}"
    );
}

fn term(made: u64) -> Term {
    Term {
        authority: tls::authority().unwrap(),
        made,
    }
}

fn trusted(ring: &Ring) -> usize {
    CertificateDer::pem_slice_iter(certificates(ring).as_bytes())
        .map(Result::unwrap)
        .count()
}
