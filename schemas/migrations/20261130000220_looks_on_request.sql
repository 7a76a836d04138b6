-- Somebody wants to know now how a payment stands at its provider: its books are asked once, whatever the schedule says.

create function process.look_now(p_tenant uuid, p_key text, p_task jsonb, p_at timestamptz) returns void
language sql security definer set search_path = pg_catalog, process as $$
    insert into process.task (key, tenant, task, due_at) values (p_key, p_tenant, p_task, p_at) on conflict (key) do nothing
$$;

-- Whether that look is still to be made.
create function process.looks_now(p_tenant uuid, p_key text) returns boolean
language sql stable security definer set search_path = pg_catalog, process as $$
    select exists (select from process.task t where t.key = p_key and t.tenant = p_tenant)
$$;

revoke all on function process.look_now, process.looks_now from public;
grant execute on function process.look_now, process.looks_now to smartpos_app, smartpos_worker;
