-- Credentials of services that sign their requests. The secret is stored sealed under the master key, which is not in the
-- database, and is destroyed with the credential; it is not an event, for the log cannot forget.
create schema partner;
grant usage on schema partner to smartpos_app, smartpos_worker;

create table partner.credential (
    key_id     text        primary key check (key_id ~ '^pk_[0-9A-Z]{26}$'),
    tenant     uuid        not null,
    psp        uuid        not null,
    store      uuid,                      -- the only store that it reaches
    role       text        not null,
    label      text        not null,
    nonce_only boolean     not null,      -- takes no request that could be sent twice
    secret     bytea,                     -- sealed; null: revoked, for ever
    request    text        not null,      -- the idempotency key of the request that made it
    created_by text        not null,
    created_at timestamptz not null,
    revoked_by text,
    revoked_at timestamptz,
    unique (tenant, request),
    check ((secret is null) = (revoked_at is not null))
);

-- Nonces that were used, for as long as their time-stamp would be believed and then some.
create table partner.nonce (
    key_id     text        not null,
    nonce      text        not null,
    expires_at timestamptz not null,
    primary key (key_id, nonce)
);
create index nonce_expires_at on partner.nonce (expires_at);

-- False: the request made a credential before.
create function partner.add_credential(
    p_key_id text, p_tenant uuid, p_psp uuid, p_store uuid, p_role text, p_label text, p_nonce_only boolean, p_secret bytea,
    p_request text, p_by text, p_at timestamptz
) returns boolean
language plpgsql security definer set search_path = pg_catalog, partner as $$
begin
    insert into partner.credential (key_id, tenant, psp, store, role, label, nonce_only, secret, request, created_by, created_at)
        values (p_key_id, p_tenant, p_psp, p_store, p_role, p_label, p_nonce_only, p_secret, p_request, p_by, p_at)
        on conflict (tenant, request) do nothing;
    return found;
end
$$;

create function partner.find_credential(p_key_id text) returns setof partner.credential
language sql stable security definer set search_path = pg_catalog, partner as $$
    select * from partner.credential c where c.key_id = p_key_id
$$;

-- The credentials of one merchant, newest first; at most 200.
create function partner.list_credentials(p_tenant uuid) returns setof partner.credential
language sql stable security definer set search_path = pg_catalog, partner as $$
    select * from partner.credential c where c.tenant = p_tenant order by c.created_at desc, c.key_id desc limit 200
$$;

-- The credential with its secret destroyed; nothing when the merchant has no such credential. Repeating changes nothing.
create function partner.revoke_credential(p_tenant uuid, p_key_id text, p_by text, p_at timestamptz)
returns setof partner.credential
language plpgsql security definer set search_path = pg_catalog, partner as $$
begin
    update partner.credential c set secret = null, revoked_by = p_by, revoked_at = p_at
        where c.tenant = p_tenant and c.key_id = p_key_id and c.revoked_at is null;
    return query select * from partner.credential c where c.tenant = p_tenant and c.key_id = p_key_id;
end
$$;

-- Whether the nonce was not used before; it is from now on. Every call sweeps up a few that nobody can use any more, so that
-- the table stays as large as what was signed within the last minutes.
create function partner.take_nonce(p_key_id text, p_nonce text, p_expires_at timestamptz, p_now timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, partner as $$
declare
    fresh boolean;
begin
    insert into partner.nonce values (p_key_id, p_nonce, p_expires_at) on conflict (key_id, nonce) do nothing;
    fresh := found;
    delete from partner.nonce n where n.ctid in (
        select o.ctid from partner.nonce o where o.expires_at < p_now order by o.expires_at limit 4 for update skip locked
    );
    return fresh;
end
$$;

revoke all on all functions in schema partner from public;
grant execute on all functions in schema partner to smartpos_app;
