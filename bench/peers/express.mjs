// The webhook of a Node team: Express, the SDK's validateRequest, the status stored with pg. A process for each
// processor: node express.mjs PORT PROCESSES, with the URL that Twilio signs and the account's TOKEN in the environment.
import cluster from 'node:cluster';
import express from 'express';
import pg from 'pg';
import twilio from 'twilio';

const [port, processes] = process.argv.slice(2).map(Number);
const { TOKEN, WEBHOOK_URL } = process.env;

function serve() {
  const pool = new pg.Pool({ max: 8 });
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.post('/', express.urlencoded({ extended: false }), async (request, response) => {
    if (!twilio.validateRequest(TOKEN, request.get('X-Twilio-Signature'), WEBHOOK_URL, request.body)) {
      response.sendStatus(403);
      return;
    }
    // A late callback does not lower a status.
    await pool.query({
      name: 'store',
      text: `UPDATE messages SET status = $2, updated_at = now() WHERE sid = $1
             AND array_position($3, status) < array_position($3, $2)`,
      values: [request.body.MessageSid, request.body.MessageStatus, ['queued', 'sending', 'sent', 'delivered']],
    });
    response.type('text/xml').send('<Response/>');
  });
  app.listen(port, '127.0.0.1');
}

if (cluster.isPrimary) for (let i = 0; i < processes; i += 1) cluster.fork();
else serve();
