-- Read models live in schemas of their own, one per (projection, version), made by the projector's set-up.
-- Here: how far each has read, what it had to set aside, and the schema of views that names the version in service.
create schema read;
grant usage on schema read to smartpos_app, smartpos_worker;

create table read.checkpoint (
    name    text    not null,
    version integer not null,
    pos     bigint  not null,
    primary key (name, version)
);

-- Streams halted in one projection by an event that could not be applied; the rest of the projection goes on.
create table read.quarantine (
    name        text        not null,
    version     integer     not null,
    tenant      uuid        not null,
    stream_type text        not null,
    stream_id   uuid        not null,
    pos         bigint      not null,
    error       text        not null,
    primary key (name, version, tenant, stream_type, stream_id)
);

grant select on read.checkpoint to smartpos_app;
grant select, insert, update, delete on read.checkpoint, read.quarantine to smartpos_worker;
