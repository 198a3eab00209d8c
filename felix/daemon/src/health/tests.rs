use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

/// Status and body of a page.
fn ask(at: SocketAddr, page: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    let patience = Duration::from_secs(30);
    stream.set_read_timeout(Some(patience)).unwrap();
    write!(stream, "GET {page} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

/// Here nobody else does anything: this thread, which has what felix' main thread has, waits for the answers, and the writer
/// of the rules never says a word.
#[test]
fn health_answers_while_everybody_else_is_busy() {
    let (view_sender, view) = watch::channel(Arc::new(View {
        trouble: Some("the kernel says no".to_owned()),
        ..View::default()
    }));
    let (_bgp_sender, bgp) = watch::channel(margay_bgpd::Status::default());
    let (_link_sender, link) = watch::channel(Link::Up);
    let (nft, _writer) = Nft::silent();
    let metrics = Arc::new(Metrics::new());
    metrics.routes.set(7);
    let sources = Sources {
        metrics,
        view,
        bgp,
        link,
        nft,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    serve(listener, sources).unwrap();
    assert_eq!(ask(at, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(ask(at, "/readyz"), (503, "the kernel says no\n".to_owned()));
    let (code, text) = ask(at, "/metrics");
    assert_eq!(code, 200);
    for line in ["margay_felix_routes 7\n", "margay_felix_controller_up 1\n"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    view_sender.send_replace(Arc::default());
    assert_eq!(ask(at, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(ask(at, "/elsewhere").0, 404);
}
