-- The log: the only truth. Append-only by force; written by one function; positions dense, gapless and visible in order.
create schema log;
grant usage on schema log to smartpos_app, smartpos_worker;

-- Place, hash and identity of the newest commit. One row; its lock is the order of the world.
create table log.head (
    id             smallint primary key default 1 check (id = 1),
    pos            bigint      not null default 0,
    hash           bytea       not null default decode(repeat('00', 32), 'hex'),
    epoch          integer     not null default 1,   -- raised when the database was restored to the past
    recorded_at    timestamptz not null default '-infinity',
    partition_end  bigint      not null default 0,   -- last position that has a partition
    partition_size bigint      not null default 5000000,
    log_id         uuid        not null default gen_random_uuid()
);
insert into log.head default values;

create table log.event (
    pos            bigint      not null,
    tenant         uuid        not null,
    stream_type    text        not null,
    stream_id      uuid        not null,
    version        bigint      not null,
    type           text        not null,
    schema_version smallint    not null,
    slice          smallint    not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    correlation_id uuid        not null,
    causation_id   uuid        not null,
    actor          text        not null,
    meta           bytea       not null,
    payload        bytea       not null,   -- exact UTF-8 JSON; read it with convert_from(payload, 'UTF8')
    pii            bytea,                  -- personal data as ciphertext
    hash           bytea       not null,
    primary key (pos)
) partition by range (pos);

-- Newest version of each stream: what an expected version is checked against.
create table log.stream_head (
    tenant      uuid   not null,
    stream_type text   not null,
    stream_id   uuid   not null,
    version     bigint not null,
    primary key (tenant, stream_type, stream_id)
) with (fillfactor = 80);

-- Idempotency keys and uniqueness claims; never expire.
create table log.append_key (
    tenant       uuid   not null,
    scope        text   not null,
    key          text   not null,
    request_hash bytea  not null,
    fingerprint  bytea,
    first_pos    bigint,
    last_pos     bigint,
    response     bytea,
    primary key (tenant, scope, key)
);

-- One row per commit: hash = SHA-256(prev_hash || first_pos || recorded_at in microseconds || merkle root of event hashes).
create table log.commit (
    first_pos   bigint      primary key,
    last_pos    bigint      not null,
    recorded_at timestamptz not null,
    prev_hash   bytea       not null,
    hash        bytea       not null
);

-- Folded states, written beside the path; safe to lose.
create table log.snapshot (
    tenant       uuid     not null,
    stream_type  text     not null,
    stream_id    uuid     not null,
    version      bigint   not null,
    state_schema smallint not null,
    state        bytea    not null,
    primary key (tenant, stream_type, stream_id)
);

create function log.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % on %.% is refused', tg_op, tg_table_schema, tg_table_name
        using errcode = 'restrict_violation';
end
$$;
create trigger event_append_only before update or delete on log.event
    for each row execute function log.refuse_change();
create trigger append_key_append_only before update or delete on log.append_key
    for each row execute function log.refuse_change();
create trigger append_key_no_truncate before truncate on log.append_key
    for each statement execute function log.refuse_change();
create trigger commit_append_only before update or delete on log.commit
    for each row execute function log.refuse_change();
create trigger commit_no_truncate before truncate on log.commit
    for each statement execute function log.refuse_change();
create trigger event_no_truncate before truncate on log.event
    for each statement execute function log.refuse_change();

-- Adds the next partition. Called by the append function when it reaches the end of the last one.
create function log.add_partition() returns void language plpgsql security definer set search_path = pg_catalog, log as $$
declare
    lower_pos bigint;
    size      bigint;
    name      text;
begin
    select partition_end + 1, partition_size into lower_pos, size from log.head where id = 1 for update;
    name := 'event_' || lpad(lower_pos::text, 15, '0');
    -- Made beside the log, then attached: `partition of` would wait for every reader of the log, and all writers with it.
    execute format('create table log.%I (like log.event including all)', name);
    execute format('alter table log.event attach partition log.%I for values from (%s) to (%s)', name, lower_pos, lower_pos + size);
    -- The head lock already forbids a second (stream, version); this index says so once more and finds a stream's events.
    execute format('create unique index on log.%I (stream_id, version, tenant, stream_type)', name);
    execute format('create trigger event_no_truncate before truncate on log.%I for each statement execute function log.refuse_change()', name);
    execute format('grant select on log.%I to smartpos_worker', name);
    update log.head set partition_end = lower_pos + size - 1 where id = 1;
end
$$;
select log.add_partition();

grant select on log.head, log.event, log.commit, log.append_key, log.stream_head to smartpos_worker;
