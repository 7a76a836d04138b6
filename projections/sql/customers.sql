create table customers (
    key            text        primary key,
    tenant         uuid        not null,
    status         text        not null,
    erasure_reason text,
    sealed         text,        -- the newest profile as ciphertext, hex; gone once erased
    opened_at      timestamptz not null,
    opened_pos     bigint      not null,
    updated_at     timestamptz not null,
    updated_pos    bigint      not null,
    version        bigint      not null
);
create index on customers (tenant, opened_pos);
