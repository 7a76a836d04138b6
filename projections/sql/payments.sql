create table payments (
    key                text        primary key,
    tenant             uuid        not null,
    store_id           text        not null,
    status             text        not null,
    tender             text        not null,
    currency           text        not null,
    amount             bigint      not null,
    captured           bigint      not null,
    tip                bigint      not null,
    disputed           bigint      not null,
    refunded           bigint      not null,
    parked             bigint      not null,
    bill_id            text,
    order_id           text,
    provider           text,
    reference          text,
    provider_id        text,
    attempt_id         text,
    acquirer           text,
    transaction_id     text,
    merchant_reference text,
    expires_at         timestamptz,
    paid_at            timestamptz,
    outcome_unknown    boolean     not null,
    needs_attention    boolean     not null,
    unmatched          boolean     not null,
    opened_at          timestamptz not null,
    opened_pos         bigint      not null,
    updated_at         timestamptz not null,
    updated_pos        bigint      not null,
    version            bigint      not null,
    document           jsonb       not null
) with (fillfactor = 80);
create index on payments (tenant, opened_pos);
create index on payments (store_id, opened_pos);
create index on payments (bill_id);
create index on payments (reference) where reference is not null;
create index on payments (provider_id) where provider_id is not null;
create index on payments (transaction_id) where transaction_id is not null;
create index on payments (tenant, opened_pos) where needs_attention;
