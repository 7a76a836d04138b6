-- Reads as of an earlier moment. Which tenants may be asked for comes from the caller's token, never from input.

-- Events up to a position of these tenants' streams of these kinds, in no order. The heads name the streams, and each
-- partition finds a stream's events by its index: other tenants' events are not touched, and appends pay for no index more.
create function log.tenant_events(p_tenant uuid[], p_type text[], p_until bigint) returns setof log.event
language sql stable security definer set search_path = pg_catalog, log set enable_seqscan = off
as $$
    select e.*
    from log.stream_head h
    cross join lateral (
        select * from log.event e
        where e.stream_id = h.stream_id and e.tenant = h.tenant and e.stream_type = h.stream_type and e.pos <= p_until
        offset 0   -- stream by stream, whatever the statistics say
    ) e
    where h.tenant = any(p_tenant) and h.stream_type = any(p_type)
$$;

-- The last position recorded at or before a time; null for a time that has not come. `recorded_at` never decreases along
-- the commits, so halving finds the place with as many probes of their primary key as the head has bits.
create function log.position_at(p_at timestamptz) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, log as $$
declare
    low    bigint := 0;   -- recorded at or before the time
    high   bigint;        -- nothing beyond it was
    middle log.commit;
begin
    if p_at > clock_timestamp() then
        return null;
    end if;
    select h.pos into high from log.head h where h.id = 1;
    while low < high loop
        select * into middle from log.commit c where c.first_pos <= (low + high + 1) / 2 order by c.first_pos desc limit 1;
        if middle.recorded_at <= p_at then
            low := middle.last_pos;
        else
            high := middle.first_pos - 1;
        end if;
    end loop;
    return low;
end
$$;

-- These tenants' streams that are halted in a projection, and from which position on.
create function read.halted(p_name text, p_version integer, p_tenant uuid[])
returns table (tenant uuid, stream_type text, stream_id uuid, pos bigint)
language sql stable security definer set search_path = pg_catalog, read as $$
    select q.tenant, q.stream_type, q.stream_id, q.pos from read.quarantine q
    where q.name = p_name and q.version = p_version and q.tenant = any(p_tenant)
$$;

revoke all on function log.tenant_events, log.position_at, read.halted from public;
grant execute on function log.tenant_events, log.position_at, read.halted to smartpos_app, smartpos_worker;
