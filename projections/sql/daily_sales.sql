create table daily_sales (
    key                      text   primary key,
    tenant                   uuid   not null,
    store_id                 text   not null,
    business_date            date   not null,
    currency                 text   not null,
    bills_paid               bigint not null,
    gross                    bigint not null,
    discount                 bigint not null,
    service_charge           bigint not null,
    tax                      bigint not null,
    adjustment               bigint not null,
    total                    bigint not null,
    tips                     bigint not null,
    written_off_count        bigint not null,
    written_off              bigint not null,
    refunds_count            bigint not null,
    refunds_amount           bigint not null,
    refunds_tax              bigint not null,
    refunds_tips             bigint not null,
    net                      bigint not null,
    ledger_adjustments_count bigint not null,
    ledger_adjustments       bigint not null,
    updated_pos              bigint not null
) with (fillfactor = 50);
create index on daily_sales (tenant, business_date);
create index on daily_sales (store_id, business_date);
