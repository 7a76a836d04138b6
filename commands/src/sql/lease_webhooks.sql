-- $1 now  $2 lease in seconds  $3 most under way of one endpoint  $4 how many  $5 most under way of one merchant. A lease that ran out is
-- taken over. Every merchant's first ones go before any merchant's second ones.
update process.webhook_delivery d set leased_until = $1 + $2 * interval '1 second'
from (
    select ranked.endpoint, ranked.event, ranked.failing_since
    from (
        select due.endpoint, due.event, c.failing_since, c.held_of_tenant,
            row_number() over (partition by c.tenant order by due.due_at, due.pos) as place
        from (
            select w.endpoint, w.tenant, w.failing_since, w.paused_until, held.count as held,
                sum(held.count) over (partition by w.tenant) as held_of_tenant
            from process.webhook_cursor w
            cross join lateral (
                select count(*) from process.webhook_delivery b
                where b.endpoint = w.endpoint and b.due_at is not null and b.leased_until >= $1
            ) held
        ) c
        cross join lateral (
            select w.endpoint, w.event, w.due_at, w.pos from process.webhook_delivery w
            where w.endpoint = c.endpoint and w.due_at <= $1 and (w.leased_until is null or w.leased_until < $1)
            order by w.due_at, w.pos
            limit greatest(0, $3 - c.held)
            for update skip locked
        ) due
        where c.paused_until is null or c.paused_until <= $1
    ) ranked
    where ranked.place <= $5 - ranked.held_of_tenant
    order by ranked.place
    limit $4
) due
where d.endpoint = due.endpoint and d.event = due.event
returning d.endpoint, d.event, d.pos, d.tenant, d.attempts, d.tries, due.failing_since
