-- A merchant has so many credentials in force and no more; their list goes by pages and leaves none out.
drop function partner.add_credential(text, uuid, uuid, uuid, text, text, boolean, bytea, text, text, timestamptz);
drop function partner.list_credentials(uuid);
drop function partner.revoke_credential(uuid, text, text, timestamptz);
create index credential_made on partner.credential (tenant, created_at desc, key_id desc);

-- `made`; `before`: the request made a credential before; `full`: the merchant has p_most of them in force.
create function partner.add_credential(
    p_key_id text, p_tenant uuid, p_psp uuid, p_store uuid, p_role text, p_label text, p_nonce_only boolean, p_secret bytea,
    p_request text, p_by text, p_at timestamptz, p_most bigint
) returns text
language plpgsql security definer set search_path = pg_catalog, partner as $$
begin
    -- One at a time for a merchant, or two could both be the last one. The statements after it see what it waited for.
    perform pg_advisory_xact_lock(hashtextextended('partner.credential ' || p_tenant::text, 0));
    if exists (select from partner.credential c where c.tenant = p_tenant and c.request = p_request) then
        return 'before';
    end if;
    if (select count(*) from partner.credential c where c.tenant = p_tenant and c.revoked_at is null) >= p_most then
        return 'full';
    end if;
    insert into partner.credential (key_id, tenant, psp, store, role, label, nonce_only, secret, request, created_by, created_at)
        values (p_key_id, p_tenant, p_psp, p_store, p_role, p_label, p_nonce_only, p_secret, p_request, p_by, p_at);
    return 'made';
end
$$;

-- The credentials of one merchant, or of one of its stores, newest first: those made before the one named p_before.
create function partner.list_credentials(p_tenant uuid, p_store uuid, p_before text, p_limit bigint) returns setof partner.credential
language sql stable security definer set search_path = pg_catalog, partner as $$
    select c.* from partner.credential c
    where c.tenant = p_tenant and (p_store is null or c.store = p_store)
      and (p_before is null or (c.created_at, c.key_id) <
           (select b.created_at, b.key_id from partner.credential b where b.tenant = p_tenant and b.key_id = p_before))
    order by c.created_at desc, c.key_id desc
    limit p_limit
$$;

-- The credential with its secret destroyed; nothing when the merchant, or its store, has no such credential. Repeating changes nothing.
create function partner.revoke_credential(p_tenant uuid, p_store uuid, p_key_id text, p_by text, p_at timestamptz)
returns setof partner.credential
language plpgsql security definer set search_path = pg_catalog, partner as $$
begin
    update partner.credential c set secret = null, revoked_by = p_by, revoked_at = p_at
        where c.tenant = p_tenant and c.key_id = p_key_id and c.revoked_at is null and (p_store is null or c.store = p_store);
    return query select * from partner.credential c
        where c.tenant = p_tenant and c.key_id = p_key_id and (p_store is null or c.store = p_store);
end
$$;

revoke all on all functions in schema partner from public;
grant execute on all functions in schema partner to smartpos_app;

-- How many streams of a kind a tenant ever began, and how many of them ended with an event of this type.
create function log.streams_of(p_tenant uuid, p_stream_type text, p_last text) returns table (begun bigint, ended bigint)
language sql stable security definer set search_path = pg_catalog, log as $$
    select count(*), count(*) filter (where exists (
        select from log.event e
        where e.stream_id = h.stream_id and e.version = h.version and e.tenant = h.tenant and e.stream_type = h.stream_type and e.type = p_last
    ))
    from log.stream_head h
    where h.tenant = p_tenant and h.stream_type = p_stream_type
$$;
revoke all on function log.streams_of from public;
grant execute on function log.streams_of to smartpos_app;
