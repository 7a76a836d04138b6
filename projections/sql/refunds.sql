create table refunds (
    key                text        primary key,
    tenant             uuid        not null,
    store_id           text        not null,
    status             text        not null,
    payment_intent_id  text,
    bill_id            text,
    business_date      date        not null,
    currency           text        not null,
    amount             bigint      not null,
    tender             text        not null,
    acquirer           text,
    destination        text        not null,
    reason             text        not null,
    provider_reference text,
    outcome_unknown    boolean     not null,
    needs_attention    boolean     not null,
    failure_code       text,
    completed_at       timestamptz,
    opened_at          timestamptz not null,
    opened_pos         bigint      not null,
    updated_at         timestamptz not null,
    updated_pos        bigint      not null,
    version            bigint      not null,
    document           jsonb       not null
);
create index on refunds (tenant, opened_pos);
create index on refunds (payment_intent_id);
create index on refunds (bill_id);
create index on refunds (tenant, opened_pos) where needs_attention;
