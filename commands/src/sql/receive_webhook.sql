-- $1 id  $2 provider  $3 delivery  $4 now  $5 headers  $6 body  $7 task key  $8 tenant (not known yet)  $9 task, nothing when it speaks of nothing of ours
-- One round trip: the delivery, and one task for it; a repeated delivery looks at the books once more.
with stored as (
    insert into process.webhook as w (id, provider, transaction_id, received_at, headers, body)
    values ($1, $2, $3, $4, $5, $6)
    on conflict (provider, transaction_id) do update set deliveries = w.deliveries + 1
    returning (xmax = 0) as fresh
), scheduled as (
    insert into process.task (key, tenant, task, due_at)
    select $7, $8, $9, $4 from stored where $9::jsonb is not null
    on conflict (key) do nothing
)
select fresh from stored
