-- What was said to and heard from payment providers, masked: for whoever must explain a payment. Not a source of any decision.
create schema if not exists gateway;
grant usage on schema gateway to smartpos_app, smartpos_worker;

create table gateway.exchange (
    id            bigint      generated always as identity primary key,
    tenant        uuid        not null,
    subject       text        not null,   -- the attempt (att_...) or refund that the call was about
    provider      text        not null,
    operation     text        not null,   -- start, inquire, capture, ..., or call_back
    request_line  text        not null,
    request_body  text        not null,
    status        integer,                -- null: no answer came
    response_body text        not null,
    sent_at       timestamptz not null,
    took_ms       bigint      not null
);
create index exchange_subject on gateway.exchange (tenant, subject, id);

create function gateway.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'exchanges are only ever added: % is refused', tg_op using errcode = 'restrict_violation';
end
$$;
create trigger exchange_append_only before update or delete on gateway.exchange
    for each row execute function gateway.refuse_change();
create trigger exchange_no_truncate before truncate on gateway.exchange
    for each statement execute function gateway.refuse_change();

alter table gateway.exchange enable row level security;
alter table gateway.exchange force row level security;
create policy worker_reads on gateway.exchange for select to smartpos_worker using (true);
create policy worker_adds on gateway.exchange for insert to smartpos_worker with check (true);
create policy app_reads on gateway.exchange for select to smartpos_app
    using (tenant = nullif(current_setting('smartpos.tenant', true), '')::uuid);
grant select, insert on gateway.exchange to smartpos_worker;
grant select on gateway.exchange to smartpos_app;
