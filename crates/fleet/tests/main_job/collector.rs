//! Collects the frames of a socket, and reconnects as the app does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sosohappy_fleet::app::{Phone, Socket};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

/// The frames that a phone received.
#[derive(Debug)]
pub struct Received {
    pub frames: Vec<String>,
    pub reconnects: usize,
}

/// The kind of socket.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Notices,
    Messages,
}

impl Kind {
    async fn connect(self, phone: &Phone) -> anyhow::Result<Socket> {
        match self {
            Self::Notices => phone.connect_notice().await,
            Self::Messages => phone.connect_dm().await,
        }
    }
}

/// A task that collects the frames of one socket.
#[derive(Debug)]
pub struct Collector {
    frames: Arc<Mutex<Vec<String>>>,
    reconnects: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts the task and waits until its first socket is open.
    pub async fn start(phone: Phone, kind: Kind) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let reconnects = Arc::new(AtomicUsize::new(0));
        let (opened, open) = oneshot::channel();
        let task = tokio::spawn({
            let (frames, reconnects) = (frames.clone(), reconnects.clone());
            async move {
                let mut opened = Some(opened);
                loop {
                    if let Ok(mut socket) = kind.connect(&phone).await {
                        match opened.take() {
                            Some(opened) => opened.send(()).expect("`start` waits for the socket"),
                            None => _ = reconnects.fetch_add(1, Ordering::SeqCst),
                        }
                        while let Ok(frame) = socket.text().await {
                            frames.lock().await.push(frame);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
        open.await.expect("the socket opens");
        Self {
            frames,
            reconnects,
            task,
        }
    }

    /// Waits until that many frames came or none has come for a while, and a little longer for one too many.
    pub async fn settle(self, expected: usize) -> Received {
        let began = Instant::now();
        while self.frames.lock().await.len() < expected {
            // A socket that was cut may have missed some; one that was not has missed none.
            let was_cut = self.reconnects.load(Ordering::SeqCst) > 0;
            if began.elapsed() > Duration::from_secs(if was_cut { 10 } else { 45 }) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        self.task.abort();
        let frames = std::mem::take(&mut *self.frames.lock().await);
        Received {
            frames,
            reconnects: self.reconnects.load(Ordering::SeqCst),
        }
    }
}
