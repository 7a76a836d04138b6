-- Which provider accounts there are, and how far each has come: asked before every routing, so that no cache outlives a change.
-- The primary key of log.stream_head begins with exactly these columns.
create function log.provider_accounts(p_tenant uuid) returns table (stream_id uuid, version bigint)
language sql stable security definer set search_path = pg_catalog, log as $$
    select h.stream_id, h.version from log.stream_head h
    where h.tenant = p_tenant and h.stream_type = 'provider_account' order by h.stream_id
$$;

-- Call-backs name an account and no merchant.
create index stream_head_provider_account on log.stream_head (stream_id) where stream_type = 'provider_account';
create function log.provider_account_owner(p_account uuid) returns uuid
language sql stable security definer set search_path = pg_catalog, log as $$
    select h.tenant from log.stream_head h where h.stream_type = 'provider_account' and h.stream_id = p_account
$$;

revoke all on function log.provider_accounts, log.provider_account_owner from public;
grant execute on function log.provider_accounts, log.provider_account_owner to smartpos_app, smartpos_worker;
