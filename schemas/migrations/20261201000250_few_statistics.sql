-- Fewer statistics. Every table here grows for ever, so that each is analysed anew whenever a tenth was added, and by default that takes
-- 30,000 rows, documents and hashes among them, and a processor for up to a second, beside which requests wait. Plans here rest on keys and are
-- made once (ADR 17): 3,000 rows tell them enough, and nothing is ever planned by what stands in a document, a payload or a hash.

-- Nobody's reading or writing waits for this, but it waits for a vacuum by hand or for an index that is being made. Then it gives up, changes
-- nothing, and is to be repeated.
set local lock_timeout = '5s';

create function log.few_statistics(p_table regclass) returns void
language plpgsql set search_path = pg_catalog as $$
declare
    targets text;
begin
    select string_agg(format('alter column %I set statistics %s', attname,
                             case when atttypid in ('bytea'::regtype, 'jsonb'::regtype) then 0 else 10 end), ', ')
        into targets from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped;
    execute format('alter table %s %s', p_table, targets);
end
$$;
revoke all on function log.few_statistics from public;

-- As before, and the new partition has few statistics.
create or replace function log.add_partition() returns void language plpgsql security definer set search_path = pg_catalog, log as $$
declare
    lower_pos bigint;
    size      bigint;
    name      text;
begin
    select partition_end + 1, partition_size into lower_pos, size from log.head where id = 1 for update;
    name := 'event_' || lpad(lower_pos::text, 15, '0');
    -- Made beside the log, then attached: `partition of` would wait for every reader of the log, and all writers with it.
    execute format('create table log.%I (like log.event including all)', name);
    perform log.few_statistics(format('log.%I', name)::regclass);
    execute format('alter table log.event attach partition log.%I for values from (%s) to (%s)', name, lower_pos, lower_pos + size);
    -- The head lock already forbids a second (stream, version); this index says so once more and finds a stream's events.
    execute format('create unique index on log.%I (stream_id, version, tenant, stream_type)', name);
    execute format('create trigger event_no_truncate before truncate on log.%I for each statement execute function log.refuse_change()', name);
    execute format('grant select on log.%I to smartpos_worker', name);
    update log.head set partition_end = lower_pos + size - 1 where id = 1;
end
$$;

do $$
declare
    place record;
begin
    for place in
        select c.oid::regclass as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and (n.nspname in ('log', 'process', 'gateway', 'privacy', 'partner', 'read')
            or c.relrowsecurity and n.nspname ~ '_v[0-9]+(_[a-z]+)?$' and pg_has_role(c.relowner, 'usage'))
    loop
        perform log.few_statistics(place.name);
    end loop;
end
$$;
