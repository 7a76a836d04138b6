create table order_timeline (
    key            text        primary key,
    tenant         uuid        not null,
    store_id       text        not null,
    order_id       text        not null,
    version        bigint      not null,
    pos            bigint      not null,
    event_type     text        not null,
    schema_version smallint    not null,
    actor          text        not null,
    occurred_at    timestamptz not null,
    recorded_at    timestamptz not null,
    correlation_id text        not null,
    data           jsonb       not null
);
create index on order_timeline (order_id, version);
