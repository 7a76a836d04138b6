create table bill_orders (
    key            text        primary key,
    tenant         uuid        not null,
    store_id       text        not null,
    bill_id        text        not null,
    order_id       text        not null
);
create index on bill_orders (order_id);
