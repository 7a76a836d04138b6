create table daily_tender_sales (
    key             text   primary key,
    tenant          uuid   not null,
    store_id        text   not null,
    business_date   date   not null,
    currency        text   not null,
    tender          text   not null,
    acquirer        text,
    count           bigint not null,
    amount          bigint not null,
    cash_rounding   bigint not null,
    tips            bigint not null,
    refunds_count   bigint not null,
    refunds_amount  bigint not null,
    disputes_count  bigint not null,
    disputes_amount bigint not null,
    disputes_won_count   bigint not null,
    disputes_won_amount  bigint not null,
    disputes_lost_count  bigint not null,
    disputes_lost_amount bigint not null,
    updated_pos     bigint not null
) with (fillfactor = 50);
create index on daily_tender_sales (tenant, business_date);
create index on daily_tender_sales (store_id, business_date);
