-- When an attempt is looked at next: shown to whoever waits for its outcome.
create index task_of_attempt on process.task ((task ->> 'attempt_id')) where task ->> 'attempt_id' is not null;

-- The next look at each of a merchant's attempts; nothing for one that waits for none.
create function process.next_looks(p_tenant uuid, p_attempts text[]) returns table (attempt text, due_at timestamptz)
language sql stable security definer set search_path = pg_catalog, process as $$
    select t.task ->> 'attempt_id', min(t.due_at) from process.task t
    where t.task ->> 'attempt_id' = any (p_attempts) and t.tenant = p_tenant and t.task ->> 'kind' in ('inquire', 'stop')
    group by 1
$$;

-- Who had a stored call-back looked into once more, when, and whether it was taken up. Never changed.
create table process.webhook_reprocess (
    webhook uuid        not null,
    tenant  uuid,
    at      timestamptz not null,
    by      text        not null,
    taken   boolean     not null
);
create index webhook_reprocess_of on process.webhook_reprocess (webhook, at);

-- Notes it for one that cannot be read; the others are noted where they are taken up.
create function process.note_reprocess(p_tenant uuid, p_id uuid, p_at timestamptz, p_by text) returns void
language sql security definer set search_path = pg_catalog, process as $$
    insert into process.webhook_reprocess (webhook, tenant, at, by, taken)
    select w.id, w.tenant, p_at, p_by, false from process.webhook w where w.tenant is not distinct from p_tenant and w.id = p_id
$$;

-- The newest twenty of one call-back, oldest first.
create function process.reprocesses_of(p_id uuid) returns jsonb
language sql stable security definer set search_path = pg_catalog, process as $$
    select coalesce(jsonb_agg(jsonb_build_object('at', r.at, 'by', r.by, 'taken', r.taken) order by r.at), '[]'::jsonb)
    from (select * from process.webhook_reprocess n where n.webhook = p_id order by n.at desc limit 20) r
$$;

drop function process.list_webhooks(uuid, text, text, bigint, integer);
-- A page of what one merchant may see, or, without a merchant, of what belongs to none; newest first. Without the bodies: they hold
-- what the payer's bank says of the payer. Bounds of time and place include their ends.
create function process.list_webhooks(p_tenant uuid, p_state text, p_account text, p_provider text, p_from timestamptz, p_to timestamptz,
    p_first bigint, p_last bigint, p_before bigint, p_limit integer)
returns table (id uuid, place bigint, provider text, account text, signature text, state text, delivery_id text, reference text,
    provider_id text, transaction_id text, problem text, received_at timestamptz, deliveries integer, bytes integer, reprocesses jsonb)
language plpgsql stable security definer set search_path = pg_catalog, process as $$
begin
    -- Planned for the filters that are given: a plan for all filters reads every row.
    return query execute
        'select w.id, w.place, w.provider, w.account, w.signature, w.state, w.delivery_id, w.reference, w.provider_id, w.transaction_id,
                w.problem, w.received_at, w.deliveries, octet_length(w.body), process.reprocesses_of(w.id)
         from process.webhook w where '
        || case when p_tenant is null then 'w.tenant is null' else 'w.tenant = $1' end
        || case when p_state is null then '' else ' and w.state = $2' end
        || case when p_account is null then '' else ' and w.account = $3' end
        || case when p_provider is null then '' else ' and w.provider = $4' end
        || case when p_from is null then '' else ' and w.received_at >= $5' end
        || case when p_to is null then '' else ' and w.received_at <= $6' end
        || case when p_first is null then '' else ' and w.place >= $7' end
        || case when p_last is null then '' else ' and w.place <= $8' end
        || case when p_before is null then '' else ' and w.place < $9' end
        || ' order by w.place desc limit $10'
    using p_tenant, p_state, p_account, p_provider, p_from, p_to, p_first, p_last, p_before, p_limit;
end
$$;

drop function process.find_webhook(uuid, uuid);
-- One of them, as it came.
create function process.find_webhook(p_tenant uuid, p_id uuid)
returns table (id uuid, place bigint, provider text, account text, signature text, state text, delivery_id text, reference text,
    provider_id text, transaction_id text, problem text, received_at timestamptz, deliveries integer, bytes integer, reprocesses jsonb,
    headers jsonb, body bytea)
language sql stable security definer set search_path = pg_catalog, process as $$
    select w.id, w.place, w.provider, w.account, w.signature, w.state, w.delivery_id, w.reference, w.provider_id, w.transaction_id,
           w.problem, w.received_at, w.deliveries, octet_length(w.body), process.reprocesses_of(w.id), w.headers, w.body
    from process.webhook w where w.tenant is not distinct from p_tenant and w.id = p_id
$$;

drop function process.reopen_webhook(uuid, uuid, text, text, text, text, timestamptz, text, jsonb);
-- Looks into a stored delivery again, as it reads now, and notes who wanted it; false when another row is that very delivery already.
create function process.reopen_webhook(p_tenant uuid, p_id uuid, p_delivery text, p_reference text, p_provider_id text,
    p_transaction text, p_at timestamptz, p_state text, p_task jsonb, p_by text) returns boolean
language plpgsql security definer set search_path = pg_catalog, process as $$
begin
    begin
        update process.webhook w set signature = 'ok', state = p_state, delivery_id = p_delivery, reference = p_reference,
            provider_id = p_provider_id, transaction_id = p_transaction, problem = null, slot = null
        where w.tenant is not distinct from p_tenant and w.id = p_id;
    exception when unique_violation then
        perform process.note_reprocess(p_tenant, p_id, p_at, p_by);
        return false;
    end;
    if p_state = 'received' then
        insert into process.task (key, tenant, task, due_at)
        values ('webhook:' || p_id, coalesce(p_tenant, '00000000-0000-0000-0000-000000000000'), p_task, p_at)
        on conflict (key) do update set task = excluded.task, due_at = excluded.due_at;
    end if;
    insert into process.webhook_reprocess (webhook, tenant, at, by, taken) values (p_id, p_tenant, p_at, p_by, true);
    return true;
end
$$;

grant select, insert on process.webhook_reprocess to smartpos_worker;
revoke all on all functions in schema process from public;
grant execute on function process.next_looks, process.note_reprocess, process.list_webhooks, process.find_webhook, process.reopen_webhook
    to smartpos_app, smartpos_worker;
