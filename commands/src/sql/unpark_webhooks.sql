-- $1 now  $2 how many
with known as (
    select w.id
    from process.webhook w
    left join process.provider_object o on o.account = w.account and o.provider_id = w.provider_id
    join process.provider_reference r on r.provider = w.account and r.reference = coalesce(w.reference, o.reference)
    where w.state = 'parked'
    order by w.place limit $2
), reopened as (
    update process.webhook w set state = 'received' from known where w.id = known.id and w.state = 'parked'
    returning w.id, w.tenant, w.account, coalesce(w.reference, w.provider_id) as name, w.transaction_id
)
insert into process.task (key, tenant, task, due_at)
select 'webhook:' || id, coalesce(tenant, '00000000-0000-0000-0000-000000000000'),
       jsonb_build_object('kind', 'follow_hint', 'provider', account, 'reference', name, 'transaction_id', transaction_id, 'tried', 0), $1
from reopened
on conflict (key) do nothing
