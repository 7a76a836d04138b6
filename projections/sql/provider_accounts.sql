create table provider_accounts (
    key            text        primary key,
    tenant         uuid        not null,
    store_id       text,
    provider       text        not null,
    status         text        not null,
    opened_at      timestamptz not null,
    opened_pos     bigint      not null,
    updated_at     timestamptz not null,
    updated_pos    bigint      not null,
    version        bigint      not null,
    document       jsonb       not null
);
create index on provider_accounts (tenant, opened_pos);
