create table webhook_endpoints (
    key         text        primary key,
    tenant      uuid        not null,
    status      text        not null,
    document    jsonb       not null,
    secrets     jsonb       not null,   -- ciphertexts, hex, the newest first; gone once deleted
    resends     jsonb       not null,
    opened_at   timestamptz not null,
    opened_pos  bigint      not null,
    updated_at  timestamptz not null,
    updated_pos bigint      not null,
    version     bigint      not null
);
create index on webhook_endpoints (tenant, opened_pos);
