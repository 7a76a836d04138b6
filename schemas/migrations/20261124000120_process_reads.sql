-- What is read again and again while the platform runs must not grow with what is stored.

-- Watches wait behind what somebody waits for at a counter. Each kind has an index of its own, so that a worker takes the first
-- due ones of a long queue without sorting it.
alter table process.task
    add column watch boolean not null generated always as (coalesce(task ->> 'kind' = 'inquire' and task ->> 'mode' = 'watch', false)) stored;
create index task_due_soon on process.task (due_at) where not watch;
create index task_due_watch on process.task (due_at) where watch;
drop index process.task_due;

-- Parked call-backs are looked at in turn.
create index webhook_waiting on process.webhook (place) where state = 'parked';
-- The few that are not done, among very many that are.
create index webhook_page_of_state on process.webhook (tenant, state, place);
