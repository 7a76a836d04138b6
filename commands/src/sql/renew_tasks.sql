-- $1 keys  $2 now  $3 lease in seconds
with held as (
    select key from process.task
    -- What took the place of a task that was concluded at this moment is free: held on, it would pass for begun.
    where key = any($1) and leased_until is not null
    -- Whoever holds its lock is doing away with it or putting another in its place. Who waited for one row of many while holding others
    -- could wait for ever.
    for update skip locked
)
update process.task t set leased_until = $2 + $3 * interval '1 second' from held where t.key = held.key
