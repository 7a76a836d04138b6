-- $1 account  $2 our reference or the provider's own name
select r.tenant, r.attempt from process.provider_reference r
where r.provider = $1
  and r.reference in ($2, (select o.reference from process.provider_object o where o.account = $1 and o.provider_id = $2))
