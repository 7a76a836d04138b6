create table events (
    key         text        primary key,
    tenant      uuid        not null,
    store_id    text,
    pos         bigint      not null,
    event_type  text        not null,   -- the public type
    object_type text        not null,
    object_id   text        not null,
    version     bigint      not null,
    occurred_at timestamptz not null,
    historic    boolean     not null    -- imported: in the feed, not delivered
);
create index on events (tenant, pos);
