// pg-boss with batches: several loops, so that one fetches while another waits for the last answers of its batch, and
// a loop that had a full batch fetches at once instead of waiting for the polling interval.
import PgBoss from 'pg-boss';

const LOOPS = 2;
const boss = new PgBoss({ max: 10, idleTimeoutMillis: 0, pollingIntervalSeconds: 0.5 });
boss.on('error', (error) => console.error(error.message));

export async function install() {
  await boss.start();
  await boss.createQueue('send');
  await boss.maintain(); // frees what a worker left behind that died
}

export async function work(send, inFlight) {
  const options = { batchSize: 4 * inFlight, includeMetadata: true };
  for (let loop = 0; loop < LOOPS; loop += 1) {
    const id = await boss.work('send', options, async (jobs) => {
      if (jobs.length === options.batchSize) boss.notifyWorker(id);
      await Promise.all(jobs.map((job) => send(job.data, { again: job.retryCount > 0 })));
    });
  }
}
