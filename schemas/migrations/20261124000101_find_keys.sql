-- The uses of one idempotency key within some scopes of a tenant, with the time of their commits.
create function log.find_keys(p_tenant uuid, p_scopes text[], p_key text)
returns table (scope text, fingerprint bytea, response bytea, last_pos bigint, recorded_at timestamptz)
language sql stable security definer set search_path = pg_catalog, log as $$
    select k.scope, k.fingerprint, k.response, k.last_pos,
        (select c.recorded_at from log.commit c where c.first_pos <= k.last_pos order by c.first_pos desc limit 1)
    from log.append_key k
    where k.tenant = p_tenant and k.scope = any(p_scopes) and k.key = p_key
    order by k.scope
$$;
revoke all on function log.find_keys from public;
grant execute on function log.find_keys to smartpos_app;
