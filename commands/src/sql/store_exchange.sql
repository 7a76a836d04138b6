-- Of each exchange: $1 tenants  $2 subjects  $3 providers  $4 operations  $5 request lines  $6 request bodies  $7 statuses
-- $8 response bodies  $9 sent at  $10 milliseconds  $11 whether an earlier try may have kept it although that was not heard of
insert into gateway.exchange
    (tenant, subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms)
select told.tenant, told.subject, told.provider, told.operation, told.request_line, told.request_body, told.status, told.response_body,
       told.sent_at, told.took_ms
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
            $9::timestamptz[], $10::bigint[], $11::boolean[])
    as told (tenant, subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms, again)
where not told.again or not exists (
    select from gateway.exchange kept
    where kept.tenant = told.tenant and kept.subject = told.subject and kept.operation = told.operation and kept.sent_at = told.sent_at
)
