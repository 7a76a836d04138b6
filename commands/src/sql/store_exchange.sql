-- Of each exchange: $1 tenants  $2 subjects  $3 providers  $4 operations  $5 request lines  $6 request bodies  $7 statuses
-- $8 response bodies  $9 sent at  $10 milliseconds
insert into gateway.exchange
    (tenant, subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
                     $9::timestamptz[], $10::bigint[])
