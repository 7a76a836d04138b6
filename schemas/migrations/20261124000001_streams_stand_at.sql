-- Whether all these streams have exactly these versions (0: none yet), in one snapshot: what an answer that appends nothing is
-- checked against, since no append will check it.
create function log.streams_stand_at(p_tenant uuid, p_type text[], p_id uuid[], p_version bigint[]) returns boolean
language sql stable security definer set search_path = pg_catalog, log set enable_seqscan = off as $$
    select coalesce(bool_and(coalesce(h.version, 0) = s.version), true)
    from unnest(p_type, p_id, p_version) as s (stream_type, stream_id, version)
    left join log.stream_head h
        on h.tenant = p_tenant and h.stream_type = s.stream_type and h.stream_id = s.stream_id
$$;

revoke all on function log.streams_stand_at from public;
grant execute on function log.streams_stand_at to smartpos_app, smartpos_worker;
