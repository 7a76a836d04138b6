-- A log that lacks a commit says so when it is asked for a time, instead of being searched without end.

-- As before. Where the commit of a position is missing, halving came back to the one before it again and again; before the first one it
-- ended as if nothing had been recorded.
create or replace function log.position_at(p_at timestamptz) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, log as $$
declare
    low    bigint := 0;   -- recorded at or before the time
    high   bigint;        -- nothing beyond it was
    middle log.commit;
begin
    if p_at > clock_timestamp() then
        return null;
    end if;
    select h.pos into high from log.head h where h.id = 1;
    while low < high loop
        select * into middle from log.commit c where c.first_pos <= (low + high + 1) / 2 order by c.first_pos desc limit 1;
        if not found or middle.last_pos <= low then
            raise exception 'the log has no commit of position %', (low + high + 1) / 2 using errcode = 'data_corrupted';
        end if;
        if middle.recorded_at <= p_at then
            low := middle.last_pos;
        else
            high := middle.first_pos - 1;
        end if;
    end loop;
    return low;
end
$$;
