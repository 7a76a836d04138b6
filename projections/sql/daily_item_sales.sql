create table daily_item_sales (
    key                     text   primary key,
    tenant                  uuid   not null,
    store_id                text   not null,
    business_date           date   not null,
    currency                text   not null,
    item_code               text   not null,
    name                    text   not null,
    quantity_milli          bigint not null,
    gross                   bigint not null,
    discount                bigint not null,
    tax                     bigint not null,
    total                   bigint not null,
    refunded_quantity_milli bigint not null,
    refunded                bigint not null,
    updated_pos             bigint not null
) with (fillfactor = 50);
create index on daily_item_sales (tenant, business_date);
create index on daily_item_sales (store_id, business_date);
