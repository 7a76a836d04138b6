-- $1 now  $2 lease in seconds  $3 how many. A lease that ran out is taken over; two workers never hold one task.
with soon as (
    select key, leased_until is not null as abandoned, task ->> 'kind' in ('start', 'capture', 'refund') as begins from process.task
    where not watch and due_at <= $1 and (leased_until is null or leased_until <= $1)
    order by due_at
    limit $3
    for update skip locked
),
-- What somebody waits for at a counter goes before the watches.
watches as (
    select key, leased_until is not null as abandoned, false as begins from process.task
    where watch and due_at <= $1 and (leased_until is null or leased_until <= $1)
    order by due_at
    limit $3 - (select count(*) from soon)
    for update skip locked
)
update process.task t set leased_until = $1 + $2 * interval '1 second'
-- A lease of a call that begins something waits for the disk, whatever the connection does otherwise: were it lost in a crash, the call
-- would be made again as if for the first time, and "this token was used" be believed.
from (select * from soon union all select * from watches) due,
    (select case when exists (select from soon where begins) then set_config('synchronous_commit', 'on', true) end) as waits
where t.key = due.key
returning t.key, t.tenant, t.task, due.abandoned
