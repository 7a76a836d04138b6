-- A credential's secret is replaced: the one before it signs as well until a moment, so that a service changes over without a gap.
alter table partner.credential
    add column previous_secret bytea,                            -- sealed; signs as well until previous_until
    add column previous_until  timestamptz,
    add column rotations       text[] not null default '{}',     -- the idempotency keys of the last rotations, newest first
    add check ((previous_secret is null) = (previous_until is null)),
    add check (secret is not null or previous_secret is null);

-- `rotated`; `before`: the request rotated before; `under_way`: the secret before the last rotation still signs; `revoked`; `missing`.
-- Without p_until nothing of the former secrets is kept.
create function partner.rotate_credential(
    p_tenant uuid, p_store uuid, p_key_id text, p_secret bytea, p_request text, p_until timestamptz, p_at timestamptz
) returns text
language plpgsql security definer set search_path = pg_catalog, partner as $$
declare
    c partner.credential;
begin
    select * into c from partner.credential k
        where k.tenant = p_tenant and k.key_id = p_key_id and (p_store is null or k.store = p_store) for update;
    if not found then
        return 'missing';
    elsif p_request = any (c.rotations) then
        return 'before';
    elsif c.revoked_at is not null then
        return 'revoked';
    elsif p_until is not null and c.previous_until > p_at then
        return 'under_way';
    end if;
    update partner.credential k set
        secret = p_secret,
        previous_secret = case when p_until is null then null else c.secret end,
        previous_until = p_until,
        rotations = (array[p_request] || c.rotations)[1:20]
        where k.key_id = p_key_id;
    return 'rotated';
end
$$;

-- As before, and with the former secret.
create or replace function partner.revoke_credential(p_tenant uuid, p_store uuid, p_key_id text, p_by text, p_at timestamptz)
returns setof partner.credential
language plpgsql security definer set search_path = pg_catalog, partner as $$
begin
    update partner.credential c
        set secret = null, previous_secret = null, previous_until = null, revoked_by = p_by, revoked_at = p_at
        where c.tenant = p_tenant and c.key_id = p_key_id and c.revoked_at is null and (p_store is null or c.store = p_store);
    return query select * from partner.credential c
        where c.tenant = p_tenant and c.key_id = p_key_id and (p_store is null or c.store = p_store);
end
$$;

revoke all on function partner.rotate_credential from public;
grant execute on function partner.rotate_credential to smartpos_app;
