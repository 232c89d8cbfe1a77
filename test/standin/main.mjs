// Starts the stand-in for Twilio:
//   node test/standin/main.mjs --dir DIR [--port 0] [--control-port 0] [--http1] [--no-validate]
//                              [--callback-to host:port] [--served-name NAME] [--with-parent]
// When it is ready it writes DIR/standin.json and prints the same line: {"port","control","ca","pid"}.

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startStandin } from './standin.mjs';

const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    port: { type: 'string', default: '0' },
    'control-port': { type: 'string', default: '0' },
    http1: { type: 'boolean', default: false },
    'no-validate': { type: 'boolean', default: false },
    'callback-to': { type: 'string' },
    'served-name': { type: 'string' },
    'with-parent': { type: 'boolean', default: false },
  },
});
if (!values.dir) {
  console.error('standin: --dir is required');
  process.exit(2);
}

const dir = resolve(values.dir);
mkdirSync(dir, { recursive: true });
const standin = await startStandin({
  dir,
  port: Number(values.port),
  controlPort: Number(values['control-port']),
  http1Only: values.http1,
  validate: !values['no-validate'],
  callbackTo: values['callback-to'],
  servedName: values['served-name'],
});
const ready = JSON.stringify({ port: standin.port, control: standin.control, ca: standin.ca, pid: process.pid });
writeFileSync(join(dir, 'standin.json.new'), `${ready}\n`);
renameSync(join(dir, 'standin.json.new'), join(dir, 'standin.json'));
console.log(ready);

process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => process.exit(0));
if (values['with-parent']) {
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
  process.stdin.on('error', () => process.exit(0));
}
