create table orders (
    key            text        primary key,
    tenant         uuid        not null,
    store_id       text        not null,
    status         text        not null,
    order_type     text        not null,
    table_number   text,
    order_number   text,
    business_date  date        not null,
    currency       text        not null,
    total          bigint,
    line_count     integer     not null,
    bill_id        text,
    opened_at      timestamptz not null,
    opened_pos     bigint      not null,
    updated_at     timestamptz not null,
    updated_pos    bigint      not null,
    version        bigint      not null,
    document       jsonb       not null
) with (fillfactor = 80);
create index on orders (tenant, opened_pos);
create index on orders (store_id, opened_pos);
