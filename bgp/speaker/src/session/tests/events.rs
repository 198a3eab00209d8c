//! Every event in every state (RFC 4271 §8.2.2).
//!
//! Where the RFC goes to `Idle` and waits there, a session of ours goes on to its next dial, the first time at once: there
//! is no `IdleHoldTimer` (event 13). Nor are there counterparts of `Tcp_CR_Valid` and `Tcp_CR_Invalid` (14, 15: whose
//! connection it is was looked at before) and `OpenCollisionDump` (23: it comes with the OPEN that shows the collision).

use super::*;
use crate::wire::{HeaderError, OpenError, RouteRefresh, UpdateError};

/// What happens; a connection of ours unless it says otherwise.
type Happens = fn(&mut Lab);

/// The session at the beginning of each column.
fn states() -> [(&'static str, Lab); 7] {
    let mut connect = Lab::new("192.0.2.1");
    connect.event(Event::ManualStart);
    // The second failure in a row makes it wait.
    let mut active = Lab::new("192.0.2.1");
    active.event(Event::ManualStart);
    for _ in 0..2 {
        let failed = Event::TcpConnectionFails(active.dialled, Failure::Refused);
        active.event(failed);
    }
    let mut settings = settings();
    settings.delay_open = Some(Duration::from_secs(3));
    let mut waiting = Lab::with(settings, "192.0.2.1");
    waiting.event(Event::ManualStart);
    waiting.event(Event::TcpCrAcked(OURS, local()));
    let mut confirm = Lab::dialled("192.0.2.1");
    confirm.event(Event::BgpOpen(OURS, open("192.0.2.2")));
    [
        ("Idle", Lab::new("192.0.2.1")),
        ("Connect", connect),
        ("Active", active),
        ("Active, DelayOpen", waiting),
        ("OpenSent", Lab::dialled("192.0.2.1")),
        ("OpenConfirm", confirm),
        ("Established", Lab::established("192.0.2.1")),
    ]
}

/// Columns are those of [`states`]. What is told, then the state; nothing where the session stays as it is.
#[rustfmt::skip]
const TABLE: &[(&str, Happens, [&str; 7])] = &[
    // Administrative events, §8.1.2.
    ("ManualStart", |lab| lab.event(Event::ManualStart),
        ["dial > Connect", "", "", "", "", "", ""]),
    ("ManualStop", |lab| lab.event(Event::ManualStop(Cease::AdministrativeShutdown, Down::Stopped)),
        ["", "close ours > Idle", "> Idle", "6/2, close ours > Idle", "6/2, close ours > Idle", "6/2, close ours > Idle", "6/2, close ours, down > Idle"]),
    // Events of timers, §8.1.3. They do not run everywhere.
    ("ConnectRetryTimer_Expires", |lab| lab.expire(Timer::ConnectRetry),
        ["", "close ours, dial", "dial > Connect", "", "", "", ""]),
    ("HoldTimer_Expires", |lab| lab.expire(Timer::Hold),
        ["", "", "", "", "4/0, close ours, dial > Connect", "4/0, close ours, dial > Connect", "4/0, close ours, down, dial > Connect"]),
    ("KeepaliveTimer_Expires", |lab| lab.expire(Timer::Keepalive),
        ["", "", "", "", "", "KEEPALIVE", "KEEPALIVE"]),
    ("DelayOpenTimer_Expires", |lab| lab.expire(Timer::DelayOpen),
        ["", "", "", "OPEN > OpenSent", "", "", ""]),
    // Events of TCP, §8.1.4.
    ("Tcp_CR_Acked of an attempt that was given up", |lab| lab.event(Event::TcpCrAcked(ConnectionId::Dialled(7), local())),
        ["close ours", "close ours", "close ours", "close ours", "close ours", "close ours", "close ours"]),
    ("TcpConnectionConfirmed", |lab| lab.event(Event::TcpConnectionConfirmed(THEIRS, local())),
        ["close theirs", "OPEN on theirs > OpenSent", "OPEN on theirs > OpenSent", "", "OPEN on theirs", "OPEN on theirs", "6/7 on theirs, close theirs, KEEPALIVE"]),
    ("TcpConnectionFails", |lab| lab.event(Event::TcpConnectionFails(OURS, Failure::Reset)),
        ["", "dial", "", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, lost, dial > Connect"]),
    // Events of messages, §8.1.5.
    ("BGPOpen", |lab| lab.event(Event::BgpOpen(OURS, open("192.0.2.2"))),
        ["", "", "", "OPEN, KEEPALIVE > OpenConfirm", "KEEPALIVE > OpenConfirm", "5/2, close ours, dial > Connect", "5/3, close ours, down, dial > Connect"]),
    ("BGPHeaderErr", |lab| lab.event(Event::BgpHeaderErr(OURS, HeaderError::Type(9))),
        ["", "", "", "1/3, close ours, dial > Connect", "1/3, close ours, dial > Connect", "1/3, close ours, dial > Connect", "1/3, close ours, down, dial > Connect"]),
    ("BGPOpenMsgErr", |lab| lab.event(Event::BgpOpenMsgErr(OURS, OpenError::HoldTime(1))),
        ["", "", "", "2/6, close ours, dial > Connect", "2/6, close ours, dial > Connect", "2/6, close ours, dial > Connect", "5/3, close ours, down, dial > Connect"]),
    ("NotifMsgVerErr", |lab| lab.event(Event::NotifMsg(OURS, Notification::new(2, 1, &[0, 4]))),
        ["", "", "", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, down, dial > Connect"]),
    ("NotifMsg", |lab| lab.event(Event::NotifMsg(OURS, Notification::cease(Cease::ConnectionRejected, ""))),
        ["", "", "", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, dial > Connect", "close ours, down, dial > Connect"]),
    ("KeepAliveMsg", |lab| lab.event(Event::KeepAliveMsg(OURS)),
        ["", "", "", "5/0, close ours, dial > Connect", "5/1, close ours, dial > Connect", "up > Established", ""]),
    ("UpdateMsg", |lab| lab.event(Event::UpdateMsg(OURS)),
        ["", "", "", "5/0, close ours, dial > Connect", "5/1, close ours, dial > Connect", "5/2, close ours, dial > Connect", ""]),
    ("UpdateMsgErr", |lab| lab.event(Event::UpdateMsgErr(OURS, UpdateError::Lengths(0))),
        ["", "", "", "5/0, close ours, dial > Connect", "5/1, close ours, dial > Connect", "5/2, close ours, dial > Connect", "3/1, close ours, down, dial > Connect"]),
    // Events that came with later RFCs: 2918, 7313 §5, 4486 §4, 9384.
    ("RouteRefreshMsg", |lab| lab.event(Event::RouteRefreshMsg(OURS)),
        ["", "", "", "5/0, close ours, dial > Connect", "5/1, close ours, dial > Connect", "5/2, close ours, dial > Connect", ""]),
    ("RouteRefreshMsgErr", |lab| lab.event(Event::RouteRefreshMsgErr(OURS, RouteRefresh::decode(&[0, 1, 1, 1, 0]).unwrap_err())),
        ["", "", "", "5/0, close ours, dial > Connect", "5/1, close ours, dial > Connect", "5/2, close ours, dial > Connect", "7/1, close ours, down, dial > Connect"]),
    ("PrefixLimit", |lab| lab.event(Event::PrefixLimit { family: Family::Ipv4, max: 7, restart: None }),
        ["", "", "", "", "", "", "6/1, close ours, down > Idle"]),
    ("BfdDown", |lab| lab.event(Event::BfdDown { seen_up: lab.now }),
        ["", "", "", "", "", "", "6/10, close ours, down, dial > Connect"]),
    ("Sent", |lab| lab.event(Event::Sent(OURS, 1)),
        ["", "", "", "", "", "", ""]),
];

#[test]
fn every_event_in_every_state_has_the_outcome_of_rfc_4271() {
    let mut wrong = Vec::new();
    for (event, happens, expected) in TABLE {
        for ((column, mut lab), expected) in states().into_iter().zip(expected) {
            let before = lab.session.state();
            lab.told();
            happens(&mut lab);
            let after = lab.session.state();
            let mut found = lab.told().join(", ").replace(" on ours", "");
            found = found.replace("NOTIFICATION ", "");
            if after != before {
                found = format!("{found} > {after}").trim().to_owned();
            }
            if found != *expected {
                wrong.push(format!("{event} in {column}: `{found}`, not `{expected}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// §8.2.1.3: events of a connection that is gone, or never was, do nothing.
#[test]
fn what_comes_of_a_connection_that_is_gone_does_nothing() {
    for (event, happens, _) in TABLE {
        let mut lab = Lab::established("192.0.2.1");
        lab.event(Event::TcpConnectionFails(OURS, Failure::Closed));
        let (state, down) = (lab.session.state(), lab.session.down().clone());
        lab.told();
        let timer = event.contains("Timer_");
        if timer || event.starts_with("Manual") || event.starts_with("Tcp") {
            continue;
        }
        happens(&mut lab);
        assert_eq!(lab.told(), Vec::<String>::new(), "{event}");
        assert_eq!(
            (lab.session.state(), lab.session.down()),
            (state, &down),
            "{event}"
        );
    }
}
