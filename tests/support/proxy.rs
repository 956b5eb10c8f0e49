//! A way to a port that can be cut or frozen: what a peer behind a broken network is to the gateway.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Rng;

/// How long connections last: until so many bytes have come back, drawn from this range.
#[derive(Debug)]
struct Budget {
    rng: Rng,
    low: u64,
    high: u64,
}

/// A listener in front of another address. It ends with its value.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    /// Whether nothing is passed on.
    frozen: watch::Sender<bool>,
    generation: watch::Sender<u64>,
    budget: Arc<Mutex<Option<Budget>>>,
    cuts: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// In front of this address.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, (generation, budget)) =
            (watch::Sender::new(false), (watch::Sender::new(0), Arc::default()));
        let mut accepting = JoinSet::new();
        let (target, is_frozen, cuts) = (target.to_owned(), frozen.subscribe(), generation.subscribe());
        let budgets: Arc<Mutex<Option<Budget>>> = Arc::clone(&budget);
        let cut_off = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cut_off);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let bytes = budgets.lock().unwrap().as_mut().map(Budget::draw);
                let (target, is_frozen, mut cuts) = (target.clone(), is_frozen.clone(), cuts.clone());
                cuts.mark_unchanged();
                let count = Arc::clone(&counted);
                connections.spawn(async move {
                    let pass = pass(near, target, is_frozen, bytes.unwrap_or(u64::MAX));
                    tokio::select! {
                        is_cut = pass => drop(count.fetch_add(u64::from(is_cut), Ordering::SeqCst)),
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, frozen, generation, budget, cuts: cut_off, _accepting: accepting }
    }

    /// Cuts each further connection after so many bytes of answers.
    pub fn cut_after(&self, rng: Rng, low: u64, high: u64) {
        *self.budget.lock().unwrap() = Some(Budget { rng, low, high });
    }

    /// How many were cut so.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Cuts no further ones.
    pub fn spare(&self) {
        *self.budget.lock().unwrap() = None;
    }

    /// Passes on nothing, in neither direction; connections stay and nobody is told.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Budget {
    fn draw(&mut self) -> u64 {
        self.rng.between(self.low, self.high)
    }
}

/// Whether the connection has had its bytes.
async fn pass(near: TcpStream, target: String, frozen: watch::Receiver<bool>, bytes: u64) -> bool {
    let mut waiting = frozen.clone();
    drop(waiting.wait_for(|frozen| !frozen).await);
    let Ok(far) = TcpStream::connect(target).await else { return false };
    drop((near.set_nodelay(true), far.set_nodelay(true)));
    let (near, far) = (near.into_split(), far.into_split());
    // Whoever ends first ends both: a peer that is cut off hears nothing any more.
    tokio::select! {
        is_cut = one_way(near.0, far.1, frozen.clone(), u64::MAX) => is_cut,
        is_cut = one_way(far.0, near.1, frozen, bytes) => is_cut,
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    mut left: u64,
) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return false;
        }
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(read) = from.read(&mut buffer[..room]).await else { return false };
        if read == 0 || frozen.wait_for(|frozen| !frozen).await.is_err() {
            return false;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return false;
        }
        left -= read as u64;
    }
    true
}
