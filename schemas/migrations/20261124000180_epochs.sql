-- An epoch never names two histories. A database that is restored a second time has the epoch of its backup again: the new one
-- begins beyond every epoch that the relay has seen on the bus.
drop function log.raise_epoch();

create function log.raise_epoch(p_beyond integer default 0) returns integer
language sql security definer set search_path = pg_catalog, log as $$
    update log.head set epoch = greatest(epoch, p_beyond) + 1 where id = 1 returning epoch
$$;

revoke all on function log.raise_epoch from public;
grant execute on function log.raise_epoch to smartpos_worker;
