create table merchants (
    key            text        primary key,
    tenant         uuid        not null,
    psp_id         text        not null,
    code           text        not null,
    name           text        not null,
    status         text        not null,
    opened_at      timestamptz not null,
    opened_pos     bigint      not null,
    updated_at     timestamptz not null,
    updated_pos    bigint      not null,
    version        bigint      not null,
    document       jsonb       not null
);
create index on merchants (psp_id, opened_pos);
