-- The task of a call-back can be left leased to the worker of the process that takes the call-back in, which is then handed it: as process
-- managers do with theirs. Only of one that is new: the task of a repeat is somebody's already. Who names no lease leaves the task free, as
-- processes of the build before do.

drop function process.take_webhook;

create function process.take_webhook(p_id uuid, p_provider text, p_account text, p_tenant uuid, p_delivery text, p_reference text,
    p_provider_id text, p_transaction text, p_at timestamptz, p_headers jsonb, p_body bytea, p_state text, p_task jsonb,
    p_leased_until timestamptz default null) returns boolean
language plpgsql security definer set search_path = pg_catalog, process set plan_cache_mode = force_generic_plan as $$
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
        insert into process.task (key, tenant, task, due_at, leased_until)
        values ('webhook:' || stored.id, coalesce(p_tenant, '00000000-0000-0000-0000-000000000000'),
                p_task, p_at, case when stored.fresh then p_leased_until end)
        on conflict (key) do nothing;
    end if;
    return stored.fresh;
end
$$;

revoke all on function process.take_webhook from public;
grant execute on function process.take_webhook to smartpos_app, smartpos_worker;
