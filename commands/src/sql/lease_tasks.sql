-- $1 now  $2 lease in seconds  $3 how many. A lease that ran out is taken over; two workers never hold one task.
with due as (
    select key, leased_until is not null as abandoned from process.task
    where due_at <= $1 and (leased_until is null or leased_until <= $1)
    -- What somebody waits for at a counter goes before the watches.
    order by (task ->> 'kind' = 'inquire' and task ->> 'mode' = 'watch'), due_at
    limit $3
    for update skip locked
)
update process.task as t set leased_until = $1 + $2 * interval '1 second'
from due where t.key = due.key
returning t.key, t.tenant, t.task, due.abandoned
