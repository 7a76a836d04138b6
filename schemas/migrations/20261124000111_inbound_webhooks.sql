-- Call-backs, stored as they came with what their signature proved, before they are acknowledged.
--
--   received     proved its sender; a task looks into it
--   parked       names a payment that nobody here knows (yet); looked at again when the name becomes known
--   done         what it spoke of is in the provider's books, and so in the log; or it spoke of nothing of ours
--   unconfirmed  the provider's books do not show what it spoke of: for a person
--   refused      did not prove its sender, or cannot be read; no effect. The newest few of each account are kept
alter table process.webhook drop constraint webhook_provider_transaction_id_key;
alter table process.webhook rename column transaction_id to delivery_id;
alter table process.webhook
    alter column delivery_id drop not null,
    add column place          bigint generated always as identity,
    add column account        text,                        -- pac_..., or the provider's name for the platform's own account
    add column tenant         uuid,                        -- of the account, or of the payment once that is known
    add column signature      text not null default 'ok' check (signature in ('ok', 'bad', 'stale', 'malformed')),
    add column state          text not null default 'done' check (state in ('received', 'parked', 'done', 'unconfirmed', 'refused')),
    add column reference      text,                        -- our name for the attempt
    add column provider_id    text,                        -- the provider's name for it
    add column transaction_id text,                        -- the money that it speaks of
    add column problem        text,
    add column slot           smallint;                    -- only of refused ones
update process.webhook set account = provider, transaction_id = delivery_id;
alter table process.webhook alter column account set not null, alter column state drop default, alter column signature drop default;
-- One row per delivery that proved its sender, however often it comes.
create unique index webhook_told_once on process.webhook (account, delivery_id) where state <> 'refused';
-- Refused ones go round in a ring per account and reason, so that nobody fills the disk.
create unique index webhook_refused on process.webhook (account, signature, slot) where state = 'refused';
create index webhook_page on process.webhook (tenant, place);
create index webhook_parked on process.webhook (provider, place) where state = 'parked';
create sequence process.webhook_refusal;

-- Which attempt a provider's own name for it means.
create table process.provider_object (
    account     text  not null,
    provider_id text  not null,
    reference   text  not null,
    primary key (account, provider_id)
);

revoke all on process.webhook from smartpos_app;
grant select, insert, update on process.webhook, process.provider_object to smartpos_worker;

-- Stores a delivery that proved its sender, and the task that looks into it; a repeat is counted. Answers whether it is new.
create function process.take_webhook(p_id uuid, p_provider text, p_account text, p_tenant uuid, p_delivery text, p_reference text,
    p_provider_id text, p_transaction text, p_at timestamptz, p_headers jsonb, p_body bytea, p_state text, p_task jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, process as $$
declare
    stored record;
begin
    insert into process.webhook as w (id, provider, account, tenant, delivery_id, reference, provider_id, transaction_id, received_at,
                                      headers, body, signature, state)
    values (p_id, p_provider, p_account, p_tenant, p_delivery, p_reference, p_provider_id, p_transaction, p_at, p_headers, p_body, 'ok', p_state)
    on conflict (account, delivery_id) where state <> 'refused' do update
        set deliveries = w.deliveries + 1,
            -- Sent once more, perhaps by a person: the books are looked at once more.
            state = case when w.state = 'unconfirmed' then 'received' else w.state end
    returning w.id, w.state, (xmax = 0) as fresh into stored;
    if stored.state = 'received' then
        insert into process.task (key, tenant, task, due_at)
        values ('webhook:' || stored.id, coalesce(p_tenant, '00000000-0000-0000-0000-000000000000'),
                p_task, p_at)
        on conflict (key) do nothing;
    end if;
    return stored.fresh;
end
$$;

-- Keeps a delivery that was refused, in place of the oldest of its kind.
create function process.refuse_webhook(p_id uuid, p_provider text, p_account text, p_tenant uuid, p_signature text, p_problem text,
    p_at timestamptz, p_headers jsonb, p_body bytea, p_slots integer) returns void
language sql security definer set search_path = pg_catalog, process as $$
    insert into process.webhook as w (id, provider, account, tenant, received_at, headers, body, signature, state, problem, slot)
    values (p_id, p_provider, p_account, p_tenant, p_at, p_headers, p_body, p_signature, 'refused', p_problem,
            (nextval('process.webhook_refusal') % p_slots)::smallint)
    on conflict (account, signature, slot) where state = 'refused' do update
        set id = excluded.id, tenant = excluded.tenant, received_at = excluded.received_at, headers = excluded.headers,
            body = excluded.body, problem = excluded.problem, place = default
$$;

-- A page of what one merchant may see, or, without a merchant, of what belongs to none; newest first. Without the bodies: they hold
-- what the payer's bank says of the payer.
create function process.list_webhooks(p_tenant uuid, p_state text, p_account text, p_before bigint, p_limit integer)
returns table (id uuid, place bigint, provider text, account text, signature text, state text, delivery_id text, reference text,
    provider_id text, transaction_id text, problem text, received_at timestamptz, deliveries integer, bytes integer)
language sql stable security definer set search_path = pg_catalog, process as $$
    select w.id, w.place, w.provider, w.account, w.signature, w.state, w.delivery_id, w.reference, w.provider_id, w.transaction_id,
           w.problem, w.received_at, w.deliveries, octet_length(w.body)
    from process.webhook w
    where w.tenant is not distinct from p_tenant and (p_state is null or w.state = p_state) and (p_account is null or w.account = p_account)
      and (p_before is null or w.place < p_before)
    order by w.place desc limit p_limit
$$;

-- One of them, as it came.
create function process.find_webhook(p_tenant uuid, p_id uuid)
returns table (id uuid, place bigint, provider text, account text, signature text, state text, delivery_id text, reference text,
    provider_id text, transaction_id text, problem text, received_at timestamptz, deliveries integer, bytes integer,
    headers jsonb, body bytea)
language sql stable security definer set search_path = pg_catalog, process as $$
    select w.id, w.place, w.provider, w.account, w.signature, w.state, w.delivery_id, w.reference, w.provider_id, w.transaction_id,
           w.problem, w.received_at, w.deliveries, octet_length(w.body), w.headers, w.body
    from process.webhook w where w.tenant is not distinct from p_tenant and w.id = p_id
$$;

-- Looks into a stored delivery again, as it reads now; false when another row is that very delivery already.
create function process.reopen_webhook(p_tenant uuid, p_id uuid, p_delivery text, p_reference text, p_provider_id text,
    p_transaction text, p_at timestamptz, p_state text, p_task jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, process as $$
begin
    begin
        update process.webhook w set signature = 'ok', state = p_state, delivery_id = p_delivery, reference = p_reference,
            provider_id = p_provider_id, transaction_id = p_transaction, problem = null, slot = null
        where w.tenant is not distinct from p_tenant and w.id = p_id;
    exception when unique_violation then
        return false;
    end;
    if p_state = 'received' then
        insert into process.task (key, tenant, task, due_at)
        values ('webhook:' || p_id, coalesce(p_tenant, '00000000-0000-0000-0000-000000000000'), p_task, p_at)
        on conflict (key) do update set task = excluded.task, due_at = excluded.due_at;
    end if;
    return true;
end
$$;

revoke all on all functions in schema process from public;
grant execute on function process.take_webhook, process.refuse_webhook, process.list_webhooks, process.find_webhook, process.reopen_webhook
    to smartpos_app, smartpos_worker;
