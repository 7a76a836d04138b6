-- Which version of a projection the views in schema `read` name. Called by set-up, by a rebuild, and by the projector of a new
-- version once that has come as far as the one in service; views belong to the owner, so the worker needs this function.

-- The schema whose table a view in `read` shows; null: no such view.
create function read.serving(p_table text) returns text
language sql stable security definer set search_path = pg_catalog as $$
    select n.nspname::text
    from pg_rewrite r
    join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
    join pg_class c on c.oid = d.refobjid and c.relkind in ('r', 'p')
    join pg_namespace n on n.oid = c.relnamespace
    where r.ev_class = to_regclass(format('read.%I', p_table))
    limit 1
$$;

-- Points the views of these tables at a version, unless a newer one is in service or this one has not come as far as the one that
-- is; says whether they name it now. p_anew: the views are made again though they name it, because another copy took its place.
-- A view cannot be replaced while a long read holds it: after two seconds that is an error (55P03), and the caller comes again.
create function read.serve(p_name text, p_version integer, p_tables text[], p_anew boolean) returns boolean
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
        execute format('grant select on read.%I to smartpos_app, smartpos_worker', name);
    end loop;
    return true;
end
$$;

revoke all on function read.serving, read.serve from public;
grant execute on function read.serving, read.serve to smartpos_worker;
