-- What process managers and provider workers need to survive a restart. All of it follows from events.
create schema process;
grant usage on schema process to smartpos_app, smartpos_worker;

-- How far each process manager has read.
create table process.checkpoint (
    name text   primary key,
    pos  bigint not null
);

-- Calls and timers still to be done. A worker leases a due row; a lease that runs out is taken over.
create table process.task (
    key          text        primary key,
    tenant       uuid        not null,
    task         jsonb       not null,
    due_at       timestamptz not null,
    leased_until timestamptz
);
create index task_due on process.task (due_at);

-- Which attempt a provider reference names: call-backs know only the reference.
create table process.provider_reference (
    provider  text  not null,
    reference text  not null,
    tenant    uuid  not null,
    attempt   jsonb not null,
    primary key (provider, reference)
);

-- Call-backs exactly as they came. Stored before they are acknowledged; one row per provider transaction.
create table process.webhook (
    id              uuid        primary key,
    provider        text        not null,
    transaction_id  text        not null,
    received_at     timestamptz not null,
    headers         jsonb       not null,
    body            bytea       not null,
    deliveries      integer     not null default 1,
    unique (provider, transaction_id)
);

-- Reactions that a rule refused: visible, for a person to look at; the manager goes on.
create table process.stuck (
    pos     bigint  not null,
    n       integer not null,
    manager text    not null,
    error   text    not null,
    primary key (pos, n, manager)
);

grant select, insert on process.stuck to smartpos_worker;
grant select, insert, update, delete on process.task, process.checkpoint, process.provider_reference to smartpos_worker;
-- The key alone may be read: an insert that skips a known key needs that.
grant insert, select (key) on process.task to smartpos_app;
grant select, insert, update on process.webhook to smartpos_app, smartpos_worker;
