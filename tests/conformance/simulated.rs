//! The servers of the simulator.

use sim::{
    bus::SimBus,
    log_ports::{SimAppender, SimLog},
    servers::Servers,
};

use crate::stage::Stage;

impl Stage for Servers {
    type Log = SimLog;
    type Source = SimLog;
    type Appender = SimAppender;
    type Bus = SimBus;
    type Feed = SimBus;

    fn log(&self) -> SimLog {
        self.log()
    }

    fn processes(&self) -> SimLog {
        self.log()
    }

    fn source(&self) -> SimLog {
        self.log()
    }

    fn appender(&self) -> SimAppender {
        self.appender()
    }

    async fn bus(&self) -> SimBus {
        self.bus()
    }

    async fn feed(&self) -> SimBus {
        self.bus()
    }

    async fn install(&self) {}

    async fn call_backs(&self) -> Vec<(String, String, i32)> {
        self.call_backs()
    }

    fn lose_answers(&self, lost: bool) {
        self.lose_answers(lost);
    }

    async fn kill_database(&self) {
        self.kill_database();
    }

    async fn keep_copy(&self) {
        self.keep_copy();
    }

    async fn restore_copy(&self) {
        self.restore_copy();
    }

    async fn kill_bus(&self) {
        self.kill_bus();
    }

    async fn keep_bus_copy(&self) {
        self.kill_bus();
    }

    async fn restore_bus_copy(&self, messages: usize) {
        self.forget_messages(messages);
    }

    async fn wipe_bus(&self) {
        self.wipe_bus();
    }
}
