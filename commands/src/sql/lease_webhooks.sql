-- $1 now  $2 lease in seconds  $3 most under way of one endpoint  $4 how many. A lease that ran out is taken over.
update process.webhook_delivery d set leased_until = $1 + $2 * interval '1 second'
from (
    select due.endpoint, due.event, c.failing_since
    from process.webhook_cursor c
    cross join lateral (
        select w.endpoint, w.event from process.webhook_delivery w
        where w.endpoint = c.endpoint and w.due_at <= $1 and (w.leased_until is null or w.leased_until < $1)
        order by w.due_at, w.pos
        limit greatest(0, $3 - (
            select count(*) from process.webhook_delivery b
            where b.endpoint = c.endpoint and b.due_at is not null and b.leased_until >= $1
        ))
        for update skip locked
    ) due
    where c.paused_until is null or c.paused_until <= $1
    limit $4
) due
where d.endpoint = due.endpoint and d.event = due.event
returning d.endpoint, d.event, d.tenant, d.attempts, d.tries, due.failing_since
