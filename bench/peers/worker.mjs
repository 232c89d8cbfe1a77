// A process that sends messages from a queue, until it is killed: node worker.mjs graphile_worker|pg_boss IN_FLIGHT
// Its database is libpq's environment's; what is missing there is made.
import fs from 'node:fs';
import { pool, sender } from './sender.mjs';

const [name, inFlight] = process.argv.slice(2);
const queue = await import(`./${name}.mjs`);
const sql = (file) => pool.query(fs.readFileSync(new URL(file, import.meta.url), 'utf8'));

await queue.install();
await sql('messages.sql');
await sql(`${name}.sql`);
await queue.work(sender(Number(inFlight)), Number(inFlight));
