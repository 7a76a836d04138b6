insert into gateway.exchange
    (tenant, subject, provider, operation, request_line, request_body, status, response_body, sent_at, took_ms)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
