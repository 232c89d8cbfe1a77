// graphile-worker as its documentation says for high throughput: a local queue, jobs completed in batches.
import { Logger, run, runMigrations } from 'graphile-worker';
import { pool } from './sender.mjs';

const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});

export const install = () => runMigrations({ pgPool: pool, logger });

// A job waits for the commit of its result, so more of them than requests are under way.
export const work = (send, inFlight) =>
  run({
    pgPool: pool,
    logger,
    noHandleSignals: true,
    parsedCronItems: [],
    taskList: { send: (message, { job }) => send(message, { again: job.attempts > 1 }) },
    preset: { worker: { concurrentJobs: 2 * inFlight, localQueue: { size: 4 * inFlight }, completeJobBatchDelay: 50, failJobBatchDelay: 50 } },
  });
