-- $1 now  $2 lease in seconds  $3 how many. A lease that ran out is taken over; two workers never hold one task.
update process.task set leased_until = $1 + $2 * interval '1 second'
where key in (
    select key from process.task
    where due_at <= $1 and (leased_until is null or leased_until < $1)
    -- What somebody waits for at a counter goes before the watches.
    order by (task ->> 'kind' = 'inquire' and task ->> 'mode' = 'watch'), due_at
    limit $3
    for update skip locked
)
returning key, tenant, task
