//! File systems of the run's own for PostgreSQL and NATS, each in a file: they can be full, and a copy of the file is what a loss of
//! power leaves: nothing that was not synced. Needs the right to mount.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Postgres,
    Nats,
}

impl Disk {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats",
        }
    }

    /// Its file only takes the place of what is written.
    const fn size(self) -> &'static str {
        match self {
            Self::Postgres => "4G",
            Self::Nats => "1G",
        }
    }
}

/// Mounted under the data directory of the servers. Whoever removes the scratch directory unmounts them.
pub struct Disks {
    images: PathBuf,
    data: PathBuf,
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} cannot be run"))?;
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

impl Disks {
    /// Makes both, with what their servers, which must be stopped, have stored so far.
    pub fn make(scratch: &Path, data: &Path) -> Result<Self> {
        let disks = Self { images: scratch.join("images"), data: data.to_owned() };
        let beside = scratch.join("beside");
        fs::create_dir_all(&disks.images)?;
        fs::create_dir_all(&beside)?;
        for disk in [Disk::Nats, Disk::Postgres] {
            let (image, place) = (disks.image(disk), disks.place(disk));
            run("truncate", &["-s", disk.size(), text(&image)])?;
            run("mkfs.ext4", &["-q", "-m", "0", "-N", "65536", "-E", "lazy_itable_init=0,lazy_journal_init=0", text(&image)])?;
            run("mount", &["-o", "loop", text(&image), text(&beside)])?;
            fs::remove_dir(beside.join("lost+found"))?;
            run("cp", &["-a", &format!("{}/.", text(&place)), text(&beside)])?;
            run("umount", &[text(&beside)])?;
            run("mount", &["-o", "loop", text(&image), text(&place)])?;
        }
        Ok(disks)
    }

    fn image(&self, disk: Disk) -> PathBuf {
        self.images.join(disk.name())
    }

    fn place(&self, disk: Disk) -> PathBuf {
        self.data.join(disk.name())
    }

    fn filler(&self, disk: Disk) -> PathBuf {
        self.place(disk).join("filler")
    }

    /// Leaves no free block.
    pub fn fill(&self, disk: Disk) -> Result<()> {
        let place = self.place(disk);
        let free = Command::new("df").args(["--output=avail", "-B1", text(&place)]).output()?;
        let free = String::from_utf8_lossy(&free.stdout).lines().last().unwrap_or_default().trim().to_owned();
        let filler = self.filler(disk);
        // The last blocks are those of the allocation itself; what does not fit is written until it fails.
        let less = free.parse::<u64>()?.saturating_sub(1 << 20).to_string();
        run("fallocate", &["-l", &less, text(&filler)])?;
        // Ends with an error, which is what is wanted: not a byte is left.
        let _ = Command::new("sh").args(["-c", "cat /dev/zero >>\"$0\" 2>/dev/null", text(&filler)]).status()?;
        Ok(())
    }

    /// Gives the space back.
    pub fn free(&self, disk: Disk) -> Result<()> {
        Ok(fs::remove_file(self.filler(disk))?)
    }

    /// What a loss of power would leave now. Its server is paused, so that nothing it syncs comes in between; the kernel may still write,
    /// so the copy is taken again until it was taken of something that stood still.
    pub fn snapshot(&self, disk: Disk) -> Result<PathBuf> {
        let (image, copy) = (self.image(disk), self.images.join(format!("{}.copy", disk.name())));
        let state = || fs::metadata(&image).map(|file| (file.modified().ok(), file.blocks()));
        for _ in 0..5 {
            let before = state()?;
            run("cp", &["--sparse=always", text(&image), text(&copy)])?;
            if state()? == before {
                return Ok(copy);
            }
        }
        anyhow::bail!("the disk of {} does not stand still", disk.name())
    }

    /// Puts the copy in the place of the disk, whose server is dead.
    pub fn replace(&self, disk: Disk, copy: &Path) -> Result<()> {
        let (image, place) = (self.image(disk), self.place(disk));
        // For a minute: its server may take so long to be gone.
        for _ in 0..1_200 {
            if run("umount", &[text(&place)]).is_ok() {
                fs::rename(copy, &image)?;
                return run("mount", &["-o", "loop", text(&image), text(&place)]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("{} cannot be unmounted", place.display())
    }
}
