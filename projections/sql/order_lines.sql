create table order_lines (
    key              text    primary key,
    tenant           uuid    not null,
    store_id         text    not null,
    order_id         text    not null,
    line_id          text    not null,
    position         integer not null,
    item_code        text    not null,
    name             text    not null,
    quantity_milli   bigint  not null,
    unit_price       bigint  not null,
    price_base_milli bigint  not null,
    tax_class        text    not null,
    discount         jsonb,
    voided           boolean not null,
    updated_pos      bigint  not null
);
create index on order_lines (order_id, position);
