-- $1 now  $2 after which place  $3 how many are looked at. Each is a probe or two by index, however many payments there are.
with looked as (
    select w.id, w.place, w.account, w.reference, w.provider_id from process.webhook w
    where w.state = 'parked' and w.place > $2
    order by w.place limit $3
), known as (
    select l.id from looked l
    cross join lateral (
        select from process.provider_reference r
        where r.provider = l.account
          -- As the worker looks for it: the log may have told the provider's name though nobody kept it beside.
          and r.reference in (coalesce(l.reference, l.provider_id), (select o.reference from process.provider_object o
                                                                     where o.account = l.account and o.provider_id = l.provider_id))
        limit 1
    ) r
), reopened as (
    update process.webhook w set state = 'received' from known where w.id = known.id and w.state = 'parked'
    returning w.id, w.tenant, w.account, coalesce(w.reference, w.provider_id) as name, w.transaction_id
), scheduled as (
    insert into process.task (key, tenant, task, due_at)
    select 'webhook:' || id, coalesce(tenant, '00000000-0000-0000-0000-000000000000'),
           jsonb_build_object('kind', 'follow_hint', 'provider', account, 'reference', name, 'transaction_id', transaction_id, 'tried', 0), $1
    from reopened
    on conflict (key) do nothing
)
select (select count(*) from reopened) as reopened, (select count(*) from looked) as looked, (select max(place) from looked) as last
