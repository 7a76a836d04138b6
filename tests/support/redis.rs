//! A Redis of a test's own, to be stopped, killed and started again in the same place.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use api::simulated_provider::free_address;

use crate::{PATIENCE, ScratchDir};

/// A running `redis-server` that keeps nothing on disk; killed when dropped.
#[derive(Debug)]
pub struct TestRedis {
    child: Child,
    address: SocketAddr,
    dir: ScratchDir,
}

impl TestRedis {
    /// Starts it on a free port of the loopback.
    pub fn start() -> Self {
        let (dir, address) = (ScratchDir::new("redis"), free_address().expect("a free port"));
        Self { child: run(&dir, address), address, dir }
    }

    /// `redis://…`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// kill -9, and waits for its end.
    pub fn kill(&mut self) {
        // Refused only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().expect("a killed child ends");
    }

    /// Stops (`STOP`) or continues (`CONT`) it, so that it is connected and does not answer.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name]).arg(self.child.id().to_string()).status();
        assert!(kill.expect("a shell").success(), "signal {name} was not delivered");
    }

    /// Starts it again, empty, in the same place.
    pub fn restart(&mut self) {
        self.kill();
        self.child = run(&self.dir, self.address);
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(dir: &ScratchDir, address: SocketAddr) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]).arg(address.port().to_string());
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("redis-server is installed: scripts/setup.sh");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(child.try_wait().expect("a child can be asked").is_none(), "redis-server ended at once");
        assert!(Instant::now() < deadline, "redis-server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}
