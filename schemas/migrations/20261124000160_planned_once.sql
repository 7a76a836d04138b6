-- A function in the language sql is parsed and planned on every call. What a request calls is planned once for each connection
-- instead: in plpgsql, and for any arguments, or PostgreSQL plans anew whenever an array is short. Without sequential scans, since a
-- plan that was made while a table was small stays after it has grown.

alter function log.append set plan_cache_mode = force_generic_plan;
alter function process.take_webhook set plan_cache_mode = force_generic_plan;

create or replace function log.load_stream(p_tenant uuid, p_type text, p_id uuid, p_after bigint) returns setof log.event
language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return query select * from log.event e
        where e.stream_id = p_id and e.version > p_after and e.tenant = p_tenant and e.stream_type = p_type
        order by e.version;
end
$$;

create or replace function log.load_snapshot(p_tenant uuid, p_type text, p_id uuid, p_schema smallint)
returns table (version bigint, state bytea) language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return query select s.version, s.state from log.snapshot s
        where s.tenant = p_tenant and s.stream_type = p_type and s.stream_id = p_id and s.state_schema = p_schema;
end
$$;

create or replace function log.find_key(p_tenant uuid, p_scope text, p_key text) returns setof log.append_key
language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return query select * from log.append_key k where k.tenant = p_tenant and k.scope = p_scope and k.key = p_key;
end
$$;

create or replace function log.streams_stand_at(p_tenant uuid, p_type text[], p_id uuid[], p_version bigint[]) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return (
        select coalesce(bool_and(coalesce(h.version, 0) = s.version), true)
        from unnest(p_type, p_id, p_version) as s (stream_type, stream_id, version)
        left join log.stream_head h on h.tenant = p_tenant and h.stream_type = s.stream_type and h.stream_id = s.stream_id
    );
end
$$;

create or replace function log.provider_accounts(p_tenant uuid) returns table (stream_id uuid, version bigint)
language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return query select h.stream_id, h.version from log.stream_head h
        where h.tenant = p_tenant and h.stream_type = 'provider_account' order by h.stream_id;
end
$$;

create or replace function log.provider_account_owner(p_account uuid) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, log
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return (select h.tenant from log.stream_head h where h.stream_type = 'provider_account' and h.stream_id = p_account);
end
$$;

create or replace function partner.find_credential(p_key_id text) returns setof partner.credential
language plpgsql stable security definer set search_path = pg_catalog, partner
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
    return query select * from partner.credential c where c.key_id = p_key_id;
end
$$;
