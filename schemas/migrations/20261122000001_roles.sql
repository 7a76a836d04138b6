-- Group roles. Login users are made members of them; no login user owns anything or bypasses row security.
--   smartpos_app    the HTTP edge: appends through one function, reads its tenant's rows
--   smartpos_worker relay, projectors, process managers, provider workers: read the whole log, write read models
do $$
declare
    wanted text;
begin
    foreach wanted in array array['smartpos_app', 'smartpos_worker'] loop
        begin
            if not exists (select from pg_roles where rolname = wanted) then
                execute format('create role %I nologin nosuperuser nobypassrls', wanted);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- another database of this cluster was migrated at the same moment
        end;
    end loop;
end
$$;
