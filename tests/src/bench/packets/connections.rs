//! TCP connections: connect, an octet each way, reset.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use super::path::{Path, TCP_PORT};
use crate::report::{percentile, time};

const CONNECTIONS: u32 = 3_000;
const ROUNDS: usize = 7;

/// Connections per second of each path: the median of samples taken in turn.
pub(crate) fn rates<const N: usize>(paths: [&Path; N]) -> Result<[f64; N]> {
    let mut samples: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..=ROUNDS {
        for (path, samples) in paths.iter().zip(&mut samples) {
            let took = sample(path)?;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    Ok(samples
        .map(|mut samples| f64::from(CONNECTIONS) / percentile(&mut samples, 50).as_secs_f64()))
}

fn sample(path: &Path) -> Result<Duration> {
    let listener = path
        .pod()
        .run(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, TCP_PORT))?))?;
    std::thread::scope(|scope| {
        let answering = scope.spawn(move || answer(&listener));
        let took = path.client().run(|| {
            let (took, done) = time(|| connect(Path::pod_address()));
            done.map(|()| took)
        });
        answering.join().expect("answering does not panic")?;
        took
    })
}

fn answer(listener: &TcpListener) -> Result<()> {
    for _ in 0..CONNECTIONS {
        let (mut stream, _) = listener.accept()?;
        let mut octet = [0; 1];
        stream.read_exact(&mut octet)?;
        stream.write_all(&octet)?;
    }
    Ok(())
}

fn connect(to: Ipv4Addr) -> Result<()> {
    let to = SocketAddr::V4(SocketAddrV4::new(to, TCP_PORT));
    for _ in 0..CONNECTIONS {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Closing resets, so that no port waits.
        socket.set_linger(Some(Duration::ZERO))?;
        socket
            .connect_timeout(&to.into(), Duration::from_secs(5))
            .context("the pod cannot be connected to")?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0; 1])?;
    }
    Ok(())
}
