-- A version of a projection may have fewer tables than the one before it. The views of those that went would go on showing the old
-- version, which nobody folds any more: they go when the new version serves.

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
    for name in
        select c.relname from pg_class c
        where c.relnamespace = 'read'::regnamespace and c.relkind = 'v' and c.relname <> all (p_tables)
            and substring(read.serving(c.relname) from '^(.*)_v[0-9]+(?:_[a-z]+)?$') = p_name
    loop
        execute format('drop view read.%I', name);
    end loop;
    foreach name in array p_tables loop
        execute format('drop view if exists read.%I', name);
        -- The invoker's rights and policies count, not the view owner's.
        execute format('create view read.%I with (security_invoker = true) as select * from %I.%I', name, wanted, name);
        execute format('grant select on read.%I to smartpos_app, smartpos_worker, smartpos_auditor', name);
    end loop;
    return true;
end
$$;
