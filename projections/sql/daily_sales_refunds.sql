-- What refunds count for, or counted for.
create table daily_sales_refunds (
    key           text    primary key,
    tenant        uuid    not null,
    store_id      text    not null,
    business_date date    not null,
    currency      text    not null,
    amount        bigint  not null,
    cash_rounding bigint  not null,
    tender        text    not null,
    acquirer      text,
    unlinked      boolean not null,
    breakdown     jsonb,
    counted       boolean not null,
    never_sold    boolean not null,
    recorded      jsonb
) with (fillfactor = 80);
