-- A call-back that proved its sender and could not be read is parked whole, until a build that reads it looks into it again. It names
-- nothing, so nothing takes it up by itself; `problem` says why it was not read. One row for each, however often it is sent.
create unique index webhook_unread on process.webhook (account, sha256(body)) where state = 'parked' and problem is not null;

create function process.park_unread_webhook(p_id uuid, p_provider text, p_account text, p_tenant uuid, p_problem text, p_at timestamptz,
    p_headers jsonb, p_body bytea) returns void
language sql security definer set search_path = pg_catalog, process as $$
    insert into process.webhook as w (id, provider, account, tenant, received_at, headers, body, signature, state, problem)
    values (p_id, p_provider, p_account, p_tenant, p_at, p_headers, p_body, 'ok', 'parked', p_problem)
    on conflict (account, sha256(body)) where state = 'parked' and problem is not null do update set deliveries = w.deliveries + 1
$$;

revoke all on function process.park_unread_webhook from public;
grant execute on function process.park_unread_webhook to smartpos_app, smartpos_worker;
