-- Outbound webhooks: how far each endpoint has been served, what is still to be delivered, what was tried. Cursors and
-- deliveries follow from the log; a delivery that is lost with its row is made again from the cursor.

-- A deleted endpoint's secrets become unreadable wherever they were copied to, in the transaction that stores the fact.
create trigger event_deletes_endpoint after insert on log.event
    for each row when (new.type = 'webhook_endpoint.deleted') execute function privacy.forget_subject();

create table process.webhook_cursor (
    endpoint      uuid   primary key,
    tenant        uuid   not null,
    pos           bigint not null,             -- events up to here became deliveries
    resends_pos   bigint not null,             -- requests to send again up to here were taken in
    failing_since timestamptz,                 -- nothing but failures since
    paused_until  timestamptz                  -- the endpoint asked for a pause
);

-- A range that is being delivered again, in the way of a cursor.
create table process.webhook_resend (
    endpoint  uuid   not null,
    requested bigint not null,                 -- position of the request
    pos       bigint not null,
    until     bigint not null,
    primary key (endpoint, requested)
);

create table process.webhook_delivery (
    endpoint     uuid        not null,
    event        text        not null,         -- evt_…
    tenant       uuid        not null,
    pos          bigint      not null,
    event_type   text        not null,
    status       text        not null default 'pending',   -- pending, delivered, failed
    attempts     integer     not null default 0,           -- in all
    tries        integer     not null default 0,           -- since it was last asked for
    due_at       timestamptz,                              -- null: nothing to do
    leased_until timestamptz,
    primary key (endpoint, event)
);
create index webhook_delivery_due on process.webhook_delivery (endpoint, due_at) where due_at is not null;
create index webhook_delivery_pos on process.webhook_delivery (endpoint, pos desc);

create table process.webhook_attempt (
    endpoint   uuid        not null,
    event      text        not null,
    n          integer     not null,
    tenant     uuid        not null,
    at         timestamptz not null,
    status     smallint,                       -- HTTP; null: no answer
    elapsed_ms integer     not null,
    error      text,
    answer     text,                           -- first 1 KiB
    primary key (endpoint, event, n)
);

grant select, insert, update, delete on process.webhook_cursor, process.webhook_resend, process.webhook_delivery,
    process.webhook_attempt to smartpos_worker;
grant select on process.webhook_delivery, process.webhook_attempt to smartpos_app;

do $$
declare
    name text;
begin
    foreach name in array array['webhook_delivery', 'webhook_attempt'] loop
        execute format('alter table process.%I enable row level security', name);
        execute format('alter table process.%I force row level security', name);
        execute format('create policy worker on process.%I to smartpos_worker using (true) with check (true)', name);
        execute format('create policy app on process.%I for select to smartpos_app
            using (tenant = (select nullif(current_setting(''smartpos.tenant'', true), '''')::uuid))', name);
    end loop;
end
$$;
