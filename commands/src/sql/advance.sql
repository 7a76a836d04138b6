-- Moves the checkpoint with all that belongs to it, or does nothing when it does not stand at $2. One statement, one round trip.
-- $1 name  $2 from  $3 to
-- tasks: $4 keys  $5 tenants  $6 tasks  $7 due at
-- references: $8 accounts  $9 names  $10 tenants  $11 attempts
-- stuck reactions: $12 positions  $13 places  $14 managers  $15 reasons
-- tasks: $16 leased until, null for those that are free  $17 whether a lease waits for the disk, as in lease_tasks.sql
-- $18 hash of the event at $3, where the log has to hold it: it may have been restored to the past since that was read
-- Gives the keys of the tasks that were left leased; null when the checkpoint stands elsewhere, or the log holds another event.
with moved as (
    update process.checkpoint set pos = $3
    where name = $1 and pos = $2 and ($18::bytea is null or exists (select from log.event e where e.pos = $3 and e.hash = $18))
    returning true as moved
), tasks as (
    insert into process.task (key, tenant, task, due_at, leased_until)
    select t.* from moved, unnest($4::text[], $5::uuid[], $6::jsonb[], $7::timestamptz[], $16::timestamptz[]) t
    on conflict (key) do nothing
    returning key, leased_until
), names as (
    insert into process.provider_reference (provider, reference, tenant, attempt)
    select n.* from moved, unnest($8::text[], $9::text[], $10::uuid[], $11::jsonb[]) n
    on conflict do nothing
), stuck as (
    insert into process.stuck (pos, n, manager, error)
    select s.* from moved, unnest($12::bigint[], $13::integer[], $14::text[], $15::text[]) s
    on conflict do nothing
)
select case when exists (select from moved) then array(select key from tasks where leased_until is not null order by key) end,
    case when $17 then set_config('synchronous_commit', 'on', true) end
