create table bills (
    key            text        primary key,
    tenant         uuid        not null,
    store_id       text        not null,
    status         text        not null,
    business_date  date        not null,
    order_ids      jsonb       not null,
    currency       text        not null,
    total          bigint      not null,
    paid_total     bigint      not null,
    due            bigint      not null,
    refunded_total bigint      not null,
    parked_total   bigint      not null,
    paid_at        timestamptz,
    opened_at      timestamptz not null,
    opened_pos     bigint      not null,
    updated_at     timestamptz not null,
    updated_pos    bigint      not null,
    version        bigint      not null,
    document       jsonb       not null
) with (fillfactor = 80);
create index on bills (tenant, opened_pos);
create index on bills (store_id, opened_pos);
