-- $1 account  $2 our reference or the provider's own name. With the provider's name where it is known: by it the attempt is read,
-- without it the provider's lists are searched.
select r.tenant, r.attempt, o.provider_id from process.provider_reference r
left join process.provider_object o on o.account = r.provider and o.reference = r.attempt ->> 'reference'
where r.provider = $1
  and r.reference in ($2, (select o.reference from process.provider_object o where o.account = $1 and o.provider_id = $2))
limit 1
