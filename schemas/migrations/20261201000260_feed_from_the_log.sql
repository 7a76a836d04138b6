-- The event feed is read from the log itself, and no longer copied into a read model.

-- Appends wait for the index to be made, some seconds for each five million events, and whoever waits for more than its fifteen seconds is
-- refused and has to repeat. Whoever gets no lock within this time gives up, changes nothing, and is to be repeated; so what waits for readers
-- comes first.
set local lock_timeout = '5s';

-- Of each event of a commit, in order, the first eight bytes of its hash: which event was replaced together with its hash is told by it. No
-- hash covers it; it is there to say where, not whether. Commits of before have none.
alter table log.commit add column marks bytea;
-- Random bytes: not to be compressed.
alter table log.commit alter column marks set storage external, alter column marks set statistics 0;

-- The copy of before. The projection that wrote it keeps webhook endpoints, as they were.
drop view if exists read.events;
drop table if exists events_v1.events;

-- A merchant's events in order. New partitions get it with the rest of what the log has.
create index event_of_tenant on log.event (tenant, pos);

create or replace function log.append(
    p_root         bytea,
    s_tenant       uuid[],
    s_type         text[],
    s_id           uuid[],
    s_expected     bigint[],
    s_next         bigint[],
    k_tenant       uuid[],
    k_scope        text[],
    k_key          text[],
    k_hash         bytea[],
    k_fingerprint  bytea[],
    k_first        integer[],
    k_last         integer[],
    k_response     bytea[],
    e_tenant       uuid[],
    e_stream_type  text[],
    e_stream_id    uuid[],
    e_version      bigint[],
    e_type         text[],
    e_schema       smallint[],
    e_slice        smallint[],
    e_occurred_us  bigint[],
    e_correlation  uuid[],
    e_causation    uuid[],
    e_actor        text[],
    e_meta         bytea[],
    e_payload      bytea[],
    e_pii          bytea[],
    e_hash         bytea[]
) returns table (
    kind smallint, idx integer, first_pos bigint, last_pos bigint, version bigint, request_hash bytea, fingerprint bytea, response bytea,
    recorded_at timestamptz, before bytea, hash bytea
)
language plpgsql security definer
set search_path = pg_catalog, log
-- One index probe per element, whatever the statistics say: a hash or merge plan would read the whole table.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
-- Planned once for each connection, for any arguments.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    head     log.head;
    n        integer := coalesce(array_length(e_hash, 1), 0);
    refused  boolean := false;
    now_us   bigint;
    stamp    timestamptz;
    new_hash bytea;
begin
    -- A statement of its own, so that every statement below sees what the previous holder committed.
    select * into head from log.head h where h.id = 1 for update;

    return query
        select 1::smallint, s.ord::integer, null::bigint, null::bigint, coalesce(h.version, 0), null::bytea, null::bytea, null::bytea,
               null::timestamptz, null::bytea, null::bytea
        from unnest(s_tenant, s_type, s_id, s_expected) with ordinality as s (tenant, stream_type, stream_id, expected, ord)
        left join log.stream_head h
            on h.tenant = s.tenant and h.stream_type = s.stream_type and h.stream_id = s.stream_id
        where coalesce(h.version, 0) <> s.expected;
    refused := found;
    if array_length(k_key, 1) > 0 then
        return query
            select 2::smallint, k.ord::integer, a.first_pos, a.last_pos, null::bigint, a.request_hash, a.fingerprint, a.response,
                   null::timestamptz, null::bytea, null::bytea
            from unnest(k_tenant, k_scope, k_key) with ordinality as k (tenant, scope, key, ord)
            join log.append_key a on a.tenant = k.tenant and a.scope = k.scope and a.key = k.key;
        refused := refused or found;
    end if;
    if refused then
        return;
    end if;

    stamp := greatest(clock_timestamp(), head.recorded_at);
    if n > 0 then
        while head.pos + n > head.partition_end loop
            perform log.add_partition();
            select h.partition_end into head.partition_end from log.head h where h.id = 1;
        end loop;
        insert into log.event
            select head.pos + e.ord, e.tenant, e.stream_type, e.stream_id, e.version, e.type, e.schema_version, e.slice,
                   timestamptz 'epoch' + e.occurred_us * interval '1 microsecond', stamp,
                   e.correlation, e.causation, e.actor, e.meta, e.payload, e.pii, e.hash
            from unnest(e_tenant, e_stream_type, e_stream_id, e_version, e_type, e_schema, e_slice, e_occurred_us,
                        e_correlation, e_causation, e_actor, e_meta, e_payload, e_pii, e_hash)
                 with ordinality as e (tenant, stream_type, stream_id, version, type, schema_version, slice, occurred_us,
                                       correlation, causation, actor, meta, payload, pii, hash, ord);
        insert into log.stream_head as h (tenant, stream_type, stream_id, version)
            select * from unnest(s_tenant, s_type, s_id, s_next) as s (tenant, stream_type, stream_id, version)
            on conflict (tenant, stream_type, stream_id) do update set version = excluded.version
            where h.version <> excluded.version;
        now_us := (extract(epoch from stamp) * 1000000)::bigint;
        new_hash := sha256(head.hash || int8send(head.pos + 1) || int8send(now_us) || p_root);
        insert into log.commit
            select head.pos + 1, head.pos + n, stamp, head.hash, new_hash, string_agg(substring(e.hash for 8), '' order by e.ord)
            from unnest(e_hash) with ordinality as e (hash, ord);
        update log.head h set pos = head.pos + n, hash = new_hash, recorded_at = stamp where h.id = 1;
    end if;
    if array_length(k_key, 1) > 0 then
        insert into log.append_key
            select k.tenant, k.scope, k.key, k.hash, k.fingerprint, head.pos + k.first, head.pos + k.last, k.response
            from unnest(k_tenant, k_scope, k_key, k_hash, k_fingerprint, k_first, k_last, k_response)
                 as k (tenant, scope, key, hash, fingerprint, first, last, response);
    end if;
    -- Without events there is no commit in the chain, and no hash of one.
    return query select 0::smallint, 0, head.pos + 1, head.pos + n, null::bigint, null::bytea, null::bytea, null::bytea,
        case when n > 0 then stamp end, case when n > 0 then head.hash end, new_hash;
end
$$;

-- Public events of a merchant after a position up to and including another, in order, at most so many, as far as the projection has come,
-- without those of streams that are halted in it. p_type: of things of these kinds; p_store: that concern this store.
create function read.public_events(
    p_name text, p_version integer, p_tenant uuid, p_type text[], p_store text, p_after bigint, p_until bigint, p_limit bigint
) returns setof log.event
language plpgsql stable security definer set search_path = pg_catalog
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
    reached bigint := coalesce((select c.pos from read.checkpoint c where c.name = p_name and c.version = p_version), 0);
begin
    return query select e.* from log.event e
        where e.tenant = p_tenant and e.pos > p_after and e.pos <= least(p_until, reached) and e.stream_type = any(p_type)
            -- As the meta data of an event is written.
            and (p_store is null or position(convert_to('"store":"' || p_store || '"', 'UTF8') in e.meta) > 0)
            and not exists (
                select from read.quarantine q
                where q.name = p_name and q.version = p_version and q.tenant = e.tenant and q.stream_type = e.stream_type
                    and q.stream_id = e.stream_id and q.pos <= e.pos
            )
        order by e.pos limit p_limit;
end
$$;
revoke all on function read.public_events from public;
grant execute on function read.public_events to smartpos_app, smartpos_worker;
