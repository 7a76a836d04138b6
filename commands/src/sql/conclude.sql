-- Tasks are done with, and what came of the call-backs that they looked into.
-- $1 keys of tasks that go
-- tasks in place of others: $2 keys  $3 tenants  $4 tasks  $5 due at
-- call-backs: $6 ids  $7 tenants  $8 whether the provider's books show what they spoke of
with gone as (
    delete from process.task where key = any($1)
), next as (
    update process.task t set tenant = n.tenant, task = n.task, due_at = n.due_at, leased_until = null
    from unnest($2::text[], $3::uuid[], $4::jsonb[], $5::timestamptz[]) n (key, tenant, task, due_at) where t.key = n.key
)
update process.webhook w
set state = case when s.confirmed then 'done' else 'unconfirmed' end, tenant = coalesce(w.tenant, s.tenant)
from unnest($6::uuid[], $7::uuid[], $8::boolean[]) s (id, tenant, confirmed) where w.id = s.id and w.state = 'received'
