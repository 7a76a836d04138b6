-- Keys of persons. Personal data is stored only as ciphertext under its subject's key, so that destroying one key here makes a
-- person unreadable in every copy of the log, and the log keeps its hashes. Keys are wrapped by a master key that is not in
-- the database.
create schema privacy;
grant usage on schema privacy to smartpos_app, smartpos_worker;

create table privacy.subject_key (
    tenant  uuid  not null,
    subject uuid  not null,
    wrapped bytea,           -- null: destroyed, for ever
    primary key (tenant, subject)
-- What an update leaves behind is swept up at the next turn, not when enough of it has gathered.
) with (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);

create function privacy.guard_keys() returns trigger language plpgsql as $$
begin
    -- The one change that is allowed: a key goes.
    if tg_op = 'UPDATE' and old.wrapped is not null and new.wrapped is null
        and new.tenant = old.tenant and new.subject = old.subject then
        return new;
    end if;
    raise exception 'keys of persons are only ever added or destroyed: % is refused', tg_op using errcode = 'restrict_violation';
end
$$;
create trigger subject_key_guard before update or delete on privacy.subject_key
    for each row execute function privacy.guard_keys();
create trigger subject_key_no_truncate before truncate on privacy.subject_key
    for each statement execute function privacy.guard_keys();

-- The key of a subject; p_wrapped becomes it if there is none yet. Null: it was destroyed.
create function privacy.take_key(p_tenant uuid, p_subject uuid, p_wrapped bytea) returns bytea
language plpgsql security definer set search_path = pg_catalog, privacy as $$
begin
    insert into privacy.subject_key values (p_tenant, p_subject, p_wrapped) on conflict (tenant, subject) do nothing;
    -- A statement of its own: it sees the row of whoever was faster.
    return (select k.wrapped from privacy.subject_key k where k.tenant = p_tenant and k.subject = p_subject);
end
$$;

-- The keys of subjects that still have one.
create function privacy.find_keys(p_tenant uuid, p_subjects uuid[]) returns table (subject uuid, wrapped bytea)
language sql stable security definer set search_path = pg_catalog, privacy as $$
    select k.subject, k.wrapped from privacy.subject_key k
    where k.tenant = p_tenant and k.subject = any(p_subjects) and k.wrapped is not null
$$;

-- The key dies in the transaction that stores the fact: neither exists without the other. A tombstone is left even where no key
-- was ever taken, so that none can be taken afterwards.
create function privacy.forget_subject() returns trigger language plpgsql security definer set search_path = pg_catalog, privacy as $$
begin
    insert into privacy.subject_key values (new.tenant, new.stream_id, null)
        on conflict (tenant, subject) do update set wrapped = null where privacy.subject_key.wrapped is not null;
    return null;
end
$$;
create trigger event_erases_subject after insert on log.event
    for each row when (new.type = 'customer.erased') execute function privacy.forget_subject();

revoke all on all functions in schema privacy from public;
grant execute on function privacy.take_key, privacy.find_keys to smartpos_app, smartpos_worker;
