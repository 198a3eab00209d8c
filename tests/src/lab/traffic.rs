//! Traffic that goes on while something happens: which packets were answered, and when.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock::{now, wait};
use super::prober::{Protocol, Shot, client_socket};

/// How a flow goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams of one UDP flow, each echoed.
    Datagrams,
    /// Small messages over one TCP connection, each echoed.
    Messages,
    /// A new TCP connection each time; an answer is that it is accepted or refused.
    Connections,
}

/// One packet, message or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered.
    pub answered: Option<Instant>,
}

/// One flow's samples, in the order sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.0.len()
    }

    /// How many had no answer.
    pub fn lost(&self) -> usize {
        self.0
            .iter()
            .filter(|sample| sample.answered.is_none())
            .count()
    }

    /// When those were sent that had no answer.
    pub fn losses(&self) -> Vec<Instant> {
        self.0
            .iter()
            .filter(|sample| sample.answered.is_none())
            .map(|sample| sample.sent)
            .collect()
    }

    /// How many that were sent at `since` or later had an answer.
    pub fn answered_since(&self, since: Instant) -> usize {
        self.0
            .iter()
            .filter(|sample| sample.sent >= since && sample.answered.is_some())
            .count()
    }

    /// How long after `event` the last answer came; `None` if there was none after it.
    pub fn last_answer_after(&self, event: Instant) -> Option<Duration> {
        self.0
            .iter()
            .filter_map(|sample| sample.answered?.checked_duration_since(event))
            .max()
    }

    /// How long after `event` the first one was sent that had no answer.
    pub fn first_loss_after(&self, event: Instant) -> Option<Duration> {
        let lost = self.0.iter().filter(|sample| sample.answered.is_none());
        lost.filter_map(|sample| sample.sent.checked_duration_since(event))
            .min()
    }
}

/// Flows that run on a thread of their own until they are stopped. Their listeners run elsewhere.
#[derive(Debug)]
pub struct Traffic {
    stop: watch::Sender<bool>,
    live: Vec<Arc<Mutex<Samples>>>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Starts flows, each sending `every` so often, and waits until each had its first answer.
    ///
    /// # Errors
    /// If a flow has none within seconds.
    pub fn start(kind: Kind, shots: &[Shot], every: Duration) -> Result<Self> {
        let traffic = Self::start_unanswered(kind, shots, every)?;
        wait(
            "every flow has its first answer",
            Duration::from_secs(10),
            || {
                let silent = traffic
                    .snapshot()
                    .iter()
                    .position(|samples| samples.sent() == samples.lost());
                silent.map_or(Ok(()), |index| {
                    Err(format!("nothing from {}", shots[index].destination))
                })
            },
        )?;
        Ok(traffic)
    }

    /// Starts flows that may never be answered.
    ///
    /// # Errors
    /// If there is no thread or event queue for them.
    pub fn start_unanswered(kind: Kind, shots: &[Shot], every: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let live: Vec<Arc<Mutex<Samples>>> = shots.iter().map(|_| Arc::default()).collect();
        let flows: Vec<(Shot, Arc<Mutex<Samples>>)> =
            shots.iter().cloned().zip(live.iter().cloned()).collect();
        let thread = thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let mut running = JoinSet::new();
                    for (shot, samples) in flows {
                        let flow = Flow {
                            shot,
                            samples,
                            every,
                            stopped: stopped.clone(),
                        };
                        running.spawn(async move {
                            let result = match kind {
                                Kind::Datagrams => flow.datagrams().await,
                                Kind::Messages => flow.messages().await,
                                Kind::Connections => flow.connections().await,
                            };
                            if let Err(error) = result {
                                tracing::debug!(%error, "a flow ended");
                            }
                        });
                    }
                    while running.join_next().await.is_some() {}
                });
            })?;
        Ok(Self {
            stop,
            live,
            thread: Some(thread),
        })
    }

    /// The samples so far, in the order of the shots.
    pub fn snapshot(&self) -> Vec<Samples> {
        self.live
            .iter()
            .map(|samples| lock(samples).clone())
            .collect()
    }

    /// Waits until each flow has sent `count` more.
    ///
    /// # Errors
    /// If one has not within a minute (it ended).
    pub fn wait_sent(&self, count: usize) -> Result<()> {
        let before: Vec<usize> = self
            .live
            .iter()
            .map(|samples| lock(samples).sent())
            .collect();
        wait("flows go on", Duration::from_mins(1), || {
            let behind = self
                .live
                .iter()
                .zip(&before)
                .position(|(now, then)| lock(now).sent() < then + count);
            behind.map_or(Ok(()), |index| Err(format!("flow {index} has ended")))
        })
    }

    /// Stops sending, waits for answers still under way, and gives the samples.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn stop(mut self) -> Result<Vec<Samples>> {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("traffic panicked"))?;
        }
        Ok(self.snapshot())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// How long after its end a flow waits for late answers.
const LATE: Duration = Duration::from_millis(500);

struct Flow {
    shot: Shot,
    samples: Arc<Mutex<Samples>>,
    every: Duration,
    stopped: watch::Receiver<bool>,
}

impl Flow {
    async fn datagrams(mut self) -> Result<()> {
        let socket = client_socket(&Shot {
            protocol: Protocol::Udp,
            ..self.shot.clone()
        })?;
        socket.connect(&self.destination().into())?;
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        let mut ticks = tokio::time::interval(self.every);
        let mut buffer = [0; 64];
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let number = self.sending();
                    let _refused_by_policy_of_the_node = socket.send(&number.to_be_bytes()).await;
                }
                read = socket.recv(&mut buffer) => if let Ok(8) = read { self.answered(&buffer) },
                _ = self.stopped.changed() => break,
            }
        }
        let late = async {
            while lock(&self.samples).lost() > 0 {
                if let Ok(8) = socket.recv(&mut buffer).await {
                    self.answered(&buffer);
                }
            }
        };
        let _enough = tokio::time::timeout(LATE, late).await;
        Ok(())
    }

    async fn messages(mut self) -> Result<()> {
        let socket = client_socket(&Shot {
            protocol: Protocol::Tcp,
            ..self.shot.clone()
        })?;
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(self.destination())
            .await?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let mut ticks = tokio::time::interval(self.every);
        let mut buffer = [0; 8];
        let mut filled = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let number = self.sending();
                    writer.write_all(&number.to_be_bytes()).await?;
                }
                read = reader.read(&mut buffer[filled..]) => {
                    let read = read?;
                    if read == 0 {
                        bail!("the server closed the connection");
                    }
                    filled += read;
                    if filled == buffer.len() {
                        self.answered(&buffer);
                        filled = 0;
                    }
                }
                _ = self.stopped.changed() => break,
            }
        }
        Ok(())
    }

    async fn connections(mut self) -> Result<()> {
        let mut ticks = tokio::time::interval(self.every);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let number = self.sending();
                    let (shot, samples, to) = (self.shot.clone(), Arc::clone(&self.samples), self.destination());
                    running.spawn(async move {
                        // One packet decides: the kernel would send another SYN after a second.
                        let attempt = tokio::time::timeout(LATE, connect(shot, to));
                        if matches!(attempt.await, Ok(Ok(()))) {
                            answer(&samples, number);
                        }
                    });
                }
                Some(_) = running.join_next() => {}
                _ = self.stopped.changed() => break,
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Notes that the next one is sent now; its number.
    fn sending(&self) -> u64 {
        let mut samples = lock(&self.samples);
        samples.0.push(Sample {
            sent: now(),
            answered: None,
        });
        samples.0.len() as u64 - 1
    }

    fn answered(&self, buffer: &[u8]) {
        if let Some(number) = buffer
            .first_chunk()
            .map(|octets| u64::from_be_bytes(*octets))
        {
            answer(&self.samples, number);
        }
    }

    fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.shot.destination, self.shot.port)
    }
}

async fn connect(shot: Shot, to: SocketAddr) -> io::Result<()> {
    let socket = client_socket(&Shot {
        protocol: Protocol::Tcp,
        ..shot
    })?;
    socket.set_linger(Some(Duration::ZERO))?;
    match TcpSocket::from_std_stream(socket.into()).connect(to).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(()),
    }
}

fn answer(samples: &Mutex<Samples>, number: u64) {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(sample) = lock(samples).0.get_mut(index) {
        sample.answered.get_or_insert_with(now);
    }
}

fn lock(samples: &Mutex<Samples>) -> std::sync::MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}
