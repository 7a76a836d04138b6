-- Group role of auditors: reads what `replay` answers from, of every tenant, and writes nothing. Beside the log these are the read models
-- and what `explain` shows. No keys of persons, no credentials, no stored answers, no answers of merchants' endpoints: of a table that holds
-- such things only the columns that are asked for.
-- The role reads what is stored as it is stored: tokens of cards in payloads of events, and names and numbers of payers in the bodies of
-- call-backs (process.webhook.body) among it. It is `replay` that masks them, in what it prints; a login of this role can also ask by itself.

-- A policy takes a lock under which nobody reads the table, and all of them are kept to the end. Behind a query that takes long every other one
-- would wait for that: this gives up instead, changes nothing, and is to be repeated.
set local lock_timeout = '5s';

do $$
begin
    if not exists (select from pg_roles where rolname = 'smartpos_auditor') then
        create role smartpos_auditor nologin nosuperuser nobypassrls;
    end if;
exception when duplicate_object or unique_violation then
    null; -- another database of this cluster was migrated at the same moment
end
$$;

grant usage on schema log, read, process, gateway to smartpos_auditor;

grant select on log.head, log.event, log.commit, log.stream_head to smartpos_auditor;
grant select (tenant, scope, key, first_pos, last_pos) on log.append_key to smartpos_auditor;
grant execute on function log.head_pos, log.position_at, log.tenant_events to smartpos_auditor;

grant select on read.checkpoint, read.quarantine to smartpos_auditor;

grant select on gateway.exchange to smartpos_auditor;
create policy auditor_reads on gateway.exchange for select to smartpos_auditor using (true);
grant select (id, provider, account, state, signature, problem, received_at, reference, provider_id, body) on process.webhook
    to smartpos_auditor;
grant select (endpoint, tenant) on process.webhook_cursor to smartpos_auditor;
grant select (endpoint, event, event_type, pos, status) on process.webhook_delivery to smartpos_auditor;
grant select (endpoint, event, n, at, status, elapsed_ms, error) on process.webhook_attempt to smartpos_auditor;
create policy auditor on process.webhook_delivery for select to smartpos_auditor using (true);
create policy auditor on process.webhook_attempt for select to smartpos_auditor using (true);

-- Read models that exist: every version that readers reach, and the copies kept for a rollback. Those made later come with these rights.
do $$
declare
    place record;
begin
    for place in
        select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relrowsecurity and n.nspname ~ '_v[0-9]+(_[a-z]+)?$'
    loop
        execute format('grant usage on schema %I to smartpos_auditor', place.schema);
        execute format('grant select on %I.%I to smartpos_auditor', place.schema, place.name);
        execute format('create policy auditor on %I.%I for select to smartpos_auditor using (true)', place.schema, place.name);
    end loop;
    for place in select viewname as name from pg_views where schemaname = 'read' loop
        execute format('grant select on read.%I to smartpos_auditor', place.name);
    end loop;
end
$$;

-- As before; the views are the auditor's to read, too.
create or replace function read.serve(p_name text, p_version integer, p_tables text[], p_anew boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog set lock_timeout = '2s' as $$
declare
    wanted  text := p_name || '_v' || p_version;
    current text := read.serving(p_tables[1]);
    other   integer := substring(current from '_v([0-9]+)(_[a-z]+)?$')::integer;
    name    text;
begin
    if current = wanted and not p_anew then
        return true;
    end if;
    if other > p_version or exists (
        select from read.checkpoint mine, read.checkpoint theirs
        where mine.name = p_name and mine.version = p_version and theirs.name = p_name and theirs.version = other
            and other < p_version and mine.pos < theirs.pos
    ) then
        return false;
    end if;
    foreach name in array p_tables loop
        execute format('drop view if exists read.%I', name);
        -- The invoker's rights and policies count, not the view owner's.
        execute format('create view read.%I with (security_invoker = true) as select * from %I.%I', name, wanted, name);
        execute format('grant select on read.%I to smartpos_app, smartpos_worker, smartpos_auditor', name);
    end loop;
    return true;
end
$$;
