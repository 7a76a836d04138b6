-- What is read again and again while the platform runs must not grow with what is stored.

-- Watches wait behind what somebody waits for at a counter. Each kind has an index of its own, so that a worker takes the first
-- due ones of a long queue without sorting it.
alter table process.task
    add column watch boolean not null generated always as (coalesce(task ->> 'kind' = 'inquire' and task ->> 'mode' = 'watch', false)) stored;
create index task_due_soon on process.task (due_at) where not watch;
create index task_due_watch on process.task (due_at) where watch;
drop index process.task_due;

-- Parked call-backs are looked at in turn.
create index webhook_waiting on process.webhook (place) where state = 'parked';
-- The few that are not done, among very many that are.
create index webhook_page_of_state on process.webhook (tenant, state, place);

-- As before, planned for the filters that are given: `is not distinct from` has no index, and a plan for all filters reads every row.
create or replace function process.list_webhooks(p_tenant uuid, p_state text, p_account text, p_before bigint, p_limit integer)
returns table (id uuid, place bigint, provider text, account text, signature text, state text, delivery_id text, reference text,
    provider_id text, transaction_id text, problem text, received_at timestamptz, deliveries integer, bytes integer)
language plpgsql stable security definer set search_path = pg_catalog, process as $$
begin
    return query execute
        'select w.id, w.place, w.provider, w.account, w.signature, w.state, w.delivery_id, w.reference, w.provider_id, w.transaction_id,
                w.problem, w.received_at, w.deliveries, octet_length(w.body)
         from process.webhook w where '
        || case when p_tenant is null then 'w.tenant is null' else 'w.tenant = $1' end
        || case when p_state is null then '' else ' and w.state = $2' end
        || case when p_account is null then '' else ' and w.account = $3' end
        || case when p_before is null then '' else ' and w.place < $4' end
        || ' order by w.place desc limit $5'
    using p_tenant, p_state, p_account, p_before, p_limit;
end
$$;
