//! What a peer may heap up: a daemon's memory is looked at from outside, and another peer is told what is new.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use margay_bgp::wire::{self, Capability, Open, RestartState};
use margay_bgpd::{Asn, BgpId, Family, HoldTime};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::{Daemon, program};

pub(crate) const SICK: Ipv4Addr = Ipv4Addr::new(127, 40, 0, 1);
const WELL: Ipv4Addr = Ipv4Addr::new(127, 40, 0, 2);
/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon that reflects between a sick peer and a well one.
pub(crate) struct Ward {
    daemon: Daemon,
    folder: TempDir,
    pub(crate) place: SocketAddr,
    pub(crate) sick: TcpStream,
    /// What the well one is told.
    told: mpsc::Receiver<Vec<u8>>,
    before: u64,
}

impl Ward {
    pub(crate) fn new(own: u8, sick_settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = Ipv4Addr::new(127, 40, 1, own);
        let port = TcpListener::bind((address, 0)).unwrap().local_addr();
        let place = SocketAddr::new(address.into(), port.unwrap().port());
        let socket = folder.path().join("bgpd.sock");
        let config = folder.path().join("bgpd.toml");
        let peer = "asn = 64512\npassive = true\nexport = \"all\"\nreflector-client = true";
        let text = format!(
            "asn = 64512\nrouter-id = \"192.0.2.1\"\nlisten = [\"{place}\"]\ncontrol = \"{}\"\n\
             [peers.sick]\naddress = \"{SICK}\"\n{peer}\n{sick_settings}\n\
             [peers.well]\naddress = \"{WELL}\"\n{peer}\nextended-messages = false\n",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let daemon = Daemon(program(&config).spawn().unwrap());
        let mut well = established(WELL, place);
        let sick = established(SICK, place);
        let (teller, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut octets = vec![0; 1 << 16];
            while let Ok(count @ 1..) = well.read(&mut octets) {
                if teller.send(octets[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut ward = Self {
            daemon,
            folder,
            place,
            sick,
            told,
            before: 0,
        };
        ward.send_and_see(&[update(&[], &[24, 192, 0, 2])], [24, 192, 0, 2]);
        // The status is published with a little delay.
        while ward.peers()["well"]["sessions"] != 1 {
            std::thread::sleep(Duration::from_millis(25));
        }
        ward.before = ward.memory();
        ward
    }

    /// The sick peer says all this, the last of which the well one is to be told.
    pub(crate) fn send_and_see(&mut self, messages: &[Vec<u8>], sentinel: [u8; 4]) {
        for message in messages {
            self.sick.write_all(message).unwrap();
        }
        self.until_told(sentinel);
    }

    /// The well peer hears of this prefix, or that it is gone.
    pub(crate) fn until_told(&mut self, sentinel: [u8; 4]) {
        let mut last = Vec::new();
        while !last.windows(4).any(|four| four == sentinel) {
            let more = self.told.recv_timeout(PATIENCE);
            // What is looked for may come in two pieces.
            let keep = last.len().saturating_sub(3);
            last.drain(..keep);
            last.extend(more.expect("the well peer is told the sentinel"));
        }
    }

    /// Anonymous memory, in octets: not the program's own pages.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.0.id()));
        let status = status.unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.unwrap().trim().trim_end_matches(" kB").parse::<u64>();
        number.unwrap() * 1024
    }

    /// How many descriptors it has, each connection one of them.
    pub(crate) fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.daemon.0.id()));
        all.unwrap().count()
    }

    pub(crate) fn assert_grown_by_less_than(&self, mebibytes: u64) {
        let grown = self.memory().saturating_sub(self.before);
        assert!(grown < mebibytes << 20, "{} KiB more", grown >> 10);
    }

    /// What the control socket says of all peers.
    fn peers(&self) -> Value {
        let mut stream = UnixStream::connect(self.folder.path().join("bgpd.sock")).unwrap();
        stream.write_all(b"GET /bgp HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut page: Value = serde_json::from_str(body).unwrap();
        page["peers"].take()
    }

    /// What it says of the sick one.
    fn page(&self) -> Value {
        let mut peers = self.peers();
        assert_eq!(peers["well"]["sessions"], 1);
        peers["sick"].take()
    }

    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        for _ in 0..2400 {
            if condition(&self.page()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("waited in vain for: {what}; {}", self.page());
    }
}

/// A connection from this address.
pub(crate) fn dial(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let dial = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::new(from.into(), 0);
        socket.bind(&from.into()).unwrap();
        socket.connect(&to.into()).ok()?;
        Some(TcpStream::from(socket))
    };
    let patient = || {
        dial().or_else(|| {
            std::thread::sleep(Duration::from_millis(25));
            None
        })
    };
    (0..800).find_map(|_| patient()).unwrap()
}

/// What a peer at this address begins with.
pub(crate) fn opening(from: Ipv4Addr) -> Vec<u8> {
    let families = [Family::Ipv4].into();
    let hold_time = HoldTime::from_secs(0);
    let running = RestartState::Running;
    let mut open = Open::new(Asn(64512), hold_time, BgpId(from), &families, running);
    open.capabilities.push(Capability::ExtendedMessage);
    open.encode()
}

/// A peer's end of an established session. It tries again, as any peer does: of its own connections the one that the kernel
/// hands over last counts, and on a busy machine that may be one that was dialled a little earlier.
pub(crate) fn established(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    for _ in 0..400 {
        if let Ok(stream) = establish(from, to) {
            return stream;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("no session");
}

fn establish(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = dial(from, to);
    stream.write_all(&opening(from))?;
    stream.write_all(&wire::encode_keepalive())?;
    // OPEN and KEEPALIVE.
    for kind in [1, 4] {
        let mut header = [0; 19];
        stream.read_exact(&mut header)?;
        let length = u16::from_be_bytes([header[16], header[17]]);
        let mut body = vec![0; usize::from(length) - 19];
        stream.read_exact(&mut body)?;
        if header[18] != kind {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
    }
    Ok(stream)
}

/// An UPDATE with these attributes besides ORIGIN, `NEXT_HOP` and `LOCAL_PREF`; the path is empty unless it is among them.
pub(crate) fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut all = vec![0x40, 1, 1, 0, 0x40, 3, 4, 127, 0, 0, 250];
    all.extend_from_slice(&[0x40, 5, 4, 0, 0, 0, 100]);
    all.extend_from_slice(attributes);
    if !attributes.starts_with(&[0x50, 2]) {
        all.extend_from_slice(&[0x40, 2, 0]);
    }
    message(&[], &all, nlri)
}

fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = vec![2];
    for part in [withdrawn, attributes] {
        body.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        body.extend_from_slice(part);
    }
    body.extend_from_slice(nlri);
    let length = u16::try_from(18 + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &body].concat()
}

/// The attribute of this type code, with a length of two octets.
fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[flags | 0x10, code], &length[..], value].concat()
}

/// The `number`th /24 of many.
pub(crate) fn nlri(number: u32) -> [u8; 4] {
    let [_, high, middle, low] = number.to_be_bytes();
    [24, 16 + high, middle, low]
}

#[test]
fn two_million_prefixes_against_a_limit_take_no_room() {
    let limit = "prefix-limits = { IPv4 = { max = 1000, action = \"block\" } }";
    let mut ward = Ward::new(1, limit);
    let messages: Vec<Vec<u8>> = (0..2000)
        .map(|row| {
            let prefixes: Vec<u8> = (row * 1000..(row + 1) * 1000).flat_map(nlri).collect();
            update(&[], &prefixes)
        })
        .collect();
    // What the sentinel takes the place of goes first.
    let room = message(&nlri(0), &[], &[]);
    let sentinel = update(&[], &[24, 203, 0, 113]);
    let all = [messages, vec![room, sentinel]].concat();
    ward.send_and_see(&all, [24, 203, 0, 113]);
    ward.assert_grown_by_less_than(16);
    ward.until("a full table and the reason", |page| {
        page["received"] == 1000
            && page["state"] == "Established"
            && page["notes"].to_string().contains("the limit of 1000")
    });
}

#[test]
fn two_million_prefixes_against_a_limit_end_the_session_and_nothing_else() {
    let limit = "prefix-limits = { IPv4 = { max = 1000, action = \"tear-down\" } }";
    let mut ward = Ward::new(4, limit);
    for row in 0..2000 {
        let prefixes: Vec<u8> = (row * 1000..(row + 1) * 1000).flat_map(nlri).collect();
        // Until nobody listens any more.
        if ward.sick.write_all(&update(&[], &prefixes)).is_err() {
            break;
        }
    }
    ward.until("the reason", |page| {
        let reason = page["reason"].to_string();
        page["state"] != "Established"
            && reason.contains("more than 1000 IPv4 prefixes")
            && page["hint"] != ""
    });
    // What it told is withdrawn from the well one, whose session is the same.
    ward.until_told([24, 192, 0, 2]);
    ward.until("nothing left", |page| page["received"] == 0);
    ward.assert_grown_by_less_than(16);
}

#[test]
fn attributes_that_are_large_and_never_the_same_go_with_their_routes() {
    let mut ward = Ward::new(2, "");
    let mut messages = Vec::new();
    for number in 0..5000_u32 {
        let mut value = vec![7; 3900];
        value[..4].copy_from_slice(&number.to_be_bytes());
        // Optional and transitive, and unknown.
        messages.push(update(&attribute(0xc0, 200, &value), &nlri(number % 100)));
    }
    messages.push(update(&[], &[24, 203, 0, 113]));
    ward.send_and_see(&messages, [24, 203, 0, 113]);
    // Twenty million octets came, of which a fiftieth is in force.
    ward.assert_grown_by_less_than(10);
    ward.until("all of them", |page| page["received"] == 102);
}

#[test]
fn a_path_of_ten_thousand_segments_is_refused_and_one_of_five_thousand_taken() {
    let mut ward = Ward::new(3, "");
    let path = |segments: u32| {
        let segment = |number: u32| [&[2, 1], &number.to_be_bytes()[..]].concat();
        attribute(
            0x40,
            2,
            &(1..=segments).flat_map(segment).collect::<Vec<_>>(),
        )
    };
    let messages = [
        update(&path(10_000), &nlri(1)),
        update(&path(5_000), &nlri(2)),
        // Fits a message of 4096 octets, and so is told on.
        update(&path(600), &nlri(3)),
    ];
    ward.send_and_see(&messages, nlri(3));
    ward.until("three routes and the reason", |page| {
        page["received"] == 3
            && page["state"] == "Established"
            && page["notes"]
                .to_string()
                .contains("more than can be passed on")
    });
}
