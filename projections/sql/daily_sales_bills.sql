-- What bills will count for, and what refunds of them mean; the lines are dropped once counted.
create table daily_sales_bills (
    key            text    primary key,
    tenant         uuid    not null,
    store_id       text    not null,
    business_date  date    not null,
    currency       text    not null,
    subtotal       bigint  not null,
    discount       bigint  not null,
    service_charge bigint  not null,
    tax            bigint  not null,
    adjustment     bigint  not null,
    total          bigint  not null,
    lines          jsonb   not null,
    parked         bigint  not null,
    refunded_early bigint  not null,
    counted        boolean not null
) with (fillfactor = 80);
