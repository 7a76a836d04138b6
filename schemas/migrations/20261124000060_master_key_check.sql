-- Which master key wraps the keys of persons: a tag that only this key gives and that says nothing about it. Two processes with
-- different keys could not open each other's profiles; the second one is refused before it writes any.
create table privacy.master_check (
    one boolean primary key default true check (one),
    tag bytea   not null check (octet_length(tag) = 32)
);

create function privacy.refuse_master_change() returns trigger language plpgsql as $$
begin
    raise exception 'the tag of the master key is set once: % is refused', tg_op using errcode = 'restrict_violation';
end
$$;
create trigger master_check_append_only before update or delete on privacy.master_check
    for each row execute function privacy.refuse_master_change();
create trigger master_check_no_truncate before truncate on privacy.master_check
    for each statement execute function privacy.refuse_master_change();

-- Whether p_tag is the tag of this database's master key; it becomes it if there is none yet.
create function privacy.check_master(p_tag bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, privacy as $$
begin
    insert into privacy.master_check (tag) values (p_tag) on conflict (one) do nothing;
    -- A statement of its own: it sees the row of whoever was faster.
    return (select m.tag = p_tag from privacy.master_check m);
end
$$;

revoke all on function privacy.refuse_master_change, privacy.check_master from public;
grant execute on function privacy.check_master to smartpos_app, smartpos_worker;
