//! What clients were told, on disk before they go on: the honest witness. A line stands before a request goes out and after its
//! answer came; both are synced. Many clients share one sync.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Entry {
    /// It is about to be asked for.
    Asked { key: String, path: String },
    /// It was answered with 2xx.
    Acknowledged(Acknowledged),
    /// From here on a database that was restored to this position: what was told of later ones is taken back.
    Restored { head: i64 },
}

/// An answer of 2xx.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Acknowledged {
    pub key: String,
    /// Of the merchant.
    pub tenant: String,
    pub status: u16,
    /// Of the thing in the answer.
    pub id: String,
    pub version: i64,
    pub position: i64,
    /// SHA-256 of the body.
    pub body: String,
}

/// Writes lines; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    queue: Sender<(Entry, oneshot::Sender<()>)>,
    path: PathBuf,
}

impl Journal {
    /// A new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).context("the journal cannot be made")?;
        let (queue, entries) = channel();
        std::thread::spawn(move || write(file, &entries));
        Ok(Self { queue, path: path.to_owned() })
    }

    /// Returns once the line is on the disk.
    pub async fn write(&self, entry: Entry) -> Result<()> {
        let (written, on_disk) = oneshot::channel();
        self.queue.send((entry, written)).ok().context("the journal has ended")?;
        on_disk.await.context("the journal cannot be written")
    }

    /// What is in the file: not what this process remembers.
    pub fn read(&self) -> Result<Vec<Entry>> {
        let text = std::fs::read_to_string(&self.path)?;
        text.lines().map(|line| serde_json::from_str(line).context("a line of the journal")).collect()
    }
}

/// Ends with the last sender, or with the first failure; whoever waits then hears of it.
fn write(mut file: File, entries: &Receiver<(Entry, oneshot::Sender<()>)>) {
    while let Ok(first) = entries.recv() {
        let (mut text, mut waiting) = (Vec::new(), Vec::new());
        for (entry, written) in std::iter::once(first).chain(entries.try_iter()) {
            let Ok(line) = serde_json::to_vec(&entry) else { return };
            text.extend(line);
            text.push(b'\n');
            waiting.push(written);
        }
        if file.write_all(&text).and_then(|()| file.sync_data()).is_err() {
            return;
        }
        for written in waiting {
            // Whoever was stopped meanwhile does not wait any more.
            let _ = written.send(());
        }
    }
}
