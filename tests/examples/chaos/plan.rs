//! What can break. The numbers are those of the fault catalogue.

/// A process that is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Api,
    Gateway,
    Relay,
    ProjectorA,
    ProjectorB,
    Worker,
    /// The simulated provider.
    Bank,
}

/// All roles of the platform, each on lines of its own.
pub const ROLES: [Part; 6] = [Part::Api, Part::Gateway, Part::Relay, Part::ProjectorA, Part::ProjectorB, Part::Worker];

impl Part {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            Self::ProjectorA => "projector a",
            Self::ProjectorB => "projector b",
            Self::Worker => "worker",
            Self::Bank => "bank",
        }
    }
}

/// Where a line goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Postgres,
    Nats,
    /// From the gateway to the provider.
    Bank,
    /// Call-backs, from the provider to the gateway.
    Gateway,
}

/// A TCP line through a proxy: from, to.
pub type Line = (Part, End);

/// All lines.
pub fn lines() -> Vec<Line> {
    let servers = ROLES.iter().flat_map(|part| [(*part, End::Postgres), (*part, End::Nats)]);
    servers.chain([(Part::Gateway, End::Bank), (Part::Bank, End::Gateway)]).collect()
}

/// One thing that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill(Part),
    Terminate(Part),
    Pause(Part),
    Starve(Part),
    FewFiles(Part),
    Twin(Part),
    /// Started anew with a clock so many seconds off.
    Skew(Part, i64),
    /// Started anew to be held there, and killed.
    FailPoint(Part, &'static str),
    PostgresKilled,
    PostgresStopped,
    BackendKilled,
    PostgresPaused,
    HeadLocked,
    FewConnections,
    PostgresDiskFull,
    PowerLoss,
    Restored,
    NatsKilled,
    NatsPaused,
    NatsWiped,
    StreamDeleted,
    NatsBitFlipped,
    NatsOlder,
    NatsDiskFull,
    Cut(Line),
    CutUp(Line),
    CutDown(Line),
    Slow(Line, u64),
    Refused(Line),
    Narrow(Line, u64),
    AnswersLost(Line),
    /// The provider's calls go wrong: operation and fault as its simulator names them.
    BankTrouble(&'static str, &'static str),
}

/// What a fault takes hold of; two faults of a round never share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Part(Part),
    Line(Line),
    Postgres,
    Nats,
}

impl Fault {
    /// Its kind and its number in the catalogue.
    pub fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Kill(Part::Api) => ("kill api", "F1"),
            Self::Kill(Part::Gateway) => ("kill gateway", "F2"),
            Self::Kill(Part::Relay) => ("kill relay", "F3"),
            Self::Kill(Part::ProjectorA | Part::ProjectorB) => ("kill projector", "F4"),
            Self::Kill(Part::Worker) => ("kill worker", "F2"),
            Self::Kill(Part::Bank) => ("kill bank", "F18"),
            Self::Terminate(_) => ("terminate", "F41"),
            Self::Pause(_) => ("pause", "F26"),
            Self::Starve(_) => ("starve of processor", "F27"),
            Self::FewFiles(_) => ("file descriptors gone", "F29"),
            Self::Twin(Part::Relay) => ("two relays", "F3"),
            Self::Twin(_) => ("twin", "F26"),
            Self::Skew(..) => ("clock skew", "F25"),
            Self::FailPoint(..) => ("crash at a fail point", "F2"),
            Self::PostgresKilled => ("kill postgres", "F5"),
            Self::PostgresStopped => ("immediate shutdown of postgres", "F5"),
            Self::BackendKilled => ("kill a backend", "F5"),
            Self::PostgresPaused => ("pause postgres", "F8"),
            Self::HeadLocked => ("head of the log locked", "F9"),
            Self::FewConnections => ("connections refused", "F10"),
            Self::PostgresDiskFull => ("disk of postgres full", "F7"),
            Self::PowerLoss => ("power loss", "F6 F12"),
            Self::Restored => ("postgres restored to the past", "F37"),
            Self::NatsKilled => ("kill nats", "F11"),
            Self::NatsPaused => ("pause nats", "F15"),
            Self::NatsWiped => ("nats wiped", "F12"),
            Self::StreamDeleted => ("stream deleted", "F12"),
            Self::NatsBitFlipped => ("bit flip in nats", "F14"),
            Self::NatsOlder => ("nats restored to the past", "F36"),
            Self::NatsDiskFull => ("disk of nats full", "F13"),
            Self::Cut(_) => ("partition", "F22"),
            Self::CutUp(_) | Self::CutDown(_) => ("partition one way", "F22"),
            Self::Slow(..) => ("latency", "F23"),
            Self::Refused(_) => ("connections reset", "F23"),
            Self::Narrow(..) => ("narrow line", "F24"),
            Self::AnswersLost(_) => ("answers lost", "F22"),
            Self::BankTrouble(_, "timeout_after" | "reset_after") => ("provider silent after the effect", "F17"),
            Self::BankTrouble(..) => ("provider in trouble", "F18"),
        }
    }

    /// In words.
    pub fn words(self) -> String {
        let (kind, _) = self.kind();
        let end = |end| match end {
            End::Postgres => "postgres",
            End::Nats => "nats",
            End::Bank => "bank",
            End::Gateway => "gateway",
        };
        let line = |(part, to): Line| format!("{kind}: {} to {}", part.name(), end(to));
        match self {
            Self::Terminate(part)
            | Self::Pause(part)
            | Self::Starve(part)
            | Self::FewFiles(part)
            | Self::Twin(part)
            | Self::Kill(part @ (Part::ProjectorA | Part::ProjectorB)) => format!("{kind}: {}", part.name()),
            Self::Skew(part, seconds) => format!("{kind}: {} {seconds:+} s", part.name()),
            Self::FailPoint(part, name) => format!("{kind}: {} {name}", part.name()),
            Self::Cut(at) | Self::Refused(at) | Self::AnswersLost(at) => line(at),
            Self::CutUp(at) => format!("{} (there)", line(at)),
            Self::CutDown(at) => format!("{} (back)", line(at)),
            Self::Slow(at, ms) => format!("{} {ms} ms", line(at)),
            Self::Narrow(at, rate) => format!("{} {rate} B/s", line(at)),
            Self::BankTrouble(operation, fault) => format!("{kind}: {operation} {fault}"),
            Self::Kill(_)
            | Self::PostgresKilled
            | Self::PostgresStopped
            | Self::BackendKilled
            | Self::PostgresPaused
            | Self::HeadLocked
            | Self::FewConnections
            | Self::PostgresDiskFull
            | Self::PowerLoss
            | Self::Restored
            | Self::NatsKilled
            | Self::NatsPaused
            | Self::NatsWiped
            | Self::StreamDeleted
            | Self::NatsBitFlipped
            | Self::NatsOlder
            | Self::NatsDiskFull => kind.to_owned(),
        }
    }

    /// What it takes hold of.
    pub fn things(self) -> Vec<Thing> {
        match self {
            Self::Kill(part)
            | Self::Terminate(part)
            | Self::Pause(part)
            | Self::Starve(part)
            | Self::FewFiles(part)
            | Self::Twin(part)
            | Self::Skew(part, _)
            | Self::FailPoint(part, _) => vec![Thing::Part(part)],
            Self::PostgresKilled
            | Self::PostgresStopped
            | Self::BackendKilled
            | Self::PostgresPaused
            | Self::HeadLocked
            | Self::FewConnections
            | Self::PostgresDiskFull => vec![Thing::Postgres],
            Self::PowerLoss | Self::Restored => vec![Thing::Postgres, Thing::Nats],
            Self::NatsKilled
            | Self::NatsPaused
            | Self::NatsWiped
            | Self::StreamDeleted
            | Self::NatsBitFlipped
            | Self::NatsOlder
            | Self::NatsDiskFull => vec![Thing::Nats],
            Self::Cut(line)
            | Self::CutUp(line)
            | Self::CutDown(line)
            | Self::Slow(line, _)
            | Self::Refused(line)
            | Self::Narrow(line, _)
            | Self::AnswersLost(line) => vec![Thing::Line(line)],
            Self::BankTrouble(..) => vec![Thing::Part(Part::Bank)],
        }
    }
}
